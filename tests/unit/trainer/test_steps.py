"""What one step of training does: how tables move, what the model is told of progress, what TensorBoard gets."""

from __future__ import annotations

import copy
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from tests.models.factory import RowWiseAdagrad
from tests.trainer.run import make_job, one_worker
from tests.trainer.windows import Made, make_window
from trainer.checkpoints import TrainingState
from trainer.data.stream import Position, Step, Stream
from trainer.data.window import Window
from trainer.embeddings.sharded import initial
from trainer.job import prepare
from trainer.progress import Progress
from trainer.runtime.lookup import Lookup
from trainer.runtime.models.batch import Batch
from trainer.train import Run, train
from trainer.trainee import Trainee, total
from trainer.validate import Validation

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A small window."""
    return make_window(tmp_path_factory.mktemp("window"), requests_a_day=20, days=3, candidates=5)


@pytest.mark.parametrize("start", [0.0, 0.1])
@pytest.mark.parametrize("exact", [True, False], ids=["exact", "row-wise"])
def test_tables_move_as_plain_adagrad_moves_them(exact: bool, start: float, made: Made, tmp_path: Path) -> None:
    """Three fused steps equal torch's Adagrad, or one with a sum a row, from the recipe's first sum at its rate.

    The width is no multiple of four, rows occur repeatedly in a batch, histories among them.
    """
    wish = {"table_exact": exact, "table_initial_accumulator": start, "table_lr": 0.07}
    job = make_job(made, tmp_path, "deepfm", {"width": 6, "hidden": [8], "dropout": 0.0, "optimizer": wish})
    with one_worker(tmp_path):
        run = Run(job, prepare(job))
        run.begin()
        schema, layout = run.prepared.encoding.schema, run.lookup.layout
        plain = Lookup(schema, type(run.ranker).spaces(schema, run.ranker.recipe))
        for t, weight in initial(layout, 0):
            with torch.no_grad():
                plain.weight(t.space, t.table).copy_(weight[:, : t.width])
        tables = [plain.weight(t.space, t.table) for t in layout]
        optimiser: torch.optim.Optimizer = (
            torch.optim.Adagrad(tables, lr=0.07, initial_accumulator_value=start, eps=1e-8)
            if exact
            else RowWiseAdagrad(tables, 0.07, start)
        )
        trainee = Trainee(plain, copy.deepcopy(run.ranker), schema, None)
        before = [weight.detach().clone() for weight in tables]
        for _, batch in zip(range(3), run.training.epoch(Position()), strict=False):
            for model in (run.model, trainee):
                torch.manual_seed(0)
                total(model(batch.encoded)).backward()
            optimiser.step()
            optimiser.zero_grad()
        found = {key: local(value) for key, value in run.model.state_dict().items()}
        for t, weight, old in zip(layout, tables, before, strict=True):
            (key,) = (k for k in found if k.endswith(f".{t.space}__{t.table}.weight"))
            torch.testing.assert_close(found[key][:, : t.width], weight.detach(), atol=1e-5, rtol=1e-5)
            assert not torch.equal(weight, old)


def local(value: Any) -> Tensor:
    """A tensor, or the only shard of one."""
    found: Tensor = value.local_shards()[0].tensor if hasattr(value, "local_shards") else value
    return found


def test_progress_rises_from_nothing_to_all(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model hears what share of all epochs is done before each batch, and so does the dense optimiser."""
    job = make_job(made, tmp_path, "lr", epochs=2, validations_per_epoch=1, patience=99)
    heard: list[float] = []
    rates: list[float] = []
    with one_worker(tmp_path):
        run = Run(job, prepare(job))
        state = run.begin()
        losses, step = run.ranker.losses, run.dense.step

        def hear(batch: Batch) -> dict[str, Tensor]:
            heard.append(batch.progress)
            return losses(batch)

        def move(progress: float) -> None:
            rates.append(progress)
            step(progress)

        monkeypatch.setattr(run.ranker, "losses", hear)
        monkeypatch.setattr(run.dense, "step", move)
        for epoch in range(2):
            for batch in run.training.epoch(Position(epoch, 0, 0)):
                run.step(batch, state)
    assert rates == heard
    assert 0.0 <= heard[0] < 0.2
    assert all(a < b for a, b in pairwise(heard))
    assert heard[-1] == 1.0
    assert len(heard) >= 4


def test_tensorboard_gets_the_use_of_experts(made: Made, tmp_path: Path) -> None:
    """CameNN's shares by task and expert sum to k; the losses are there too."""
    from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
        EventAccumulator,
    )

    recipe = {"width": 8, "heads": 2, "feed_forward": 8, "experts": 3, "top_k": 2, "history_items": 2}
    job = make_job(made, tmp_path, "camenn", recipe, epochs=1, validations_per_epoch=1)
    job = replace(job, log=str(tmp_path / "log"))
    with one_worker(tmp_path):
        result = train(job)
    board = EventAccumulator(str(tmp_path / "log" / job.id))
    board.Reload()
    tags = set(board.Tags()["scalars"])
    assert {"loss/cvr", "loss/ita", "loss/tia", "val/log_loss"} <= tags
    assert {f"expert_use/cvr/{expert}" for expert in range(3)} <= tags
    shares = [[event.value for event in board.Scalars(f"expert_use/cvr/{expert}")] for expert in range(3)]
    assert all(sum(step) == pytest.approx(2.0) for step in zip(*shares, strict=True))
    assert len(shares[0]) == result.steps


def test_what_is_held_out_is_never_trained_on(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training and validation share the mature requests out between them, validation's after the others in time."""
    job = make_job(made, tmp_path, "lr", epochs=1, validations_per_epoch=1)
    trained: list[str] = []
    validated: list[str] = []
    step = Run.step

    def counted(self: Run, batch: Step, state: TrainingState) -> None:
        trained.extend(batch.batch_ids)
        step(self, batch, state)

    def seen(_: Any, stream: Stream, __: str) -> Validation:
        validated.extend(name for batch in stream.epoch() for name in batch.batch_ids)
        return Validation(1.0, None)

    monkeypatch.setattr(Run, "step", counted)
    monkeypatch.setattr("trainer.train.validate", seen)
    with one_worker(tmp_path):
        train(job)
    rows = [row for path in Window(made.window).training for row in pq.read_table(path).to_pylist()]
    times = {row["request_id"]: row["event_time"] for row in rows if row["mature"]}
    held_out = set(validated)
    assert set(trained) | held_out == set(times) and not set(trained) & held_out
    assert max(times[name] for name in trained) < min(times[name] for name in held_out)
    whole = max(times.values()) - min(times.values())
    assert max(times.values()) - min(times[name] for name in held_out) <= whole / 10


def test_looks_without_gain_end_the_training(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After `train.patience` of them, with the best validation as the result."""
    losses = iter([0.5, 0.4, 0.41, 0.39, 0.42, 0.40, 0.43, 0.44])
    monkeypatch.setattr("trainer.train.validate", lambda *_: Validation(next(losses), 0.5))
    job = make_job(made, tmp_path, "lr", epochs=9, validations_per_epoch=1, patience=3)
    with one_worker(tmp_path):
        result = train(job)
    assert [one["loss"] for one in result.validations] == [0.5, 0.4, 0.41, 0.39, 0.42, 0.40, 0.43]
    assert result.loss == 0.39 and result.step == result.validations[3]["step"]
    assert result.steps == result.validations[-1]["step"] and result.epochs < 9


def test_where_nothing_is_held_out_the_newest_weights_are_the_result(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no patience runs out."""
    monkeypatch.setattr("trainer.train.validate", lambda *_: None)
    job = make_job(made, tmp_path, "lr", epochs=3, patience=1)
    with one_worker(tmp_path):
        result = train(job)
    assert result.epochs == 3 and result.step == result.steps
    assert {run["loss"] for run in result.validations} == {None}


def test_two_workers_of_unequal_shares_move_as_one(made: Made, tmp_path: Path) -> None:
    """Gradients are averaged over workers; weighed by their candidates they are those of the whole batch."""
    settings: dict[str, Any] = {"requests_per_batch": 5, "negatives_kept": 0.6}
    job = make_job(made, tmp_path, "deepfm", {"width": 4, "hidden": [4], "dropout": 0.0}, **settings)
    with one_worker(tmp_path):
        run = Run(job, prepare(job))
        part, encoding, items = run.training.part, run.prepared.encoding, run.prepared.items
        shares = [Stream(part, encoding, items, 5, rank=rank, workers=2) for rank in (0, 1)]
        batches = [next(stream.epoch(Position())) for stream in (run.training, *shares)]
        gradients: list[dict[str, Tensor]] = []
        run.dense.step = lambda _: gradients.append(  # type: ignore[method-assign, assignment, misc]
            {name: p.grad.clone() for name, p in run.dense.parameters.items() if p.grad is not None}
        )
        for batch in batches:
            run.dense.optimizer.zero_grad(set_to_none=True)
            run.step(batch, run.begin())
    whole, one, other = gradients
    assert batches[1].weight != pytest.approx(1.0) and batches[1].weight + batches[2].weight == pytest.approx(2.0)
    assert whole.keys() == one.keys() == other.keys() and len(whole) > 3
    for name, gradient in whole.items():
        torch.testing.assert_close((one[name] + other[name]) / 2, gradient, atol=1e-6, rtol=1e-4)


def test_progress_goes_on_where_a_training_was_interrupted(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says what share of all epochs is done, requests that thinning leaves empty among them, up to all."""
    monkeypatch.setattr(Progress, "every_s", 0.0)
    job = make_job(made, tmp_path, "lr", epochs=2, patience=99, negatives_kept=0.1, checkpoint_batches=1)
    step = Run.step

    def interrupted(self: Run, batch: Step, state: TrainingState) -> None:
        if state.position[0] == 1:
            raise KeyboardInterrupt
        step(self, batch, state)

    with monkeypatch.context() as patch, one_worker(tmp_path), pytest.raises(KeyboardInterrupt):
        patch.setattr(Run, "step", interrupted)
        train(job)
    before = shares(capsys)
    with one_worker(tmp_path):
        train(job)
    after = shares(capsys)
    assert before[-1] == 50 < after[0] and after[-1] == 100
    assert before + after == sorted({*before, *after})


def shares(capsys: pytest.CaptureFixture[str]) -> list[int]:
    """The percentages printed since the last call."""
    return [int(found) for found in re.findall(r"train: batch \d+, (\d+)%", capsys.readouterr().err)]
