"""The study of all models, on a small made-up window."""

from __future__ import annotations

from pathlib import Path

from features.content.store import Widths
from freshrank.studies.zoo import table, zoo
from tests.trainer.run import make_job
from tests.trainer.windows import make_window


def test_models_are_trained_and_scored_once(tmp_path: Path) -> None:
    widths = Widths(text_tokens=16, text_width=6, image_width=8)
    made = make_window(tmp_path / "window", requests_a_day=40, days=3, items=30, candidates=5, widths=widths)
    jobs = [make_job(made, tmp_path, name, epochs=2, evaluations=1) for name in ("lr", "din")]
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
    assert table(rows).count("\n") == 3
