"""No feature and no label knows the future: facts that became known later change nothing."""

from __future__ import annotations

import datetime as dt
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features import facts
from features.labels import requests
from features.settings import FeatureSettings
from features.store.snapshot import snapshots
from features.times import DAY, HOUR, MINUTE
from tests.lake import Lake, us

pytestmark = pytest.mark.slow

FEATURES = FeatureSettings()
TODAY = dt.date(2026, 1, 8)
CUT = us("01-09 02:00")
NOON = us("01-08 14:00")
CUTOFF = us("01-08 02:00")  # what most requests of the day were served from
quarters = st.integers(-48, 48).map(lambda quarter: CUTOFF + quarter * 15 * MINUTE)  # half a day before it and after
users, items = st.sampled_from("uv"), st.sampled_from("abc")
facts_of_world = st.lists(
    st.tuples(
        st.sampled_from(("buy", "buy", "click", "cart", "item", "item", "user", "gone", "show")),
        users, items, quarters, st.integers(-2, 48).map(lambda quarter: quarter * 15 * MINUTE),
    ),
    min_size=15, max_size=30,
).map(
    # always some requests to be looked at, known at once and late, and listings from the beginning
    lambda happened: happened
    + [("show", user, "a", CUTOFF + hour * HOUR, delay * HOUR) for user in "uv" for hour, delay in ((3, 0), (10, 5))]
    + [("item", "u", item, CUTOFF - DAY, 0) for item in "abc"]
)  # fmt: skip


def tell(lake: Lake, happened: list[Any], *, from_us: int = 0, until_us: int = 10**18) -> None:
    """Add the facts that became known within a span; times are told apart by their number."""
    for number, (what, user, item, at, delay) in enumerate(happened):
        at, known = at + number, at + number + delay
        if not from_us <= known < until_us:
            continue
        if what == "show":
            lake.show(f"r{number}", user, ["a", "b", "c"], at, known)
        elif what == "item":
            lake.item(item, at, known, price_minor=number, category_id=f"k{number}")
        elif what == "user":
            lake.add("users", user, at, known, user_id=user, profile={"zone": f"z{number}"})
        elif what == "gone":
            lake.gone("items", item, known)
        else:
            {"click": lake.click, "cart": lake.cart, "buy": lake.buy}[what](user, item, at, known)


def snapshot_bytes(lake: Lake) -> list[bytes]:
    layout = lake.write()
    with facts.connection(layout) as con:
        (made,) = snapshots(con, layout, FEATURES, [CUTOFF])
    return [made.users.read_bytes(), made.items.read_bytes()]


def day_rows(lake: Lake, cut: int) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    layout = lake.write()
    file = lake.root / "day.parquet"
    with facts.connection(layout) as con:
        requests.load(con, layout, [TODAY], cut_us=cut, horizon_us=DAY)
        requests.write_day(con, FEATURES, TODAY, cut_us=cut, horizon_us=DAY, file=file)
    rows: list[dict[str, Any]] = pq.read_table(file).to_pylist()
    return rows


@given(facts_of_world)
@settings(max_examples=8, deadline=None, derandomize=True)
def test_a_snapshot_knows_nothing_from_the_cut_on(happened: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        then, later = Lake(Path(folder) / "then"), Lake(Path(folder) / "later")
        tell(then, happened, until_us=CUTOFF)
        tell(later, happened)
        tell(
            later,
            [("buy", "u", "a", CUTOFF - 1, 1), ("item", "u", "a", CUTOFF - 1, 1), ("user", "u", "a", CUTOFF - 1, 1)],
        )
        assert snapshot_bytes(then) == snapshot_bytes(later)


@given(facts_of_world, st.integers(0, 48))
@settings(max_examples=8, deadline=None, derandomize=True)
def test_inputs_of_a_request_know_nothing_from_its_cutoff_on(happened: list[Any], quarters: int) -> None:
    """Of two worlds that differ only in what became known from a moment on, earlier cutoffs see the same."""
    turn = CUTOFF + quarters * 15 * MINUTE
    with tempfile.TemporaryDirectory() as folder:
        one, other = Lake(Path(folder) / "one"), Lake(Path(folder) / "other")
        tell(one, happened)
        tell(other, happened, until_us=turn)
        seen = {row["request_id"]: row for row in day_rows(one, CUT)}
        for row in day_rows(other, CUT):
            if row["feature_cutoff"] <= turn:
                names = [name for name in row if name.startswith(("buy_", "beh_", "ctx_", "cand_item"))]
                if min(row["event_time"], row["known_time"]) < turn:
                    names += ["cand_text_sha", "cand_image_sha"]
                assert {name: row[name] for name in names} == {name: seen[row["request_id"]][name] for name in names}
            assert all(time < row["feature_cutoff"] for time in row["buy_time"] + row["beh_time"])
            assert row["feature_cutoff"] <= min(row["event_time"], row["known_time"])


@given(facts_of_world)
@settings(max_examples=8, deadline=None, derandomize=True)
def test_labels_know_nothing_from_the_cut_on(happened: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        then, later = Lake(Path(folder) / "then"), Lake(Path(folder) / "later")
        tell(then, happened, until_us=NOON)
        tell(later, happened)
        tell(later, [("buy", user, item, NOON - HOUR, HOUR) for user in "uv" for item in "abc"])
        assert day_rows(then, NOON) == day_rows(later, NOON)
