"""Attribution against a plain rereading of the rule, on random small worlds."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from features.database import connect
from features.labels.attribution import NAMED_LOOKBACK_US, attribute
from features.times import DAY, HOUR

HORIZON = 4 * HOUR
START, END = 60 * DAY, 61 * DAY
times = st.integers(-6, 30).map(lambda hours: START + hours * HOUR)
shown = st.tuples(times, st.sampled_from("uv"), st.sets(st.sampled_from("abc"), min_size=1))
actions = st.tuples(
    times, st.sampled_from("uv"), st.sampled_from("abc"), st.integers(0, 2), st.none() | st.integers(0, 7)
)


def credited(impressions: list[Any], done: list[Any]) -> list[tuple[str, str, int]]:
    con = connect()
    lists = [
        {
            "request_id": f"r{number}", "user_id": user, "event_time": time,
            "items": [{"item_id": item} for item in sorted(items)],
        }
        for number, (time, user, items) in enumerate(impressions)
    ]  # fmt: skip
    acts = [
        {
            "kind": kind, "event_id": f"e{number}", "request_id": None if named is None else f"r{named}",
            "user_id": user, "item_id": item, "event_time": time, "amount_minor": 1,
        }
        for number, (time, user, item, kind, named) in enumerate(done)
    ]  # fmt: skip
    items = pa.list_(pa.struct([("item_id", pa.string())]))
    text, i64 = pa.string(), pa.int64()
    con.register(
        "f_impressions",
        pa.Table.from_pylist(
            lists, pa.schema([("request_id", text), ("user_id", text), ("event_time", i64), ("items", items)])
        ),
    )
    names = [("event_id", text), ("request_id", text), ("user_id", text), ("item_id", text), ("event_time", i64)]
    con.register(
        "f_actions", pa.Table.from_pylist(acts, pa.schema([("kind", pa.int8()), *names, ("amount_minor", i64)]))
    )
    attribute(con, from_us=START, to_us=END, horizon_us=HORIZON)
    found: list[tuple[str, str, int]] = con.execute(
        "SELECT event_id, request_id, delay_us FROM credits ORDER BY ALL"
    ).fetchall()
    con.close()
    return found


def rule(impressions: list[Any], done: list[Any]) -> list[tuple[str, str, int]]:
    """The rule as the documentation says it, one action after the other."""
    credits = []
    for number, (time, user, item, _, named) in enumerate(done):
        if not START - HOUR <= time < END + HORIZON:
            continue  # belongs to other days
        if named is not None and named < len(impressions):
            at, _, items = impressions[named]
            if item in items and time - NAMED_LOOKBACK_US < at <= time + HOUR:
                credits.append((f"e{number}", f"r{named}", max(time - at, 0)))
                continue
        before = [
            (at, f"r{index}")
            for index, (at, who, items) in enumerate(impressions)
            if who == user and item in items and 0 <= time - at < HORIZON
        ]
        if before:
            at, request = max(before)
            credits.append((f"e{number}", request, time - at))
    return sorted(credits)


@given(st.lists(shown, max_size=8), st.lists(actions, max_size=12))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_each_action_belongs_to_one_request_by_the_rule(impressions: list[Any], done: list[Any]) -> None:
    found = credited(impressions, done)
    assert len({event for event, _, _ in found}) == len(found), "an action was credited twice"
    assert found == rule(impressions, done)
