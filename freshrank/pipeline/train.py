"""Step `train`: a model on the day's window, from nothing or from the incumbent.

Reads the window, the tokens and the incumbent's bundle; leaves `checkpoints/<training>` and `steps/<D>/train.json`.
"""

from __future__ import annotations

import datetime as dt
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from features import atomic
from features.errors import DataError
from features.layout import Layout
from freshrank.pipeline.bundles import champion
from freshrank.pipeline.step import StepResult, beside, say, seconds_since
from freshrank.pipeline.window import window_of
from freshrank.settings import Settings, project_root

if TYPE_CHECKING:
    from trainer.job import Job


@dataclass(frozen=True)
class Trained(StepResult):
    """A finished training.

    Args:
        train: Its identity.
        model: The model.
        window: Its window.
        warm: Whether it started from the incumbent.
        warm_start_reason: Why, or why not.
        loss: Log loss of the best validation run.
        auc: AUC of it.
        batches: Batches trained.
        new: False where it had finished before.
        job: File that says what was trained.
        accepted: What had stopped it, where its best checkpoint was accepted; empty where it came to its end.
        seconds: How long it took.
    """

    STEP: ClassVar[str] = "train"
    COMMAND: ClassVar[str] = "train"

    train: str
    model: str
    window: str
    warm: bool
    warm_start_reason: str
    loss: float | None
    auc: float | None
    batches: int
    new: bool
    job: str
    accepted: str = ""
    seconds: float = 0.0

    def summary(self) -> str:
        """One line for people."""
        shown = "" if self.loss is None else f", log loss {self.loss:.4f} in validation"
        shown += "" if self.auc is None else f", AUC {self.auc:.4f}"
        shown += f", accepted though {self.accepted}" if self.accepted else ""
        return (
            f"train {self.train}{'' if self.new else ' (as before)'}: {self.model} "
            f"{'warm' if self.warm else 'from nothing'}, {self.batches} batches{shown}, in {self.seconds:.1f} s"
        )


def run(settings: Settings, day: dt.date, *, model: str = "", accept_best: bool = False) -> Trained:
    """Train a day's model under torchrun, or go on where an interrupted training stopped.

    Args:
        settings: All settings.
        day: The run's day D.
        model: The model; empty for the settings'.
        accept_best: End an unfinished training at its best checkpoint instead.

    Raises:
        DataError: If the window has nothing to train on, or a number of the training is not finite.
        WorkerDiedError: If a worker was killed.
        UsageError: If that is the second time after the same checkpoint, or there is no checkpoint to accept.
    """
    from trainer.attempts import Attempt
    from trainer.result import Result

    began, layout, other = time.monotonic(), settings.layout, beside(settings, model)
    with atomic.lock(layout.lock(Trained.note(layout, day, other).stem)):
        job = _same_day(make_job(settings, day, model), layout, day, other)
        new = not Result.file(job.folder).exists()
        if new and accept_best:
            from trainer.train import accept_best as accept

            accept(job)
        elif new:
            _train(job, settings.train.workers)
        else:
            Attempt(job).end()  # left where it was killed right after its end
        ended = Result.load(job.folder)
        file = job.folder / "job.json"
        job.save(file)
        trained = Trained(
            train=job.id,
            model=job.model,
            window=Path(job.window).name,
            warm=ended.warm,
            warm_start_reason=ended.warm_start_reason,
            loss=ended.loss,
            auc=ended.auc,
            batches=ended.steps,
            new=new,
            job=str(file),
            accepted=ended.accepted,
            seconds=seconds_since(began),
        )
        trained.leave(layout, day, other)
    return trained


def make_job(settings: Settings, day: dt.date, model: str = "") -> Job:
    """The training of a day: its window, the incumbent to start from, recipe and settings.

    Args:
        settings: All settings.
        day: The run's day D.
        model: The model; empty for the settings'.

    Raises:
        NotReadyError: If the day has no window.
        UsageError: If the model or its recipe is wrong.
    """
    from features.content.encode import encoder_hash
    from trainer.job import Job
    from trainer.recipes import checked_recipe

    layout, model = settings.layout, model or settings.train.model
    # all of them are looked at: a recipe under a misspelt name would be passed over
    named: dict[str, dict[str, object]] = {model: {}} | settings.train.recipe
    recipes = {name: checked_recipe(name, given, prefix=f"train.recipe.{name}.") for name, given in named.items()}
    incumbent, tokens = champion(layout), layout.tokens(encoder_hash(settings.content))
    return Job(
        window=str(layout.window(window_of(layout, day).window_id)),
        tokens=str(tokens) if (tokens / "index.parquet").exists() else None,
        checkpoints=str(layout.root / "checkpoints"),
        model=model,
        recipe=recipes[model],
        settings=settings.train,
        incumbent=str(layout.bundle(incumbent)) if incumbent else None,
        log=str(layout.logs / "tensorboard"),
    )


def _train(job: Job, workers: int) -> None:
    from trainer.job import prepare
    from trainer.launch import launch

    plan = prepare(job).plan
    say(
        f"train: {job.model} {'warm, ' if plan.warm else 'from nothing, '}{plan.warm_start_reason}; "
        f"{plan.epochs} epochs at most, {plan.negatives_kept:.1%} of negatives kept"
    )
    job.save(job.folder / "job.json")
    launch(job, workers, project_root())


def _same_day(job: Job, layout: Layout, day: dt.date, other: str) -> Job:
    """The day's earlier job where only the incumbent differs because that job's own bundle is live by now.

    A run that is cleared and run again after its deployment must end in the same bundle, not start from itself.
    """
    from trainer.job import Job

    if not Trained.note(layout, day, other).exists():
        return job
    try:
        before = Job.load(Path(Trained.read(layout, day, other).job))
    except DataError:  # damaged, or of a version with other recipes or settings: it cannot be the same training
        return job
    bundle = before.folder / "bundle.json"
    own = json.loads(bundle.read_text(encoding="utf-8"))["bundle"] if bundle.exists() else None
    live = own is not None and job.incumbent is not None and Path(job.incumbent).name == own
    return before if live and replace(job, incumbent=before.incumbent).id == before.id else job
