"""The study of all models, on a small made-up window."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from features.content.store import Widths
from freshrank.studies.zoo import measure, table, zoo
from tests.trainer.run import make_job
from tests.trainer.windows import Made, make_window

pytestmark = pytest.mark.slow


def test_models_are_trained_and_scored_once(tmp_path: Path) -> None:
    widths = Widths(text_tokens=16, text_width=6, image_width=8)
    made = make_window(tmp_path / "window", requests_a_day=40, days=3, items=30, candidates=5, widths=widths)
    jobs = [make_job(made, tmp_path, name, epochs=2, validations_per_epoch=1) for name in ("lr", "din")]
    lines: list[str] = []
    rows = zoo(jobs, tmp_path / "bundles", lines.append)
    assert [line.split(":")[0] for line in lines] == ["lr", "din"]
    assert sorted(row.model for row in rows) == ["din", "lr"]
    assert (rows[0].auc or 0) >= (rows[1].auc or 0)
    assert all(row.positives > 0 and row.batches > 0 and row.log_loss and row.log_loss < 1 for row in rows)
    by_name = {row.model: row for row in rows}
    assert by_name["din"].dense > by_name["lr"].dense > 0
    assert by_name["din"].tables > by_name["lr"].tables > 0
    assert zoo(jobs, tmp_path / "bundles", lines.append) == rows
    elsewhere = [replace(job, checkpoints=str(tmp_path / "again")) for job in jobs]
    again = zoo(elsewhere, tmp_path / "bundles", lines.append, workers=2)  # in processes of their own
    assert [(row.model, row.auc, row.log_loss) for row in again] == [(r.model, r.auc, r.log_loss) for r in rows]
    assert table(rows).count("\n") == 3


# one of every family, the slow ones narrower than their papers; each baseline of a family learns like its fellows here
FAMILIES: dict[str, dict[str, Any]] = {
    "camenn": {"width": 32, "heads": 4, "feed_forward": 64, "history_items": 3, "alignment_weight": 0.0},
    "fashionbert": {"width": 16, "heads": 2, "feed_forward": 16, "layers": 1},
    "marn": {},
    "lr": {},
    "ffm": {},
    "din": {},
    "dmf": {},
}


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A window large enough to learn taste, price and quality from in two epochs."""
    return make_window(tmp_path_factory.mktemp("city"), requests_a_day=120, days=4, items=40, candidates=6)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_fresh_day_is_told_better_than_by_a_constant(name: str, city: Made, tmp_path: Path) -> None:
    """On the day after training: less log loss than the day's own base rate has, and an AUC that is no chance."""
    files = sorted((city.window / "eval").glob("*.parquet"))
    bought = np.concatenate([x for f in files for x in pq.read_table(f)["purchased"].to_pylist()])
    rate, positives = float(bought.mean()), int(bought.sum())
    negatives = len(bought) - positives
    constant = -rate * math.log(rate) - (1 - rate) * math.log(1 - rate)
    chance = math.sqrt((len(bought) + 1) / (12 * positives * negatives))  # standard error of the AUC of chance
    row = measure(
        make_job(city, tmp_path, name, FAMILIES[name], epochs=2, validations_per_epoch=1), tmp_path / "bundles"
    )
    assert row.positives == positives
    assert row.log_loss is not None
    assert row.auc is not None
    assert row.log_loss < constant - 0.005
    assert row.auc > 0.5 + 3 * chance
