"""What one step of training does: how tables move, what the model is told of progress, what TensorBoard gets."""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.models.factory import RowWiseAdagrad
from tests.trainer.run import make_job, one_worker
from tests.trainer.windows import Made, make_window
from trainer.data.stream import Position
from trainer.embeddings.sharded import initial
from trainer.job import prepare
from trainer.models.batch import Batch
from trainer.scoring.lookup import Lookup
from trainer.train import Run, train
from trainer.trainee import Trainee, total


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
                total(model(batch.encoded)).backward()  # type: ignore[no-untyped-call]
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
    job = make_job(made, tmp_path, "lr", epochs=2, evaluations=1, patience=99)
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
    job = make_job(made, tmp_path, "camenn", recipe, epochs=1, evaluations=1)
    job = replace(job, log=str(tmp_path / "log"))
    with one_worker(tmp_path):
        result = train(job)
    board = EventAccumulator(str(tmp_path / "log" / job.id))
    board.Reload()
    tags = set(board.Tags()["scalars"])
    assert {"loss/cvr", "loss/ita", "loss/tia", "held_out/loss"} <= tags
    assert {f"expert_use/cvr/{expert}" for expert in range(3)} <= tags
    shares = [[event.value for event in board.Scalars(f"expert_use/cvr/{expert}")] for expert in range(3)]
    assert all(sum(step) == pytest.approx(2.0) for step in zip(*shares, strict=True))
    assert len(shares[0]) == result.steps
