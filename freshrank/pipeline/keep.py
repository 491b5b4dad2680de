"""Step `keep`: the gate has refused, so the incumbent stays; the day's popularity, which needs no blessing, goes live.

Reads the day's bundles; leaves popularity's version in Triton, `state/serving.json`, and `steps/<D>/keep.json`.
"""

from __future__ import annotations

import datetime as dt
import time
from dataclasses import dataclass
from typing import ClassVar

from freshrank.pipeline.bundle import Bundled
from freshrank.pipeline.deploy import Deployed
from freshrank.pipeline.deployment import deploy_bundle
from freshrank.pipeline.step import seconds_since
from freshrank.settings import Settings
from serving.state import POPULARITY


@dataclass(frozen=True)
class Kept(Deployed):
    """The day's popularity is live, and champion is as it was."""

    STEP: ClassVar[str] = "keep"
    COMMAND: ClassVar[str] = f"deploy --alias {POPULARITY}"


def run(settings: Settings, day: dt.date) -> Kept:
    """Deploy the day's popularity alone.

    Args:
        settings: All settings.
        day: The run's day D.

    Raises:
        NotReadyError: If the day has no bundle.
    """
    began, made = time.monotonic(), Bundled.read(settings.layout, day)
    kept = Kept(deploy_bundle(settings, made.popularity, POPULARITY), seconds_since(began))
    kept.leave(settings.layout, day)
    return kept
