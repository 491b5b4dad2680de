"""Facts: what was known before a moment, wherever its event lies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from features import facts
from features.layout import Layout
from features.times import DAY
from tests.lake import Lake, us

KNOWN, CUT, HAPPENED = us("01-08 23:20"), us("01-08 23:30"), us("01-09 00:20")  # an hour ahead, of the next day


def loaded(layout: Layout, load: Callable[..., None], table: str, **span: int) -> int:
    with facts.connection(layout) as con:
        load(con, layout, known_before_us=CUT, **span)
        return int(con.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0])


@pytest.mark.parametrize(
    ("load", "table", "span"),
    [
        (facts.load_impressions, "f_impressions", {"from_us": HAPPENED - DAY, "to_us": HAPPENED + DAY}),
        (facts.load_actions, "f_actions", {"from_us": HAPPENED - DAY, "to_us": HAPPENED + DAY}),
        (facts.load_items, "f_items", {}),
        (facts.load_users, "f_users", {}),
    ],
)
def test_a_fact_whose_clock_is_an_hour_ahead_is_read_from_the_day_it_claims(
    tmp_path: Path, load: Any, table: str, span: dict[str, int]
) -> None:
    """Known before the cut, of the day after it: a reader that opens no day beyond the cut's own would lose it."""
    lake = Lake(tmp_path)
    lake.show("r", "u", ["a"], HAPPENED, KNOWN)
    lake.click("u", "a", HAPPENED, KNOWN)
    lake.item("a", HAPPENED, KNOWN)
    lake.add("users", "u", HAPPENED, KNOWN, user_id="u")
    assert loaded(lake.write(), load, table, **span) == 1
