"""What the lived day says: arms with their intervals, latencies, and the swap on a time line."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from freshrank.demo.live import Answered
from freshrank.demo.plan import ARMS, EXPERIMENT

CONTROL = "popularity"


def arm_of(row: Answered) -> str:
    """The arm of an answered request; empty where the answer names none."""
    return row.experiments.get(EXPERIMENT, "")


def arms(rows: Sequence[Answered], expected: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    """Requests, conversion and money by arm.

    Args:
        rows: The lived day.
        expected: Request id → true expected purchases of the list that was shown.

    Returns:
        Arm → figures. Conversion is the share of requests with a purchase; GMV in minor units. The relative effects
        against popularity are ratios of means by user, who is the unit of assignment, with 95% intervals (delta
        method); the uniform arm is a logging policy and left out of them.
    """
    found: dict[str, dict[str, Any]] = {}
    for arm in ARMS:
        mine = [row for row in rows if arm_of(row) == arm and row.status == 200]
        if not mine:
            continue
        truth = [expected[row.request_id] for row in mine if row.request_id in expected]
        found[arm] = {
            "requests": len(mine),
            "users": len({row.user_id for row in mine}),
            "fallbacks": sum(row.fallback is not None for row in mine),
            "purchases": sum(len(row.purchases) for row in mine),
            "conversion": sum(bool(row.purchases) for row in mine) / len(mine),
            "purchases_per_request": sum(len(row.purchases) for row in mine) / len(mine),
            "gmv_minor": sum(sum(row.purchases.values()) for row in mine),
            "gmv_minor_per_request": sum(sum(row.purchases.values()) for row in mine) / len(mine),
            "true_expected_purchases": sum(truth) / len(truth) if truth else None,
        }
    for arm, effects in _effects(rows).items():
        found[arm] |= effects
    return found


def _effects(rows: Sequence[Answered]) -> dict[str, dict[str, Any]]:
    by_user: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0] * 4)
    for row in rows:
        if row.status == 200 and arm_of(row) not in ("", "uniform"):
            sums = by_user[arm_of(row), row.user_id]
            sums[0] += 1
            sums[1] += bool(row.purchases)
            sums[2] += len(row.purchases)
            sums[3] += sum(row.purchases.values())
    compared = {arm for arm, _ in by_user}
    if CONTROL not in compared or len(compared) < 2 or len(by_user) < 2 * len(compared):
        return {}
    import pyarrow as pa
    import tea_tasting

    columns = list(zip(*by_user.values(), strict=True))
    table = pa.table(
        {
            "variant": [arm for arm, _ in by_user],
            "requests": columns[0],
            "conversion": columns[1],
            "purchases": columns[2],
            "gmv": columns[3],
        }
    )
    names = ("conversion", "purchases", "gmv")
    experiment = tea_tasting.Experiment({name: tea_tasting.RatioOfMeans(name, "requests") for name in names})
    effects: dict[str, dict[str, Any]] = {}
    for arm in sorted(compared - {CONTROL}):
        pair = table.filter(pa.compute.is_in(table["variant"], pa.array([arm, CONTROL])))
        result = experiment.analyze(pair, control=CONTROL)
        effects[arm] = {
            f"{name}_effect": {
                "relative": float(result[name].rel_effect_size),
                "low": float(result[name].rel_effect_size_ci_lower),
                "high": float(result[name].rel_effect_size_ci_upper),
                "p": float(result[name].pvalue),
            }
            for name in names
        }
    return effects


def quantile(values: Sequence[float], share: float) -> float | None:
    """The smallest value that at least this share of the values does not exceed; None of nothing.

    Example:
        >>> quantile([1.0, 2.0, 3.0, 4.0], 0.5)
        2.0
    """
    import math

    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


def swap(rows: Sequence[Answered]) -> dict[str, Any]:
    """What requesters saw of the swap.

    Args:
        rows: Requests that came in while the second run deployed.

    Returns:
        Requests, errors (no answer, another status than 200, or a fallback of the model's arm), and each change of the
        version that answered the model's arm, with its second.
    """
    changes: list[dict[str, Any]] = []
    for row in rows:
        if arm_of(row) == "camenn" and row.status == 200:
            version = row.triton_version
            if not changes or changes[-1]["version"] != version:
                changes.append({"wall_s": row.wall_s, "version": version, "bundle": row.bundle_id})
    return {
        "requests": len(rows),
        "errors": sum(row.status != 200 for row in rows),
        "fallbacks": sum(row.fallback is not None for row in rows),
        "changes": changes,
    }
