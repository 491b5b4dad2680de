"""Step `evaluate`: the day's bundle on day D, which it has not seen, beside incumbent and popularity.

Reads the bundles and day D of the window; leaves `steps/<D>/evaluate.json`, and `evaluate.parquet` beside it with every
candidate of the day and its logits (`evaluate-final` for mature labels).
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import msgspec

from features import atomic
from features.errors import NotReadyError
from freshrank.pipeline.bundle import Bundled
from freshrank.pipeline.bundles import BundleInfo, incumbent_of
from freshrank.pipeline.step import StepResult, beside, say, seconds_since
from freshrank.pipeline.window import WindowBuilt, window_of
from freshrank.settings import Settings
from trainer.evaluate.figures import Figures


@dataclass(frozen=True)
class Evaluated(StepResult):
    """A day's comparison.

    Args:
        date: The run's day D.
        model: The candidate's model.
        figures: What was found.
        seconds: How long it took.
    """

    STEP: ClassVar[str] = "evaluate"
    COMMAND: ClassVar[str] = "evaluate"
    FINAL: ClassVar[bool] = False

    date: str
    model: str
    figures: Figures
    seconds: float = 0.0

    def summary(self) -> str:
        """One line for people."""
        everything = self.figures.slices["all"]
        shown = ", ".join(f"{role} {number(everything.of[role].auc)}" for role in self.figures.bundles)
        return f"evaluate: AUC on {self.date}: {shown}; {everything.requests} requests, in {self.seconds:.1f} s"

    def to_json(self) -> dict[str, object]:
        """The figures, and of what they are."""
        head = {"date": self.date, "model": self.model, "final": self.FINAL}
        return {**head, **self.figures.to_json(), "seconds": self.seconds}

    @classmethod
    def from_json(cls, found: Mapping[str, object]) -> Self:
        """Read what `to_json` made.

        Raises:
            DataError: If a figure is missing, of another type, or not finite.
        """
        figures, seconds = Figures.from_json(dict(found)), msgspec.convert(found.get("seconds", 0.0), type=float)
        return cls(str(found["date"]), str(found["model"]), figures, seconds)


@dataclass(frozen=True)
class FinallyEvaluated(Evaluated):
    """The same with mature labels."""

    STEP: ClassVar[str] = "evaluate-final"
    COMMAND: ClassVar[str] = "evaluate --final"
    FINAL: ClassVar[bool] = True


def number(value: float | None) -> str:
    """A figure as it is shown, a dash where there is none."""
    return "–" if value is None else f"{value:.4f}"


def run(settings: Settings, day: dt.date, *, model: str = "", final: bool = False) -> Evaluated:
    """Evaluate a day's bundle on day D, beside incumbent and popularity.

    Args:
        settings: All settings.
        day: The run's day D.
        model: The model; empty for the settings'.
        final: Take the labels of a later window, in which day D is mature.

    Raises:
        NotReadyError: If the day has no bundle, or (`final`) no later window holds the day.
        DataError: If a bundle's scores or a figure are not finite.
    """
    import torch

    from trainer.data.window import Window
    from trainer.evaluate.run import evaluate
    from trainer.tokens import TokenStore

    began, layout, other = time.monotonic(), settings.layout, beside(settings, model)
    kind: type[Evaluated] = FinallyEvaluated if final else Evaluated
    torch.set_num_threads(settings.train.threads)
    bundled = Bundled.read(layout, day, other)
    window = Window(layout.window(bundled.window))
    bundles = {"candidate": layout.bundle(bundled.bundle)}
    if incumbent := incumbent_of(layout, bundled.bundle):
        bundles["incumbent"] = layout.bundle(incumbent)
    bundles["popularity"] = layout.bundle(bundled.popularity)
    folder = BundleInfo.read(layout, bundled.bundle).tokens(layout)
    files = mature_day(settings, day) if final else window.evaluation
    note = kind.note(layout, day, other)
    with atomic.lock(layout.lock(note.stem)):
        say(f"evaluate: {', '.join(bundles)} on {day}")
        tokens = TokenStore(folder) if folder else None
        figures, scored = evaluate(window, files, bundles, tokens, settings.train.tasks[0], settings.gate)
        evaluated = kind(day.isoformat(), bundled.model, figures, seconds_since(began))
        scored.write(note.with_suffix(".parquet"))
        evaluated.leave(layout, day, other)
    return evaluated


def mature_day(settings: Settings, day: dt.date) -> Sequence[Path]:
    """The file of day D in a later window, its labels mature.

    Raises:
        NotReadyError: If no later window has it.
    """
    from trainer.data.window import Window

    layout = settings.layout
    for back in range(1, settings.window.days + 1):
        later = day + dt.timedelta(days=back)
        try:
            window = Window(layout.window(window_of(layout, later).window_id))
        except NotReadyError:
            continue
        file = window.folder / "requests" / f"{day.isoformat()}.parquet"
        if file.exists():
            return [file]
    raise NotReadyError(
        "no later window holds the day with mature labels",
        field="date",
        value=day.isoformat(),
        remedy=f"run `freshrank {WindowBuilt.COMMAND} --date {day + dt.timedelta(days=1)}` first",
    )
