"""Finite or stopped: a NaN at the loss, a gradient, a table's row, an embedding, a token or a logit ends a training."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from features.errors import DataError, UsageError
from tests.trainer.run import make_job, one_worker
from tests.trainer.windows import Made, make_window, sha
from trainer.bundle import make_bundle
from trainer.checkpoints import Checkpoints, TrainingState, read_full
from trainer.data.stream import Step
from trainer.data.window import Window
from trainer.job import Job, prepare
from trainer.probes import choose, write_probes
from trainer.runtime.models.batch import Batch
from trainer.runtime.models.deepfm import DeepFM
from trainer.tokens import TokenStore
from trainer.train import Run, accept_best, train

pytestmark = pytest.mark.slow

AT = 5  # the batch that is harmed; the validation after batch 3 found a best checkpoint
NAN = math.nan


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A small window: seven batches of training."""
    return make_window(tmp_path_factory.mktemp("window"), requests_a_day=30, days=4, candidates=4)


def job_of(made: Made, folder: Path, model: str = "deepfm", recipe: dict[str, Any] | None = None, **more: Any) -> Job:
    small = {"width": 4, "hidden": [4]}
    settings = {"epochs": 1, "validations_per_epoch": 2, "checkpoint_batches": 2, **more}
    return make_job(made, folder, model, recipe or small, **settings)


def nth(patch: pytest.MonkeyPatch, change: Callable[[DeepFM, dict[str, Tensor]], dict[str, Tensor]]) -> None:
    """Change the losses of batch `AT`."""
    losses, calls = DeepFM.losses, [0]

    def changed(self: DeepFM, batch: Batch) -> dict[str, Tensor]:
        calls[0] += 1
        found = losses(self, batch)
        return change(self, found) if calls[0] == AT else found

    patch.setattr(DeepFM, "losses", changed)


def loss(patch: pytest.MonkeyPatch) -> None:
    nth(patch, lambda _, found: {name: one * NAN for name, one in found.items()})


def gradient(patch: pytest.MonkeyPatch) -> None:
    """The loss stays finite; the root's slope at zero is not."""
    nth(patch, lambda model, found: {**found, "more": (next(iter(model.deep.parameters())).sum() * 0).sqrt()})


def table(patch: pytest.MonkeyPatch) -> None:
    """A row turns NaN in the batch before a checkpoint, as a fused optimiser would leave it."""
    step = Run.step

    def poisoned(self: Run, batch: Step, state: TrainingState) -> None:
        step(self, batch, state)
        if state.step == AT + 1:
            (weight,) = (w for n, w in self.model.state_dict().items() if n.endswith("main__user_id.weight"))
            held = weight.local_shards()[0].tensor if hasattr(weight, "local_shards") else weight
            held[self.prepared.encoding.vocabularies["user_id"]["u7"], 1] = NAN

    patch.setattr(Run, "step", poisoned)


def embedding(patch: pytest.MonkeyPatch) -> None:
    """The same before a batch reads it: every request has a zone."""
    step = Run.step

    def poisoned(self: Run, batch: Step, state: TrainingState) -> None:
        if state.step == AT - 1:
            (weight,) = (w for n, w in self.model.state_dict().items() if n.endswith("main__ctx_zone.weight"))
            held = weight.local_shards()[0].tensor if hasattr(weight, "local_shards") else weight
            held[self.prepared.encoding.vocabularies["ctx_zone"]["z1"]] = math.inf
        step(self, batch, state)

    patch.setattr(Run, "step", poisoned)


def logit(patch: pytest.MonkeyPatch) -> None:
    """The second validation run meets it."""
    forward, validations = DeepFM.forward, [0]

    def changed(self: DeepFM, batch: Batch) -> dict[str, Tensor]:
        found = forward(self, batch)
        if self.training:
            validations[0] += 1
        elif validations[0] > 3:
            found["cvr"] = found["cvr"].index_fill(0, torch.tensor([2]), NAN)
        return found

    patch.setattr(DeepFM, "forward", changed)


@pytest.mark.parametrize(
    ("plant", "says", "one"),
    [
        (loss, r"the loss cvr is not finite: requests of batch 5 = \['r", False),
        (gradient, r"the gradient of deep\S+ is not finite: requests of batch 5 = \['r", False),
        (table, r"row \d+ of table user_id \('u7'\) is not finite: requests of batch 6 = \['r", False),
        (
            embedding,
            r"the loss cvr, for the embedding of ctx_zone 'z1', is not finite: requests of batch 5 = \['r",
            None,
        ),
        (
            logit,
            r"the logit cvr of held-out requests is not finite: requests of the validation after batch 6 = \['r",
            True,
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_number_that_is_not_finite_stops_training(
    plant: Callable[[pytest.MonkeyPatch], None], says: str, one: bool | None, made: Made, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """It says what, in which batch, of which requests; checkpoints stay finite and the best is the result on demand."""
    job = job_of(made, tmp_path)
    plant(monkeypatch)
    with one_worker(tmp_path), pytest.raises(DataError, match=says) as told:
        train(job)
    assert told.value.exit_code == 3 and "best checkpoint, of batch 3" in str(told.value)
    requests = told.value.value
    assert isinstance(requests, list) and len(set(requests)) == len(requests) <= 16
    assert one is None or (len(requests) == 1) == one
    assert not (job.folder / "done.json").exists()
    state = Checkpoints(job.folder).latest()
    assert state is not None and state.best_step == 3
    for step in (state.step, state.best_step):
        for name, value in read_full(Checkpoints(job.folder).path(step)).items():
            assert value.isfinite().all(), name

    monkeypatch.undo()
    result = accept_best(job)
    assert (
        result.step == 3
        and result.loss is not None
        and result.accepted.startswith(says.split("\\")[0].split(" is not")[0])
    )
    bundle = tmp_path / "bundles" / make_bundle(job, tmp_path / "bundles")
    info = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
    assert info["accepted"] == result.accepted
    assert accept_best(job) == result


def test_tokens_that_are_not_finite_stop_training(made: Made, tmp_path: Path) -> None:
    """The photo of one listing: the requests that show it, or have it in a history, are named, at every try."""
    tokens = tmp_path / "tokens" / made.tokens.name
    shutil.copytree(made.tokens, tokens)
    store = TokenStore(tokens)
    row = int(store.rows([sha("photo 5")])[0])
    file = np.memmap(tokens / "image_global.f16", "<f2", "r+")
    whole = file.reshape(-1, store.widths.image_width)
    whole[row] = NAN
    file.flush()
    recipe = {"width": 8, "title_filters": 2, "title_windows": [2], "hidden": [4], "history_items": 2}
    job = job_of(replace(made, tokens=tokens), tmp_path, "marn", recipe)
    for _ in range(2):
        with one_worker(tmp_path), pytest.raises(DataError, match=r"for the tokens of .*is not finite") as told:
            train(job)
    rows = [row for path in Window(made.window).training for row in pq.read_table(path).to_pylist()]
    having = {r["request_id"] for r in rows if "i5" in {*r["cand_item"], *r["buy_item"], *r["beh_item"]}}
    assert isinstance(told.value.value, list) and len(told.value.value) > 0 and having >= set(told.value.value)
    if "checkpoint" not in str(told.value):
        with pytest.raises(UsageError, match="no checkpoint to accept"):
            accept_best(job)


def test_nothing_to_accept(made: Made, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no checkpoint to accept"):
        accept_best(job_of(made, tmp_path))


def test_a_bundle_with_a_weight_that_is_not_finite_is_not_made(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither one whose probes come out so."""
    job = job_of(made, tmp_path)
    with one_worker(tmp_path):
        train(job)

    def harmed(path: Path) -> dict[str, Tensor]:
        full = read_full(path)
        next(value for name, value in full.items() if name.endswith("main__item_id.weight"))[2] = NAN
        return full

    with monkeypatch.context() as patch:
        patch.setattr("trainer.bundle.read_full", harmed)
        with pytest.raises(DataError, match=r"row 2 of table item_id .* is not finite"):
            make_bundle(job, tmp_path / "bundles")
    assert not (tmp_path / "bundles").exists()
    bundle = tmp_path / "bundles" / make_bundle(job, tmp_path / "bundles")
    probes = choose(Window(made.window), prepare(job).encoding)
    forward = DeepFM.forward
    monkeypatch.setattr(DeepFM, "forward", lambda self, batch: {"cvr": forward(self, batch)["cvr"] + math.inf})
    with pytest.raises(DataError, match="a score is not finite: probe = 'cvr_logit of probe 0'"):
        write_probes(bundle, probes)
