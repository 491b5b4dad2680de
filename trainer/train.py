"""Train a model on a window; `trainer.launch` starts it, or `torchrun -m trainer.train <job.json>`."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from torch import Tensor

from features.errors import DataError, FreshrankError, UsageError
from trainer.attempts import note_error, note_memory
from trainer.checkpoints import Checkpoints, TrainingState
from trainer.data.stream import Position, Step, Stream
from trainer.data.window import Window
from trainer.embeddings.sharded import (
    ShardedLookup,
    distribute,
    fill,
    initial,
    initial_accumulators,
    optimizer_state,
    table_name,
)
from trainer.embeddings.warm import carried
from trainer.finite import FILE as FAULT
from trainer.finite import Fault, first_of_all, gradient_fault, loss_fault, on_any_worker, weights_fault
from trainer.job import Job, Prepared, prepare
from trainer.optimizers import Dense
from trainer.progress import Progress
from trainer.result import Result
from trainer.runtime.content import ContentSource
from trainer.runtime.models.recipe import Optimizer
from trainer.runtime.models.registry import model_class
from trainer.schedule import EarlyStopping, progress
from trainer.tokens import TokenStore
from trainer.trainee import Trainee, total
from trainer.validate import validate


def train(job: Job) -> Result:
    """Train, or go on training, until early stopping or the last epoch.

    Every worker of the process group calls it. A finished training is not repeated.

    Args:
        job: What to train.

    Returns:
        How it ended; `done.json` in the job's folder says the same.

    Raises:
        DataError: If the window has nothing to train on, or a number is not finite; the checkpoints so far stay.
    """
    if Result.file(job.folder).exists():
        return Result.load(job.folder)
    settings, prepared = job.settings, prepare(job)
    (job.folder / FAULT).unlink(missing_ok=True)
    torch.set_num_threads(settings.threads)
    run = Run(job, prepared)
    state = run.resume() or run.begin()
    if prepared.plan.warm and not state.validations:  # the incumbent's own weights are the ones to beat
        run.validate(state)
        run.save(state)
    while state.position[0] < prepared.plan.epochs and not state.stopping.over:
        for batch in run.training.epoch(Position(*state.position)):
            run.step(batch, state)
            if run.due(state):
                run.validate(state)
            if state.step % settings.checkpoint_batches == 0 or run.due(state):
                run.save(state)
            if state.stopping.over:
                break
        else:
            state.position = (state.position[0] + 1, 0, 0)
            if not run.due(state):
                run.validate(state)
            run.save(state)
    if not state.step:
        raise DataError(
            "thinning leaves no candidate to train on",
            field="train.negatives_kept",
            value=prepared.plan.negatives_kept,
            remedy="thin less: raise it, train.negatives_per_positive or train.max_candidates",
        )
    result = _result(state, prepared)
    if dist.get_rank() == 0:
        result.save(job.folder)
    dist.barrier()
    return result


def accept_best(job: Job) -> Result:
    """End an unfinished training at its best checkpoint, such as one that a number that is not finite has stopped.

    Args:
        job: The training; none of its workers runs.

    Returns:
        The result; `done.json` says the same, and what had stopped it.

    Raises:
        UsageError: If no checkpoint of it has been validated.
    """
    if Result.file(job.folder).exists():
        return Result.load(job.folder)
    state, fault = Checkpoints(job.folder).latest(), Fault.load(job.folder)
    if state is None or state.best_step < 0:
        raise UsageError(
            "there is no checkpoint to accept",
            field="--accept-best",
            value=f"training {job.id}",
            remedy="it takes one that was validated before the training stopped: mend the cause and train again",
        )
    why = f"{fault.what} is not finite in {fault.where}" if fault else "stopped by hand"
    result = _result(state, Prepared.load(job.folder / "inputs"), accepted=why)
    result.save(job.folder)
    return result


def _result(state: TrainingState, prepared: Prepared, accepted: str = "") -> Result:
    best = next(found for found in reversed(state.validations or []) if found["step"] == state.best_step)
    return Result(
        state.best_step,
        state.step,
        min(state.position[0] + 1, prepared.plan.epochs),
        prepared.plan.warm,
        prepared.plan.warm_start_reason,
        best["loss"],
        best["auc"],
        state.validations or [],
        accepted,
    )


class Run:
    """The parts of a training that is under way."""

    def __init__(self, job: Job, prepared: Prepared) -> None:
        self.job, self.prepared, self.settings = job, prepared, job.settings
        window, plan, encoding = Window(Path(job.window)), prepared.plan, prepared.encoding
        files = tuple(window.training)
        rank, workers = dist.get_rank(), dist.get_world_size()
        size, seed = self.settings.requests_per_batch, self.settings.seed
        training, validation = plan.training(files, self.settings), plan.validation(files, self.settings)
        self.training = Stream(training, encoding, prepared.items, size, seed=seed, rank=rank, workers=workers)
        self.validation = Stream(validation, encoding, prepared.items, size, shuffle=False, rank=rank, workers=workers)
        self.requests = max(self.training.total(), 1)

        schema, kind = encoding.schema, model_class(job.model)
        self.recipe: Optimizer = job.recipe.optimizer
        if plan.warm:
            rate = self.settings.warm_rate
            self.recipe = replace(self.recipe, lr=rate * self.recipe.lr, table_lr=rate * self.recipe.table_lr)
        torch.manual_seed(seed)
        ranker = kind(schema, job.recipe)
        self.lookup = ShardedLookup(schema, kind.spaces(schema, job.recipe))
        tokens = TokenStore(Path(job.tokens)) if job.tokens and encoding.content else None
        content = ContentSource(tokens, prepared.items) if tokens else None
        self.trainee = Trainee(self.lookup, ranker, schema, content)
        self.model = distribute(self.trainee, self.recipe)
        self.ranker = ranker
        self.dense = Dense(ranker.named_parameters(), self.recipe)
        self.checkpoints = Checkpoints(job.folder)
        self.every = max(1, self.requests // (size * self.settings.validations_per_epoch))
        self.log = Progress(job)
        self.last: Step | None = None

    def tensors(self) -> dict[str, Any]:
        """Everything that a checkpoint holds, in place."""
        return {
            "model": self.model.state_dict(),
            "tables": optimizer_state(self.model),
            "dense": self.dense.state(),
        }

    def begin(self) -> TrainingState:
        """Initial weights: random, or the incumbent's with rows carried over by key."""
        weights = {table_name(t): weight for t, weight in initial(self.lookup.layout, self.settings.seed)}
        sums = initial_accumulators(weights, self.recipe)
        if self.prepared.plan.warm and self.job.incumbent:
            dense = carried(Path(self.job.incumbent), self.prepared.encoding, self.lookup.layout, weights, sums)
            self.ranker.load_state_dict(dense)
        fill(self.model, weights, sums)
        return TrainingState(0, (0, 0, 0), EarlyStopping(self.settings.patience, "min"), validations=[])

    def resume(self) -> TrainingState | None:
        """Weights and place of the newest checkpoint, if there is one."""
        state = self.checkpoints.latest()
        if state is not None:
            self.checkpoints.load(self.tensors(), state.step)
            self.log.say(f"goes on after batch {state.step}")
        return state

    def step(self, batch: Step, state: TrainingState) -> None:
        """Train on one batch."""
        epoch = batch.after.epoch
        done = progress(epoch, batch.done / self.requests, self.prepared.plan.epochs)
        # dropout and sampling depend on the batch alone, so that a resumed training draws the same
        torch.manual_seed((self.settings.seed * 1_000_003 + state.step) * 1009 + dist.get_rank())
        self.model.train()
        losses = self.model(batch.encoded, done)
        loss: Tensor = total(losses) * batch.weight
        if on_any_worker(not bool(loss.isfinite())):
            self._stop_at_loss(batch, losses, done, state)
        loss.backward()
        fault = gradient_fault(self.ranker.named_parameters())
        if on_any_worker(fault is not None):
            self._stop(Fault(fault, batch.batch_ids) if fault else None, f"batch {state.step + 1}")
        self.dense.step(done)
        state.step += 1
        state.position = (epoch, batch.after.chunk, batch.after.batch)
        self.last = batch
        shown = {name: float(loss.detach()) for name, loss in losses.items()}
        if self.log.step(state.step, done, batch, shown, self.ranker.last_expert_use()):
            note_memory(self.job, dist.get_rank())

    def due(self, state: TrainingState) -> bool:
        """Whether it is time for a validation run."""
        return state.step % self.every == 0

    def validate(self, state: TrainingState) -> None:
        """Score the held-out tenth and note whether it got better."""
        self.ranker.cache_content()  # weights stay during a validation run
        found = validate(self.model, self.validation, self.prepared.encoding.tasks[0])
        self.ranker.cache_content(False)
        if isinstance(found, Fault):
            self._stop(found, f"the validation after batch {state.step}")
        loss, auc = (found.loss, found.auc) if found else (None, None)
        state.validations = [*(state.validations or []), {"step": state.step, "loss": loss, "auc": auc}]
        if loss is None:  # nothing held out: the newest weights are the result
            state.stopping.best_at = state.step
        else:
            state.stopping.gains(loss, state.step)
        self.log.validation(state.step, loss, auc)

    def save(self, state: TrainingState) -> None:
        """Write a checkpoint; all its weights are finite."""
        tensors = self.tensors()
        fault = weights_fault(tensors, self.prepared.encoding)
        if on_any_worker(fault is not None):
            requests = self.last.batch_ids if self.last else []
            self._stop(Fault(fault, requests) if fault else None, f"batch {state.step}")
        self.checkpoints.save(tensors, state)
        note_memory(self.job, dist.get_rank())

    def _stop_at_loss(self, batch: Step, losses: dict[str, Tensor], done: float, state: TrainingState) -> NoReturn:
        """Find out what made a loss not finite; every worker takes part, since each holds a part of the tables."""
        seen = self.trainee.batch(batch.encoded, done)
        bad = not bool(total(losses).isfinite())
        fault = loss_fault(losses, seen, batch, self.ranker, self.prepared.encoding) if bad else None
        self._stop(fault, f"batch {state.step + 1}")

    def _stop(self, fault: Fault | None, where: str) -> NoReturn:
        """End the training on all workers with the fault of the first that has one; the checkpoints stay."""
        found = first_of_all(fault)
        assert found is not None
        found = replace(found, where=where)
        if dist.get_rank() == 0:
            found.save(self.job.folder)
        self.log.say(f"{found.what} is not finite in {where}; its requests: {' '.join(found.requests)}")
        saved = self.checkpoints.latest()
        raise found.error(saved.best_step if saved else -1)


def main() -> None:
    """A worker; what ends it is left for the command that started it."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # Linux: die with torchrun, so that no orphan goes on writing
    if os.getppid() != parent:
        sys.exit(1)
    job = Job.load(Path(sys.argv[1]))
    try:
        dist.init_process_group("gloo")
        try:
            train(job)
        finally:
            dist.destroy_process_group()
    except FreshrankError as error:
        sys.exit(note_error(job, int(os.environ["RANK"]), error))
    except BaseException as error:
        note_error(job, int(os.environ["RANK"]), error)
        raise


if __name__ == "__main__":
    main()
