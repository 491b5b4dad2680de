"""The swap and the worth of lists are computed from what requesters saw, by hand where the numbers are small."""

from __future__ import annotations

from typing import Any

from freshrank.demo.live import Answered
from freshrank.report import lived


def row(number: int, arm: str, purchases: dict[str, int], **values: Any) -> Answered:
    base: dict[str, Any] = {"time_us": number, "wall_s": float(number), "latency_ms": 10.0, "status": 200}
    base |= {"request_id": f"r{number}", "user_id": f"u{number}", "experiments": {"ranker": arm}}
    return Answered(**(base | {"purchases": purchases} | values))


def test_what_lists_were_worth_is_a_mean_of_each_arm_that_answered() -> None:
    rows = [row(1, "green", {}), row(2, "green", {}), row(3, "red", {}), row(4, "red", {}, status=503)]
    found = lived.true_values(rows, {"r1": 0.5, "r2": 0.1, "r3": 0.2, "r4": 0.9})
    assert found == {("ranker", "green"): 0.3, ("ranker", "red"): 0.2}


def test_the_swap_counts_errors_and_names_each_change() -> None:
    rows = [
        row(1, "green", {}, triton_version=1, bundle_id="a"),
        row(2, "red", {}, triton_version=None),
        row(3, "green", {}, triton_version=1, bundle_id="a"),
        row(4, "green", {}, status=503),
        row(5, "green", {}, triton_version=2, bundle_id="b", fallback="popularity"),
    ]
    seen = lived.swap(rows, "ranker", "green")
    assert (seen["requests"], seen["errors"], seen["fallbacks"]) == (5, 1, 1)
    assert [change["version"] for change in seen["changes"]] == [1, 2]


def test_quantiles() -> None:
    assert lived.quantile([], 0.5) is None
    assert lived.quantile(list(range(1, 101)), 0.99) == 99
