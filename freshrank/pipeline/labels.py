"""Step `labels`: what became of each shown item, as known at the day's cut.

Reads the event log; leaves the days of `lake/requests` that have news, and `steps/<D>/labels.json`.
"""

from __future__ import annotations

import datetime as dt
import time
from dataclasses import dataclass
from typing import ClassVar

from features.labels.run import Labelled, label
from freshrank.pipeline.step import TimedResult, say, seconds_since
from freshrank.settings import Settings


@dataclass(frozen=True)
class RequestsLabelled(TimedResult, Labelled):
    """The day's requests with their labels."""

    STEP: ClassVar[str] = "labels"
    COMMAND: ClassVar[str] = "labels"

    def summary(self) -> str:
        """One line for people."""
        return f"{self.requests:,} requests labelled, {len(self.rewritten)} days rewritten, in {self.seconds:.1f} s"


def run(settings: Settings, day: dt.date) -> RequestsLabelled:
    """Label the requests of the window's days and of D; days without news are left alone.

    Args:
        settings: All settings.
        day: The run's day D.

    Raises:
        NotReadyError: If the event log is not complete up to the cut.
        LockedError: If another process labels at the moment.
    """
    began, layout = time.monotonic(), settings.layout
    done = label(layout, settings.features, settings.labels, day, days=settings.window.days, progress=say)
    result = RequestsLabelled(**vars(done), seconds=seconds_since(began))
    result.leave(layout, day)
    return result
