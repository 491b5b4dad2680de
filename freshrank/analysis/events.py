"""What came in, and what became of it: counts by day, and delays."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from features.database import connect
from features.eventlog.read import EventLog
from features.events import EVENTS
from features.layout import Layout
from features.times import run_cut


def events_by_day(layout: Layout, until: dt.date) -> dict[str, dict[str, int]]:
    """Events of the log by topic and day.

    Args:
        layout: Where the log lies.
        until: The last run's day; what was known at its cut counts.

    Returns:
        Topic → day → events, repetitions left out.
    """

    log, con = EventLog(layout), connect()
    found = {}
    for topic in EVENTS:
        view = log.relation(con, topic, known_before=run_cut(until))
        rows = con.sql(f"SELECT event_date::VARCHAR, count(*) FROM {view} GROUP BY 1 ORDER BY 1").fetchall()
        found[topic] = {str(day): int(count) for day, count in rows}
    return found


@dataclass(frozen=True)
class DayCounts:
    """Labelled requests of a day.

    Args:
        requests: Requests.
        shown: Items shown.
        clicked: Those that were clicked.
        purchased: Those that were bought.
    """

    requests: int
    shown: int
    clicked: int
    purchased: int


def requests_by_day(layout: Layout) -> dict[str, DayCounts]:
    """Labelled requests by day."""
    rows = _requests(
        layout,
        "SELECT event_date::VARCHAR, count(*), sum(len(cand_item)), sum(list_sum(clicked)), sum(list_sum(purchased)) "
        "FROM requests GROUP BY 1 ORDER BY 1",
    )
    return {str(day): DayCounts(*map(int, counts)) for day, *counts in rows}


def delays(layout: Layout) -> list[float]:
    """Minutes from list to purchase, of every credited purchase."""
    rows = _requests(
        layout,
        "SELECT delay / 60.0 FROM (SELECT unnest(delay_s) AS delay FROM requests) WHERE delay IS NOT NULL ORDER BY 1",
    )
    return [float(row[0]) for row in rows]


def _requests(layout: Layout, query: str) -> list[tuple[Any, ...]]:
    from deltalake import DeltaTable

    con = connect()
    con.register("requests", DeltaTable(layout.table("requests")).to_pyarrow_dataset())
    return con.sql(query).fetchall()
