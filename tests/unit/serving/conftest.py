"""Bundles made once for all tests of serving."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.serving.bundles import make_bundle, write_sums


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`one`, `two`; `other` of another schema; `wrong`, whose probes carry other scores; `broken`, without weights."""
    folder = tmp_path_factory.mktemp("bundles")
    make_bundle(folder, "one", seed=1, probes=2)
    make_bundle(folder, "two", seed=2, probes=2)
    make_bundle(folder, "other", seed=3, probes=2, user_field="u_income")
    wrong = make_bundle(folder, "wrong", seed=4, probes=2)
    rows = pq.read_table(wrong / "probes.parquet").to_pylist()
    rows[1]["cvr_logit"][0] += 0.001
    pq.write_table(pa.Table.from_pylist(rows), wrong / "probes.parquet")
    write_sums(wrong)
    broken = make_bundle(folder, "broken", seed=5, probes=2)
    recipe = json.loads((broken / "recipe.json").read_text())
    (broken / "recipe.json").write_text(json.dumps({**recipe, "width": 16}))
    write_sums(broken)
    return folder
