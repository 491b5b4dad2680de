"""Step `window`: the training days and day D, immutable and named by what they hold.

Reads `lake/requests` and the snapshots; leaves `windows/<id>`, and `steps/<D>/window.json`, which names it.
"""

from __future__ import annotations

import datetime as dt
import time
from dataclasses import dataclass
from typing import ClassVar

from features.errors import NotReadyError
from features.layout import Layout
from features.window.build import BuiltWindow, build
from freshrank.pipeline.step import TimedResult, say, seconds_since
from freshrank.settings import Settings


@dataclass(frozen=True)
class WindowBuilt(TimedResult, BuiltWindow):
    """The day's window."""

    STEP: ClassVar[str] = "window"
    COMMAND: ClassVar[str] = "window build"

    seconds: float = 0.0

    def summary(self) -> str:
        """One line for people."""
        return (
            f"window {self.window_id[:12]}{'' if self.new else ' (as before)'}: {len(self.days)} days, "
            f"{self.rows:,} requests, {self.eval_rows:,} to evaluate, in {self.seconds:.1f} s"
        )


def run(settings: Settings, day: dt.date) -> WindowBuilt:
    """Build the window of a day; the same facts give the same id.

    Args:
        settings: All settings.
        day: The run's day D: trains on the days before, evaluates on D.

    Raises:
        NotReadyError: If labels or snapshots are not those known at the cut, or no training day has a request.
        LockedError: If another process builds a window at the moment.
    """
    from features.content.encode import encoder_hash

    began, layout, encoders = time.monotonic(), settings.layout, {"content": encoder_hash(settings.content)}
    days = settings.window.days
    built = build(layout, settings.features, settings.labels, encoders, day, days=days, progress=say)
    result = WindowBuilt(**vars(built), seconds=seconds_since(began))
    result.leave(layout, day)
    return result


def window_of(layout: Layout, day: dt.date) -> WindowBuilt:
    """The window that was built last for a day.

    Raises:
        NotReadyError: If there is none, or its folder is gone.
        DataError: If the note is damaged.
    """
    built = WindowBuilt.read(layout, day)
    if not layout.window(built.window_id).exists():
        raise NotReadyError(
            "the window of the day is gone", field="date", value=day.isoformat(),
            remedy=f"run `freshrank {WindowBuilt.COMMAND} --date {day}` again",
        )  # fmt: skip
    return built
