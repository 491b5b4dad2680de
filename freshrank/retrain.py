"""The daily retrain's own steps: training, bundle, evaluation, gate, tied together by what each left for the next."""

from __future__ import annotations

import datetime as dt
import json
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from features import atomic
from features.errors import NotReadyError
from features.layout import Layout
from freshrank.settings import Settings, load, project_root
from trainer.attempts import Attempt
from trainer.job import Job, prepare, typed_recipe
from trainer.launch import launch


@dataclass(frozen=True)
class Trained:
    """A finished training.

    Args:
        train: Its identity.
        model: The model.
        window: Its window.
        warm: Whether it started from the incumbent.
        why: Why, or why not.
        loss: Log loss on the held-out tenth.
        auc: AUC on it.
        batches: Batches trained.
        new: False where it had finished before.
        accepted: What had stopped it, where its best checkpoint was accepted; empty where it came to its end.
    """

    train: str
    model: str
    window: str
    warm: bool
    why: str
    loss: float | None
    auc: float | None
    batches: int
    new: bool
    accepted: str = ""


def step_name(settings: Settings, step: str, model: str) -> str:
    """Name of a step's note: the settings' model has the plain name, another one its own beside it."""
    return step if model == settings.train.model else f"{step}-{model}"


def note(layout: Layout, day: dt.date, step: str) -> dict[str, Any]:
    """What a step left for the next.

    Raises:
        NotReadyError: If the step has not run.
    """
    path = layout.step(day, step)
    if not path.exists():
        raise NotReadyError(
            f"{step} has not run for this day",
            field="date",
            value=day.isoformat(),
            remedy=f"run `freshrank {step.split('-')[0]} --date {day}` first",
        )
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def champion(layout: Layout) -> str | None:
    """The bundle that is live as champion, if there is one."""
    from serving.state import CHAMPION, ServingFile

    return ServingFile(layout).read().aliases.get(CHAMPION)


def make_job(settings: Settings, day: dt.date, model: str) -> Job:
    """The training of a day: its window, the incumbent to start from, the settings."""
    from features.content.encode import encoder_hash
    from features.window.build import of_day

    layout = settings.layout
    # all of them are looked at: a recipe under a misspelt name would be passed over
    named: dict[str, dict[str, Any]] = {model: {}} | settings.train.recipe
    recipes = {name: typed_recipe(name, given) for name, given in named.items()}
    incumbent = champion(layout)
    tokens = layout.tokens(encoder_hash(settings.content))
    values = settings.train.model_dump(mode="json")
    return Job(
        window=str(layout.window(of_day(layout, day))),
        tokens=str(tokens) if (tokens / "index.parquet").exists() else None,
        checkpoints=str(layout.root / "checkpoints"),
        model=model,
        recipe=recipes[model],
        settings=values,
        incumbent=str(layout.bundle(incumbent)) if incumbent else None,
        log=str(layout.logs / "tensorboard"),
    )


def train(day: dt.date, model: str | None = None, *, accept_best: bool = False) -> Trained:
    """Train a day's model under torchrun, or go on where an interrupted training stopped.

    Args:
        day: The run's day D.
        model: The model; by default the settings'.
        accept_best: End an unfinished training at its best checkpoint instead.

    Raises:
        DataError: If the window has nothing to train on, or a number of the training is not finite.
        WorkerDiedError: If a worker was killed.
        UsageError: If that is the second time after the same checkpoint, or there is no checkpoint to accept.
    """
    settings = load()
    layout, model = settings.layout, model or settings.train.model
    name = step_name(settings, "train", model)
    with atomic.lock(layout.lock(name)):
        job = _same_day(make_job(settings, day, model), layout, day, name)
        new = not (job.folder / "done.json").exists()
        if new and accept_best:
            from trainer.train import accept_best as accept

            accept(job)
        elif new:
            prepared = prepare(job)
            plan = prepared.plan
            print(
                f"train: {model} {'warm, ' if plan.warm else 'from nothing, '}{plan.why}; "
                f"{plan.epochs} epochs at most, {plan.negatives_kept:.1%} of negatives kept",
                file=sys.stderr,
            )
            job.save(job.folder / "job.json")
            launch(job, settings.train.workers, project_root())
        else:
            Attempt(job).end()  # left where it was killed right after its end
        result = json.loads((job.folder / "done.json").read_text(encoding="utf-8"))
        trained = Trained(
            job.id,
            model,
            job.window.rsplit("/", 1)[-1],
            result["warm"],
            result["why"],
            result["loss"],
            result["auc"],
            result["steps"],
            new,
            result.get("accepted", ""),
        )
        job.save(job.folder / "job.json")
        atomic.write_text(layout.step(day, name), json.dumps({**vars(trained), "job": str(job.folder / "job.json")}))
    return trained


def _same_day(job: Job, layout: Layout, day: dt.date, name: str) -> Job:
    """The day's earlier job where only the incumbent differs because that job's own bundle is live by now.

    A run that is cleared and run again after its deployment must end in the same bundle, not start from itself.
    """
    path = layout.step(day, name)
    if not path.exists():
        return job
    before = Job.load(Path(json.loads(path.read_text(encoding="utf-8"))["job"]))
    bundle = before.folder / "bundle.json"
    own = json.loads(bundle.read_text(encoding="utf-8"))["bundle"] if bundle.exists() else None
    live = own is not None and job.incumbent is not None and Path(job.incumbent).name == own
    return before if live and replace(job, incumbent=before.incumbent).id == before.id else job


@dataclass(frozen=True)
class Bundled:
    """The bundles of a day.

    Args:
        bundle: The trained model's.
        popularity: The window's popularity.
        model: The model.
        window: The window.
        megabytes: Size of the model's bundle.
        seconds: How long it took.
    """

    bundle: str
    popularity: str
    model: str
    window: str
    megabytes: float
    seconds: float


def bundle(day: dt.date, model: str | None = None) -> Bundled:
    """Bundle a day's training, and its window's popularity.

    Args:
        day: The run's day D.
        model: The model; by default the settings'.
    """
    from trainer.bundle import make_bundle
    from trainer.data.window import Window
    from trainer.popularity import make_popularity

    began = time.monotonic()
    settings = load()
    layout, model = settings.layout, model or settings.train.model
    job = Job.load(Path(note(layout, day, step_name(settings, "train", model))["job"]))
    name = step_name(settings, "bundle", model)
    with atomic.lock(layout.lock(name)):
        made = make_bundle(job, layout.bundles)
        window = Window(Path(job.window))
        popularity = make_popularity(window, layout.bundles, settings.train.tasks[0])
        size = sum(file.stat().st_size for file in layout.bundle(made).rglob("*") if file.is_file()) / 1e6
        done = Bundled(made, popularity, model, window.id, round(size, 3), round(time.monotonic() - began, 3))
        atomic.write_text(layout.step(day, name), json.dumps({**vars(done), "train": job.id}))
    return done
