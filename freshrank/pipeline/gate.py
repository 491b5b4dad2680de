"""Step `gate`: may the day's bundle replace the incumbent?

Reads the day's evaluation; leaves the blessing `bundles/<id>.blessing.json`, which also says no, and
`steps/<D>/gate.json`.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

from features import atomic
from features.errors import NotReadyError
from features.layout import Layout
from freshrank.pipeline.bundle import Bundled
from freshrank.pipeline.bundles import incumbent_of
from freshrank.pipeline.evaluate import Evaluated
from freshrank.pipeline.step import StepResult, beside, decoded, encoded
from freshrank.settings import Settings
from trainer.evaluate.gate import Check, blessed, judge


@dataclass(frozen=True)
class Decision(StepResult):
    """Whether a bundle may go live, and why.

    Args:
        blessed: Whether it may.
        bundle: The bundle.
        date: The day it was judged on.
        model: Its model.
        incumbent: The bundle that it was compared with, or None.
        checks: What was asked, with the answers.
    """

    STEP: ClassVar[str] = "gate"
    COMMAND: ClassVar[str] = "gate"

    blessed: bool
    bundle: str
    date: str
    model: str
    incumbent: str | None
    checks: tuple[Check, ...]

    @property
    def reasons(self) -> list[str]:
        """A line for each check."""
        return [check.reason for check in self.checks]

    def summary(self) -> str:
        """One line for people."""
        return f"gate: {self.bundle} {'blessed' if self.blessed else 'refused'}"

    def to_json(self) -> dict[str, object]:
        """With the reasons as lines."""
        return asdict(self) | {"reasons": self.reasons, "checks": [check.to_json() for check in self.checks]}

    @staticmethod
    def blessing(layout: Layout, bundle: str) -> Path:
        """Where the decision on a bundle lies, whatever day made it."""
        return layout.bundles / f"{bundle}.blessing.json"

    @classmethod
    def on(cls, layout: Layout, bundle: str) -> Decision | None:
        """The decision on a bundle; None where no gate has seen it.

        Raises:
            DataError: If the file is damaged.
        """
        path = cls.blessing(layout, bundle)
        return decoded(cls, path, remedy="run `freshrank gate` again") if path.exists() else None


def run(settings: Settings, day: dt.date, *, model: str = "") -> Decision:
    """Decide whether a day's bundle may replace the incumbent. A refusal is an answer, not an error.

    Args:
        settings: All settings.
        day: The run's day D.
        model: The model; empty for the settings'.

    Raises:
        NotReadyError: If the day's bundle has not been evaluated, or not against the present incumbent.
        DataError: If the figures cannot be read, or one is not finite.
    """
    layout, other = settings.layout, beside(settings, model)
    bundled = Bundled.read(layout, day, other)
    figures = Evaluated.read(layout, day, other).figures
    incumbent = figures.bundles.get("incumbent")
    for what, judged, present in (
        ("the day's bundle has not been evaluated", figures.bundles.get("candidate"), bundled.bundle),
        ("the evaluation did not meet the present incumbent", incumbent, incumbent_of(layout, bundled.bundle)),
    ):
        if judged != present:
            remedy = f"run `freshrank {Evaluated.COMMAND} --date {day}` first"
            raise NotReadyError(what, field="bundle", value=present, remedy=remedy)
    checks = judge(figures, settings.gate)
    decision = Decision(blessed(checks), bundled.bundle, day.isoformat(), bundled.model, incumbent, tuple(checks))
    atomic.write_text(Decision.blessing(layout, bundled.bundle), encoded(decision))
    decision.leave(layout, day, other)
    return decision
