"""Step `deploy`: what the day's run made goes live, its popularity first.

Reads the day's bundles and the gate's blessing; leaves versions in Triton, `state/serving.json`, and
`steps/<D>/deploy.json`.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import ClassVar, Self

import msgspec

from freshrank.pipeline.bundle import Bundled
from freshrank.pipeline.deployment import check_alias, deploy_bundle
from freshrank.pipeline.step import StepResult, seconds_since
from freshrank.settings import Settings
from serving.deploy import Report
from serving.state import POPULARITY


@dataclass(frozen=True)
class Deployed(StepResult):
    """A bundle that is live.

    Args:
        report: What its deployment did.
        seconds: How long everything took.
    """

    STEP: ClassVar[str] = "deploy"
    COMMAND: ClassVar[str] = "deploy"

    report: Report
    seconds: float

    def summary(self) -> str:
        """One line for people."""
        done = self.report
        did = f"live after {done.probes} probes within {done.probe_max_abs:.1e}"
        more = "".join(
            f"; {name} {', '.join(bundles)}"
            for name, bundles in (("retired", done.retired), ("draining", done.draining))
            if bundles
        )
        return (
            f"deploy: {done.bundle} {'was live already' if done.already else did} as {done.alias}: "
            f"{done.triton_model} version {done.version}, generation {done.generation}{more}{done.gateways()}; "
            f"{self.seconds:.1f} s"
        )

    def to_json(self) -> dict[str, object]:
        """The report, and how long it took."""
        return {**asdict(self.report), "seconds": self.seconds}

    @classmethod
    def from_json(cls, found: Mapping[str, object]) -> Self:
        """Read what `to_json` made."""
        return cls(msgspec.convert(found, type=Report), msgspec.convert(found["seconds"], type=float))


def run(settings: Settings, day: dt.date, *, alias: str = "", unblessed: bool = False) -> Deployed:
    """Deploy the day's popularity, and then its bundle.

    Args:
        settings: All settings.
        day: The run's day D.
        alias: Where the bundle goes; empty for champion.
        unblessed: Take a champion without a blessing.

    Returns:
        What the bundle's deployment did.

    Raises:
        NotReadyError: If the day has no bundle.
        UsageError: If there is no such alias.
        NotBlessedError: If a champion has no blessing.
    """
    check_alias(alias)
    began, made = time.monotonic(), Bundled.read(settings.layout, day)
    deploy_bundle(settings, made.popularity, POPULARITY)
    report = deploy_bundle(settings, made.bundle, alias, unblessed=unblessed)
    deployed = Deployed(report, seconds_since(began))
    deployed.leave(settings.layout, day)
    return deployed
