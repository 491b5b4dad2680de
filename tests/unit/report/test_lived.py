"""Arms, intervals and the swap are computed from what requesters saw, by hand where the numbers are small."""

from __future__ import annotations

from typing import Any

from freshrank.demo.live import Answered
from freshrank.report import lived


def row(number: int, arm: str, purchases: dict[str, int], **values: Any) -> Answered:
    base: dict[str, Any] = {"time_us": number, "wall_s": float(number), "latency_ms": 10.0, "status": 200}
    base |= {"request_id": f"r{number}", "user_id": f"u{number}", "experiments": {"ranker": arm}}
    return Answered(**(base | {"purchases": purchases} | values))


def test_figures_by_arm() -> None:
    rows = [
        row(1, "camenn", {"a": 300, "b": 200}),
        row(2, "camenn", {}),
        row(3, "popularity", {"a": 300}),
        row(4, "popularity", {}, status=503),
        row(5, "uniform", {}),
    ]
    found = lived.arms(rows, {"r1": 0.5, "r2": 0.1, "r3": 0.2})
    assert found["camenn"]["requests"] == 2
    assert found["camenn"]["conversion"] == 0.5
    assert found["camenn"]["gmv_minor"] == 500
    assert found["camenn"]["true_expected_purchases"] == 0.3
    assert found["popularity"]["requests"] == 1, "a request without an answer belongs to no arm"
    assert found["uniform"]["purchases"] == 0


def test_a_clear_effect_is_found_and_uniform_is_left_out() -> None:
    rows = [row(n, "camenn" if n % 2 else "popularity", {"a": 100} if n % 2 or n % 8 == 0 else {}) for n in range(400)]
    rows += [row(1000 + n, "uniform", {}) for n in range(50)]
    found = lived.arms(rows, {})
    effect = found["camenn"]["conversion_effect"]
    assert effect["low"] < 3.0 < effect["high"]
    assert effect["low"] > 0
    assert "conversion_effect" not in found["uniform"]
    assert "conversion_effect" not in found["popularity"]


def test_the_swap_counts_errors_and_names_each_change() -> None:
    rows = [
        row(1, "camenn", {}, triton_version=1, bundle_id="a"),
        row(2, "popularity", {}, triton_version=None),
        row(3, "camenn", {}, triton_version=1, bundle_id="a"),
        row(4, "camenn", {}, status=503),
        row(5, "camenn", {}, triton_version=2, bundle_id="b", fallback="popularity"),
    ]
    seen = lived.swap(rows)
    assert (seen["requests"], seen["errors"], seen["fallbacks"]) == (5, 1, 1)
    assert [change["version"] for change in seen["changes"]] == [1, 2]


def test_quantiles() -> None:
    assert lived.quantile([], 0.5) is None
    assert lived.quantile(list(range(1, 101)), 0.99) == 99
