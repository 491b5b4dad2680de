"""The gate: may a candidate replace the incumbent? A decision with its reasons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trainer.evaluate.figures import DaySlice, Figures
from trainer.evaluate.metrics import Interval
from trainer.settings import GateSettings

Outcome = Literal["holds", "fails", "not judged", "not asked"]


@dataclass(frozen=True)
class Check:
    """One condition.

    Args:
        name: What is asked.
        outcome: `holds` or `fails`; `not judged` where the figures do not allow an answer, which is as good as a no;
            `not asked` where there is nothing to compare with.
        said: The figures behind it.
    """

    name: str
    outcome: Outcome
    said: str

    @property
    def passed(self) -> bool:
        """Whether it stands in nobody's way."""
        return self.outcome in ("holds", "not asked")

    @property
    def reason(self) -> str:
        """One line for people."""
        return f"{self.name}: {self.outcome} ({self.said})"

    def to_json(self) -> dict[str, object]:
        """As the blessing holds it."""
        return {"name": self.name, "outcome": self.outcome, "passed": self.passed, "said": self.said}


def judge(figures: Figures, settings: GateSettings) -> list[Check]:
    """Ask every question of the gate.

    Args:
        figures: What `trainer.evaluate.run.evaluate` found.
        settings: The thresholds.

    Returns:
        The checks; the candidate is blessed where all have passed.
    """
    return [
        _evidence(figures, settings),
        _over_popularity(figures, settings),
        _log_loss_of_popularity(figures, settings),
        _over_incumbent(figures, settings),
        _log_loss_of_incumbent(figures, settings),
        _calibration(figures, settings),
    ]


def blessed(checks: list[Check]) -> bool:
    """Whether every check has passed: what could not be judged has not."""
    return bool(checks) and all(check.passed for check in checks)


def _evidence(figures: Figures, settings: GateSettings) -> Check:
    name, everything = "enough evidence", figures.slices.get("all")
    if everything is None:
        return Check(name, "not judged", "no figures of all requests")
    enough = everything.requests >= settings.min_requests and everything.positives >= settings.min_positives
    needed = f"{settings.min_requests} and {settings.min_positives} are needed"
    return _check(name, enough, f"{everything.requests} requests with {everything.positives} positives; {needed}")


def _over_popularity(figures: Figures, settings: GateSettings) -> Check:
    name, found = "better than popularity", _auc(figures, "popularity")
    if found is None:
        return Check(name, "not judged", _why_not(figures, "popularity"))
    said = f"AUC {_shown(found)} over popularity; more than {settings.over_popularity:+} is needed"
    return _check(name, found.value > settings.over_popularity, said)


def _log_loss_of_popularity(figures: Figures, settings: GateSettings) -> Check:
    name, found, rival = "log loss no higher than popularity's", *_log_losses(figures, "popularity")
    if found is None or not rival:
        return Check(name, "not judged", _why_not(figures, "popularity"))
    share, limit = found.value / rival, settings.max_log_loss_over_popularity
    said = f"log loss {_shown(found)} over popularity's {rival:.4f}, {share:+.1%}; {limit:+.1%} is allowed"
    return _check(name, share <= limit, said)


def _over_incumbent(figures: Figures, settings: GateSettings) -> Check:
    name, found = "not worse than the incumbent", _auc(figures, "incumbent")
    if "incumbent" not in figures.bundles:
        return Check(name, "not asked", "no incumbent")
    if found is None:
        return Check(name, "not judged", _why_not(figures, "incumbent"))
    needed = f"the lower end may be {-settings.max_auc_loss:+}"
    return _check(name, found.low >= -settings.max_auc_loss, f"AUC {_shown(found)} over the incumbent; {needed}")


def _log_loss_of_incumbent(figures: Figures, settings: GateSettings) -> Check:
    name, found, rival = "log loss not higher than the incumbent's", *_log_losses(figures, "incumbent")
    if "incumbent" not in figures.bundles:
        return Check(name, "not asked", "no incumbent")
    if found is None or not rival:
        return Check(name, "not judged", _why_not(figures, "incumbent"))
    share, limit = found.high / rival, settings.max_log_loss_rise
    said = f"log loss {_shown(found)} over the incumbent's {rival:.4f}; the upper end may be {limit:+.1%} of that"
    return _check(name, share <= limit, said)


def _calibration(figures: Figures, settings: GateSettings) -> Check:
    """On mature labels where there are enough positives, else on all of the day's as known at the cut."""
    name, everything = "calibrated", figures.slices.get("all")
    candidate = everything.of.get("candidate") if everything else None
    if everything is None or candidate is None:
        return Check(name, "not judged", "no figures of the candidate on all requests")
    mature = everything.positives_mature >= settings.min_mature_positives
    found = candidate.calibration_mature if mature else candidate.calibration
    which = f"on mature labels, {everything.positives_mature} positives" if mature else _unripe(everything, settings)
    if found is None:
        return Check(name, "not judged", f"{which}: no positive to compare with")
    allowed = f"1 ± {settings.max_calibration_error} is allowed"
    passed = abs(found - 1) <= settings.max_calibration_error
    return _check(name, passed, f"predicted over actual {found:.3f} {which}; {allowed}")


def _unripe(everything: DaySlice, settings: GateSettings) -> str:
    few = f"{everything.positives_mature} positives are mature, {settings.min_mature_positives} would be needed"
    return f"on all labels as known at the cut, {everything.positives} positives ({few})"


def _check(name: str, passed: bool, said: str) -> Check:
    return Check(name, "holds" if passed else "fails", said)


def _auc(figures: Figures, other: str) -> Interval | None:
    compared = figures.over.get(other)
    return compared.auc.get("all") if compared else None


def _log_losses(figures: Figures, other: str) -> tuple[Interval | None, float | None]:
    """The difference of the log losses, and the other bundle's."""
    compared, everything = figures.over.get(other), figures.slices.get("all")
    rival = everything.of.get(other) if everything else None
    return (compared.log_loss.get("all") if compared else None), (rival.log_loss if rival else None)


def _why_not(figures: Figures, other: str) -> str:
    """Why the candidate cannot be compared with another bundle."""
    everything = figures.slices.get("all")
    if other not in figures.bundles or other not in figures.over or everything is None:
        return f"no comparison with {other}"
    if not everything.candidates:
        return "nothing was shown"
    if everything.positives in (0, everything.candidates):
        return f"one class only: {everything.positives} of {everything.candidates} candidates are positives"
    return f"no comparison with {other}"


def _shown(found: Interval) -> str:
    return f"{found.value:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"
