"""Step `bundle`: everything that makes the day's scores, immutable and named by its content.

Reads the day's training; leaves `bundles/<id>` for its model and one for the window's popularity, and
`steps/<D>/bundle.json`, which names them.
"""

from __future__ import annotations

import datetime as dt
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from features import atomic
from freshrank.pipeline.step import StepResult, beside, seconds_since
from freshrank.pipeline.train import Trained
from freshrank.settings import Settings


@dataclass(frozen=True)
class Bundled(StepResult):
    """The bundles of a day.

    Args:
        bundle: The trained model's.
        popularity: The window's popularity.
        model: The model.
        window: The window.
        megabytes: Size of the model's bundle.
        seconds: How long it took.
        train: The training's identity.
    """

    STEP: ClassVar[str] = "bundle"
    COMMAND: ClassVar[str] = "bundle"

    bundle: str
    popularity: str
    model: str
    window: str
    megabytes: float
    seconds: float
    train: str

    def summary(self) -> str:
        """One line for people."""
        return (
            f"bundle {self.bundle}: {self.model}, {self.megabytes:.1f} MB, popularity {self.popularity}, "
            f"in {self.seconds:.1f} s"
        )


def run(settings: Settings, day: dt.date, *, model: str = "") -> Bundled:
    """Bundle a day's training, and its window's popularity.

    Args:
        settings: All settings.
        day: The run's day D.
        model: The model; empty for the settings'.

    Raises:
        NotReadyError: If the day has no training, or it has not ended.
        DataError: If a weight or a score of a probe is not finite.
    """
    from trainer.bundle import make_bundle
    from trainer.data.window import Window
    from trainer.job import Job
    from trainer.popularity import make_popularity

    began, layout, other = time.monotonic(), settings.layout, beside(settings, model)
    job = Job.load(Path(Trained.read(layout, day, other).job))
    with atomic.lock(layout.lock(Bundled.note(layout, day, other).stem)):
        made, window = make_bundle(job, layout.bundles), Window(Path(job.window))
        popularity = make_popularity(window, layout.bundles, settings.train.tasks[0])
        size = sum(file.stat().st_size for file in layout.bundle(made).rglob("*") if file.is_file()) / 1e6
        seconds = seconds_since(began)
        bundled = Bundled(made, popularity, job.model, window.id, round(size, 3), seconds, job.id)
        bundled.leave(layout, day, other)
    return bundled
