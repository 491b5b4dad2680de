"""The gate: may a candidate replace the incumbent? A decision with its reasons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trainer.settings import GateSettings


@dataclass(frozen=True)
class Check:
    """One condition.

    Args:
        name: What is asked.
        passed: Whether it holds; None where it could not be judged, which does not count against the candidate.
        said: The figures behind it.
    """

    name: str
    passed: bool | None
    said: str


def judge(figures: dict[str, Any], settings: GateSettings) -> list[Check]:
    """Ask every question of the gate.

    Args:
        figures: What `trainer.evaluate.run.evaluate` found.
        settings: The thresholds.

    Returns:
        The checks; the candidate is blessed where none has failed.
    """
    everything = figures["slices"]["all"]
    requests, positives = everything["requests"], everything["positives"]
    enough = requests >= settings.min_requests and positives >= settings.min_positives
    needed = f"{settings.min_requests} and {settings.min_positives} are needed"
    checks = [Check("enough evidence", enough, f"{requests} requests with {positives} positives; {needed}")]
    checks.append(_popularity(figures, settings))
    checks.append(_incumbent(figures, settings))
    checks.append(_calibration(everything, settings))
    return checks


def blessed(checks: list[Check]) -> bool:
    """Whether no check has failed."""
    return all(check.passed is not False for check in checks)


def _popularity(figures: dict[str, Any], settings: GateSettings) -> Check:
    name, found = "better than popularity", (figures.get("over_popularity") or {}).get("all")
    if found is None:
        return Check(name, None, "no popularity bundle, or one class only")
    passed = found["value"] > settings.over_popularity
    return Check(
        name, passed, f"AUC {_interval(found)} over popularity; more than {settings.over_popularity:+} is needed"
    )


def _incumbent(figures: dict[str, Any], settings: GateSettings) -> Check:
    name, found = "not worse than the incumbent", (figures.get("over_incumbent") or {}).get("all")
    if "incumbent" not in figures["bundles"]:
        return Check(name, None, "no incumbent")
    if found is None:
        return Check(name, None, "one class only")
    passed = found["low"] >= -settings.max_auc_loss
    needed = f"the lower end may be {-settings.max_auc_loss:+}"
    return Check(name, passed, f"AUC {_interval(found)} over the incumbent; {needed}")


def _calibration(everything: dict[str, Any], settings: GateSettings) -> Check:
    name, found = "calibrated on mature labels", everything["candidate"]["calibration_mature"]
    have, needed = everything["positives_mature"], settings.min_mature_positives
    if found is None or have < needed:
        return Check(name, None, f"{have} mature positives; {needed} are needed to judge")
    passed = abs(found - 1) <= settings.max_calibration_error
    return Check(name, passed, f"predicted over actual {found:.3f}; 1 ± {settings.max_calibration_error} is allowed")


def _interval(found: dict[str, float]) -> str:
    return f"{found['value']:+.4f} [{found['low']:+.4f}, {found['high']:+.4f}]"
