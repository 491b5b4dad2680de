"""Probes: a bundle goes live only if it scores, finitely, what the trainer scored."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from features.errors import DataError
from serving import probes
from serving.probes import probe
from serving.state import Version, VersionState
from tests.serving.bundles import names
from trainer.probes import read_probes
from trainer.runtime.scorer import Scorer

pytestmark = pytest.mark.slow

VERSION = Version("model", 1, VersionState.LOADED)


class Twisted:
    """A Triton that scores with the bundle's own weights and then changes a logit."""

    def __init__(self, bundle: Path, logit: float | None = None) -> None:
        self.scorer, self.logit = Scorer(bundle), logit

    def infer(self, _: str, __: int, inputs: Any, ___: Any) -> dict[str, Any]:
        scores = {name: np.array(values, dtype=np.float32) for name, values in self.scorer.score(inputs).items()}
        if self.logit is not None:
            scores["cvr_logit"][0] = self.logit
        return scores


@pytest.fixture
def bundle(bundles: Path, tmp_path: Path) -> Path:
    """A copy of a good bundle."""
    return Path(shutil.copytree(bundles / names(bundles)["one"], tmp_path / "bundle"))


def spoil(bundle: Path, logit: Any) -> None:
    """Give the first logit of the first stored probe another value."""
    table = pq.read_table(bundle / "probes.parquet")
    rows = table.to_pylist()
    rows[0]["cvr_logit"] = [logit, *rows[0]["cvr_logit"][1:]]
    pq.write_table(table.from_pylist(rows, schema=table.schema), bundle / "probes.parquet")


def test_a_good_bundle_scores_its_probes(bundle: Path) -> None:
    count, worst = probe(bundle, VERSION, Twisted(bundle))  # type: ignore[arg-type]
    assert count == 2 and worst <= 1e-6


@pytest.mark.parametrize("logit", [float("nan"), float("inf"), float("-inf")])
def test_a_served_score_that_is_not_finite_is_refused(bundle: Path, logit: float) -> None:
    with pytest.raises(DataError, match=r"not finite: served\.cvr_logit"):
        probe(bundle, VERSION, Twisted(bundle, logit))  # type: ignore[arg-type]


@pytest.mark.parametrize("logit", [float("nan"), float("inf"), None])
def test_a_probe_that_is_not_finite_is_refused_even_where_triton_scores_the_same(bundle: Path, logit: Any) -> None:
    spoil(bundle, logit)
    served = float("nan") if logit is None else logit
    with pytest.raises(DataError, match=r"not finite: probes\.cvr_logit"):
        probe(bundle, VERSION, Twisted(bundle, served))  # type: ignore[arg-type]


def test_probes_that_compare_nothing_are_refused(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = pq.read_table(bundle / "probes.parquet")
    pq.write_table(table.slice(0, 0), bundle / "probes.parquet")
    with pytest.raises(DataError, match="no probes"):
        probe(bundle, VERSION, Twisted(bundle))  # type: ignore[arg-type]
    pq.write_table(table, bundle / "probes.parquet")
    monkeypatch.setattr("trainer.probes.read_probes", lambda _: [({}, {})])
    monkeypatch.setattr(Twisted, "infer", lambda *_: {})
    with pytest.raises(DataError, match="not the trainer's"):
        probe(bundle, VERSION, Twisted(bundle))  # type: ignore[arg-type]
    monkeypatch.setattr("trainer.probes.read_probes", lambda _: [({}, {"cvr_logit": np.empty(0)})])
    with pytest.raises(DataError, match="has no scores"):
        probe(bundle, VERSION, Twisted(bundle))  # type: ignore[arg-type]


def test_a_score_that_is_off_by_more_than_the_tolerance_is_refused(bundle: Path) -> None:
    (_, logits), *_ = read_probes(bundle)
    off = float(logits["cvr_logit"][0]) + 2 * probes.TOLERANCE
    with pytest.raises(DataError, match="not the trainer's"):
        probe(bundle, VERSION, Twisted(bundle, off))  # type: ignore[arg-type]
