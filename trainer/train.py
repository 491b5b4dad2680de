"""Train a model on a window; `torchrun` starts it: `torchrun -m trainer.train <job.json>`."""

from __future__ import annotations

import ctypes
import json
import math
import os
import signal
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from features import atomic
from features.content.store import TokenStore
from trainer.checkpoints import Checkpoints, State
from trainer.data.stream import Position, Step, Stream
from trainer.data.window import Window
from trainer.embeddings.sharded import (
    ShardedLookup,
    distribute,
    fill,
    first_sums,
    initial,
    optimizer_state,
    table_name,
)
from trainer.embeddings.warm import carried
from trainer.job import Job, Prepared, prepare
from trainer.models.camenn import CameNN
from trainer.models.recipe import Optimizer
from trainer.models.registry import build, model_class, parse_recipe
from trainer.optimizers import Dense
from trainer.scoring.tokens import ContentSource
from trainer.trainee import Trainee, total
from trainer.validate import look


@dataclass(frozen=True)
class Result:
    """How a training ended.

    Args:
        step: Step of the best checkpoint, which is the result.
        steps: Batches trained.
        epochs: Epochs begun.
        warm: Whether it started from the incumbent.
        why: Why, or why not.
        loss: Log loss of the best look at the held-out tenth.
        auc: AUC of it; None where it has but one class.
        looks: Every look: step, loss, auc.
    """

    step: int
    steps: int
    epochs: int
    warm: bool
    why: str
    loss: float | None
    auc: float | None
    looks: list[dict[str, float | None]]


def train(job: Job) -> Result:
    """Train, or go on training, until early stopping or the last epoch.

    Every worker of the process group calls it. A finished training is not repeated.

    Args:
        job: What to train.

    Returns:
        How it ended; `done.json` in the job's folder says the same.
    """
    done = job.folder / "done.json"
    if done.exists():
        return Result(**json.loads(done.read_text(encoding="utf-8")))
    settings, prepared = job.typed(), prepare(job)
    torch.set_num_threads(settings.threads)
    run = Run(job, prepared)
    state = run.resume() or run.begin()
    if prepared.plan.warm and not state.looks:  # the incumbent's own weights are the ones to beat
        run.look(state)
        run.save(state)
    while state.position[0] < prepared.plan.epochs and state.bad < settings.patience:
        for batch in run.training.epoch(Position(*state.position)):
            run.step(batch, state)
            if run.due(state):
                run.look(state)
            if state.step % settings.checkpoint_batches == 0 or run.due(state):
                run.save(state)
            if state.bad >= settings.patience:
                break
        else:
            state.position = (state.position[0] + 1, 0, 0)
            if not run.due(state):
                run.look(state)
            run.save(state)
    best = next(look for look in reversed(state.looks or []) if look["step"] == state.best_step)
    result = Result(
        state.best_step,
        state.step,
        min(state.position[0] + 1, prepared.plan.epochs),
        prepared.plan.warm,
        prepared.plan.why,
        best["loss"],
        best["auc"],
        state.looks or [],
    )
    if dist.get_rank() == 0:
        atomic.write_text(done, json.dumps(asdict(result), indent=1))
    dist.barrier()
    return result


class Run:
    """The parts of a training that is under way."""

    def __init__(self, job: Job, prepared: Prepared) -> None:
        self.job, self.prepared, self.settings = job, prepared, job.typed()
        window, plan, encoding = Window(Path(job.window)), prepared.plan, prepared.encoding
        files = tuple(window.training)
        workers: dict[str, Any] = {"rank": dist.get_rank(), "workers": dist.get_world_size()}
        size, seed = self.settings.requests_per_batch, self.settings.seed
        training, validation = plan.training(files, self.settings), plan.validation(files, self.settings)
        self.training = Stream(training, encoding, prepared.items, size, seed=seed, **workers)
        self.validation = Stream(validation, encoding, prepared.items, size, shuffle=False, **workers)
        self.requests = max(self.training.total(), 1)

        schema, recipe = encoding.schema, parse_recipe(job.model, job.recipe)
        self.recipe: Optimizer = recipe.optimizer
        if plan.warm:
            rate = self.settings.warm_rate
            self.recipe = replace(self.recipe, lr=rate * self.recipe.lr, table_lr=rate * self.recipe.table_lr)
        torch.manual_seed(seed)
        ranker = build(job.model, schema, job.recipe)
        self.lookup = ShardedLookup(schema, model_class(job.model).spaces(schema, recipe))
        tokens = TokenStore(Path(job.tokens)) if job.tokens and encoding.content else None
        content = ContentSource(tokens, prepared.items) if tokens else None
        self.model = distribute(Trainee(self.lookup, ranker, schema, content), self.recipe)
        self.ranker = ranker
        self.dense = Dense(ranker.named_parameters(), self.recipe)
        self.checkpoints = Checkpoints(job.folder)
        self.every = max(1, self.requests // (size * self.settings.evaluations))
        self.log = _Log(job, self.requests * plan.epochs)

    def tensors(self) -> dict[str, Any]:
        """Everything that a checkpoint holds, in place."""
        return {
            "model": self.model.state_dict(),
            "tables": optimizer_state(self.model),
            "dense": self.dense.state(),
        }

    def begin(self) -> State:
        """Initial weights: random, or the incumbent's with rows carried over by key."""
        weights = {table_name(t): weight for t, weight in initial(self.lookup.layout, self.settings.seed)}
        sums = first_sums(weights, self.recipe)
        if self.prepared.plan.warm and self.job.incumbent:
            dense = carried(Path(self.job.incumbent), self.prepared.encoding, self.lookup.layout, weights, sums)
            self.ranker.load_state_dict(dense)
        fill(self.model, weights, sums)
        return State(0, (0, 0, 0), looks=[])

    def resume(self) -> State | None:
        """Weights and place of the newest checkpoint, if there is one."""
        state = self.checkpoints.latest()
        if state is not None:
            self.checkpoints.load(self.tensors(), state.step)
            self.log.say(f"goes on after batch {state.step}")
        return state

    def step(self, batch: Step, state: State) -> None:
        """Train on one batch."""
        epoch = batch.after.epoch
        progress = min((epoch + batch.done / self.requests) / self.prepared.plan.epochs, 1.0)
        # dropout and sampling depend on the batch alone, so that a resumed training draws the same
        torch.manual_seed((self.settings.seed * 1_000_003 + state.step) * 1009 + dist.get_rank())
        self.model.train()
        losses = self.model(batch.encoded, progress)
        loss: Any = total(losses) * batch.weight
        loss.backward()
        self.dense.step(progress)
        state.step += 1
        state.position = (epoch, batch.after.chunk, batch.after.batch)
        use = self.ranker.last_expert_use() if isinstance(self.ranker, CameNN) else {}
        self.log.step(state.step, batch, {name: float(loss.detach()) for name, loss in losses.items()}, use)

    def due(self, state: State) -> bool:
        """Whether it is time to look at the held-out tenth."""
        return state.step % self.every == 0

    def look(self, state: State) -> None:
        """Look at the held-out tenth and note whether it got better."""
        self.ranker.remember()  # weights stay during a look
        loss, auc = look(self.model, self.validation, self.prepared.encoding.tasks[0])
        self.ranker.remember(False)
        state.looks = [
            *(state.looks or []),
            {"step": state.step, "loss": None if math.isnan(loss) else loss, "auc": auc},
        ]
        if math.isnan(loss):  # nothing held out: the newest weights are the result
            state.best_step = state.step
        elif loss < state.best_loss:
            state.best_loss, state.best_step, state.bad = loss, state.step, 0
        else:
            state.bad += 1
        self.log.look(state.step, loss, auc)

    def save(self, state: State) -> None:
        """Write a checkpoint."""
        self.checkpoints.save(self.tensors(), state)


class _Log:
    """Progress for people on stderr, and TensorBoard's events; rank 0 alone speaks."""

    def __init__(self, job: Job, requests: int) -> None:
        self.first = dist.get_rank() == 0
        self.requests, self.done, self.candidates = requests, 0, 0
        self.began = self.spoke = time.monotonic()
        self.board: Any = None
        if self.first and job.log:
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(Path(job.log) / job.id)

    def say(self, text: str) -> None:
        """One line."""
        if self.first:
            print(f"train: {text}", file=sys.stderr, flush=True)

    def step(self, step: int, batch: Step, losses: dict[str, float], expert_use: dict[str, torch.Tensor]) -> None:
        """Note a batch, its losses and what share of it chose each expert."""
        self.done += batch.requests
        self.candidates += batch.candidates
        if self.board:
            for name, loss in losses.items():
                self.board.add_scalar(f"loss/{name}", loss, step)
            for task, use_M in expert_use.items():
                for expert, share in enumerate(use_M.tolist()):
                    self.board.add_scalar(f"expert_use/{task}/{expert}", share, step)
        now = time.monotonic()
        if now - self.spoke >= 5:
            self.spoke = now
            shown = " ".join(f"{name} {loss:.4f}" for name, loss in losses.items())
            rate = self.candidates / (now - self.began)
            self.say(f"batch {step}, {min(self.done / self.requests, 1):.0%}, {rate:.0f} candidates/s, loss {shown}")

    def look(self, step: int, loss: float, auc: float | None) -> None:
        """Note a look at the held-out tenth."""
        shown = "–" if auc is None else f"{auc:.4f}"
        self.say(f"batch {step}, held-out tenth: log loss {loss:.4f}, AUC {shown}")
        if self.board:
            self.board.add_scalar("held_out/loss", loss, step)
            if auc is not None:
                self.board.add_scalar("held_out/auc", auc, step)


def main() -> None:
    """A worker of `torchrun`."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # Linux: die with torchrun, so that no orphan goes on writing
    if os.getppid() != parent:
        sys.exit(1)
    job = Job.load(Path(sys.argv[1]))
    dist.init_process_group("gloo")
    try:
        train(job)
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
