"""What only the demo's client saw: which version answered, errors and latencies, and what its lists were worth."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from features.encoded import JsonObject
from freshrank.demo.live import Answered


def true_values(rows: Sequence[Answered], expected: Mapping[str, float]) -> dict[tuple[str, str], float]:
    """What an arm's lists were worth by the truth.

    Args:
        rows: Answered requests.
        expected: Request id → true expected purchases of the list that was shown.

    Returns:
        (experiment, arm) → mean true expected purchases; arms without a request that is known are left out.
    """
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in rows:
        if row.status == 200 and row.request_id in expected:
            for assigned in row.experiments.items():
                found[assigned].append(expected[row.request_id])
    return {assigned: sum(values) / len(values) for assigned, values in found.items()}


def quantile(values: Sequence[float], share: float) -> float | None:
    """The smallest value that at least this share of the values does not exceed; None of nothing.

    Example:
        >>> quantile([1.0, 2.0, 3.0, 4.0], 0.5)
        2.0
    """
    import math

    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


def swap(rows: Sequence[Answered], experiment: str, arm: str) -> JsonObject:
    """What requesters saw of the swap.

    Args:
        rows: Requests that came in while the second run deployed.
        experiment: The experiment.
        arm: Its arm that the champion ranks.

    Returns:
        Requests, errors (no answer, or another status than 200), fallbacks, and each change of the version that
        answered that arm, with its second.
    """
    changes: list[dict[str, object]] = []
    for row in rows:
        if row.experiments.get(experiment) == arm and row.status == 200:
            version = row.triton_version
            if not changes or changes[-1]["version"] != version:
                changes.append({"wall_s": row.wall_s, "version": version, "bundle": row.bundle_id})
    return {
        "requests": len(rows),
        "errors": sum(row.status != 200 for row in rows),
        "fallbacks": sum(row.fallback is not None for row in rows),
        "changes": changes,
    }
