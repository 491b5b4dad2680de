"""What the truth says of rankings, by hand."""

from __future__ import annotations

import pyarrow as pa
import pytest

from simulator.city.known import Known

RELEVANCE = {"r1": {"a": 0.4, "b": 0.2, "c": 0.1}, "r2": {"a": 0.1, "b": 0.3, "c": 0.2}}
KNOWN = Known(pa.table({}), {"a": "wrong_title", "c": "blurred"}, RELEVANCE, examination=1.0)


def test_a_list_is_worth_what_is_looked_at_in_it() -> None:
    found = KNOWN.expected({"r1": ["a", "b"], "r2": ["b", "a", "c"], "unknown": ["a"]})
    assert found == pytest.approx({"r1": 0.4 + 0.2 / 2, "r2": 0.3 + 0.1 / 2 + 0.2 / 3})


def test_any_two_arms_are_compared_on_the_same_requests() -> None:
    lists = {
        "r1": {"new": ["a", "b"], "old": ["b", "a"], "other": ["c", "b"]},
        "r2": {"new": ["a", "b"], "old": ["a", "c"]},
        "half": {"new": ["a"]},
        "unknown": {"new": ["a"], "old": ["b"]},
    }
    found = KNOWN.paired(lists, "new", "old")
    assert found["requests"] == 2
    new, old = (0.5 + 0.25) / 2, (0.4 + 0.2) / 2
    assert found["means"] == pytest.approx({"new": new, "old": old, "other": 0.2, "oracle": (0.5 + 0.4) / 2})
    difference = found["new_minus_old"]
    assert difference["mean"] == pytest.approx(new - old)
    assert difference["low"] <= difference["mean"] <= difference["high"]
    assert KNOWN.paired({"r1": {"new": ["a"]}}, "new", "old") == {}


def test_suspects_are_checked_against_the_dirt() -> None:
    suspects = [("a", 0.1), *((f"clean{number}", 0.5) for number in range(18)), ("c", 0.9)]
    found = KNOWN.precision(suspects)
    assert (found["listings"], found["dirty_share"], found["wrong_share"]) == (20, 0.1, 0.05)
    assert (found["dirty_among_first_5_percent"], found["dirty_among_first_10_percent"]) == (1.0, 0.5)
    assert (found["wrong_among_first_5_percent"], found["wrong_among_first_10_percent"]) == (1.0, 0.5)
