"""Windows as bad days leave them: each trains to the gate, or ends with one clear line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.configuration import read
from features.errors import DataError
from tests.trainer.run import make_job, one_worker
from tests.trainer.windows import Made, make_window
from trainer.bundle import make_bundle
from trainer.data.window import Window
from trainer.evaluate.figures import Figures
from trainer.evaluate.gate import blessed, judge
from trainer.evaluate.run import evaluate
from trainer.popularity import make_popularity
from trainer.result import Result
from trainer.settings import GateSettings
from trainer.train import train

pytestmark = pytest.mark.slow

Rows = list[dict[str, Any]]
LENIENT = read(
    GateSettings,
    {"min_requests": 1, "min_positives": 1, "max_auc_loss": 1.0, "over_popularity": -1.0, "bootstraps": 10}
    | {"max_calibration_error": 1e9, "max_log_loss_over_popularity": 1e9, "max_log_loss_rise": 1e9},
)


def edit(made: Made, change: Callable[[Rows, Path], Rows], parts: tuple[str, ...] = ("requests", "eval")) -> None:
    """Change the rows of a window's days."""
    for part in parts:
        for path in sorted((made.window / part).glob("*.parquet")):
            table = pq.read_table(path)
            pq.write_table(pa.Table.from_pylist(change(table.to_pylist(), path), table.schema), path)


def each(**columns: Any) -> Callable[[Rows, Path], Rows]:
    """Set columns, in lists every entry."""

    def change(rows: Rows, _: Path) -> Rows:
        for row in rows:
            row |= {name: [value] * len(row[name]) if isinstance(row[name], list) else value
                    for name, value in columns.items()}  # fmt: skip
        return rows

    return change


def only(number: int) -> Callable[[Rows, Path], Rows]:
    """So many requests in the window and as many on day D, all else gone."""

    def change(rows: Rows, path: Path) -> Rows:
        first = not any(path.parent.glob("*.seen"))
        path.with_suffix(".seen").touch()
        return rows[:number] if first else []

    return change


def nothing(_: Rows, __: Path) -> Rows:
    return []


def newest(change: Callable[[Rows, Path], Rows]) -> Callable[[Rows, Path], Rows]:
    """A change of the newest training day alone."""
    return lambda rows, path: change(rows, path) if path == max(path.parent.glob("*.parquet")) else rows


def made_of(root: Path) -> Made:
    return make_window(root, requests_a_day=12, days=3, items=20, candidates=4)


def once_round(made: Made, root: Path, **settings: Any) -> tuple[Result, Figures]:
    """Training, bundle, popularity and evaluation."""
    job = make_job(made, root, "lr", epochs=1, validations_per_epoch=2, **settings)
    with one_worker(root):
        result = train(job)
    bundles, window = root / "bundles", Window(made.window)
    candidate, popularity = make_bundle(job, bundles), make_popularity(window, bundles)
    roles = {"candidate": bundles / candidate, "popularity": bundles / popularity}
    return result, evaluate(window, window.evaluation, roles, None, "cvr", LENIENT)[0]


@pytest.mark.parametrize(
    ("change", "parts", "passes"),
    [
        (each(clicked=0, carted=0, purchased=0), ("requests",), True),
        (each(purchased=1), ("requests",), True),
        (each(purchased=1), ("requests", "eval"), False),
        (each(purchased=0), ("requests", "eval"), False),
        (nothing, ("eval",), False),
        (newest(nothing), ("requests",), True),
        (newest(each(mature=False)), ("requests",), True),
        (only(2), ("requests",), True),
    ],
    ids=["no positive", "no negative", "no negative, day D neither", "no positive, day D neither", "nothing on day D",
         "nothing on the newest day", "the newest day unripe", "two requests"],
)  # fmt: skip
def test_a_thin_window_goes_all_the_way(
    change: Callable[[Rows, Path], Rows], parts: tuple[str, ...], passes: bool, tmp_path: Path
) -> None:
    made = made_of(tmp_path)
    edit(made, change, parts)
    result, figures = once_round(made, tmp_path)
    assert result.steps > 0
    assert blessed(judge(figures, LENIENT)) is passes


def test_without_anything_held_out_the_newest_weights_are_the_result(tmp_path: Path) -> None:
    """Nothing held out is no number; it is not taken for one that is not finite either."""
    made = made_of(tmp_path)
    edit(made, newest(each(mature=False)), ("requests",))
    result, _ = once_round(made, tmp_path)
    assert result.step == result.steps and result.loss is None and result.auc is None
    assert all(one["loss"] is None for one in result.validations)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (each(mature=False), "36 requests in its training days, 0 of them mature'; .*labels.horizon_hours"),
        (only(1), "1 requests in its training days, 1 of them mature'; ingest and label more"),
        (nothing, "0 requests in its training days, 0 of them mature'; ingest and label more"),
    ],
    ids=["nothing mature", "one request", "no request"],
)
def test_a_window_with_nothing_to_train_on_says_so(
    change: Callable[[Rows, Path], Rows], says: str, tmp_path: Path
) -> None:
    made = made_of(tmp_path)
    edit(made, change)
    with pytest.raises(DataError, match=f"no request to train on: window = '.*{says}"):
        once_round(made, tmp_path)


def test_thinning_that_leaves_nothing_says_so(tmp_path: Path) -> None:
    made = made_of(tmp_path)
    edit(made, each(purchased=0))
    with pytest.raises(DataError, match=r"leaves no candidate to train on: train.negatives_kept = 1e-12"):
        once_round(made, tmp_path, negatives_kept=1e-12)
