"""Step `features`: the feature values that the day's window needs, and the newest of them online.

Reads the event log; leaves snapshots below `feast/`, the online store's values as of the cut, and
`steps/<D>/features.json`.
"""

from __future__ import annotations

import datetime as dt
import time
from dataclasses import dataclass
from typing import ClassVar

from features.store.materialize import Materialized, materialize
from features.store.registry import OnlineStore
from freshrank.pipeline.step import TimedResult, say, seconds_since
from freshrank.settings import Settings


@dataclass(frozen=True)
class FeaturesMaterialized(TimedResult, Materialized):
    """The day's snapshots."""

    STEP: ClassVar[str] = "features"
    COMMAND: ClassVar[str] = "features materialize"

    def summary(self) -> str:
        """One line for people."""
        return (
            f"{self.users:,} users and {self.items:,} items online for {self.service}, {self.written} of "
            f"{self.snapshots} snapshots new, in {self.seconds:.1f} s"
        )


def run(settings: Settings, day: dt.date) -> FeaturesMaterialized:
    """Make the snapshots that the day's window needs and put the newest into the online store.

    Args:
        settings: All settings.
        day: The run's day D; values are as of its cut.

    Raises:
        NotReadyError: If the event log is not complete up to the cut.
        UnreachableError: If the online store does not answer.
    """
    from freshrank.stack.addresses import resolve

    began, layout = time.monotonic(), settings.layout
    online = OnlineStore(redis=resolve(settings).redis)
    done = materialize(layout, settings.features, online, day, days=settings.window.days, progress=say)
    result = FeaturesMaterialized(**vars(done), seconds=seconds_since(began))
    result.leave(layout, day)
    return result
