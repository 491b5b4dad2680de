"""What came in, and what became of it: counts by day, delays, listings."""

from __future__ import annotations

import datetime as dt
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
        rows = con.sql(f"SELECT event_date::VARCHAR, count(*) FROM {view} GROUP BY 1 ORDER BY 1").fetchall()  # noqa: S608
        found[topic] = {str(day): int(count) for day, count in rows}
    return found


def requests_by_day(layout: Layout) -> dict[str, dict[str, int]]:
    """Labelled requests by day: requests, shown, clicked, purchased."""
    rows = _requests(
        layout,
        "SELECT event_date::VARCHAR, count(*), sum(len(cand_item)), sum(list_sum(clicked)), sum(list_sum(purchased)) "
        "FROM requests GROUP BY 1 ORDER BY 1",
    )
    return {
        str(day): {"requests": int(n), "shown": int(shown), "clicked": int(clicked), "purchased": int(bought)}
        for day, n, shown, clicked, bought in rows
    }


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


def titles(layout: Layout, until: dt.date) -> dict[str, dict[str, Any]]:
    """Listings as last known: title, photo's blob hash, category, price.

    Args:
        layout: Where the log lies.
        until: The last run's day.
    """

    con = connect()
    view = EventLog(layout).relation(con, "items", known_before=run_cut(until))
    rows = con.sql(
        f"SELECT item_id, arg_max(title, known_time), arg_max(image_uri, known_time), "  # noqa: S608
        f"arg_max(category_id, known_time), arg_max(price_minor, known_time) "
        f"FROM {view} WHERE NOT gone GROUP BY 1"
    ).fetchall()
    return {
        str(item): {"title": title or "", "image_uri": uri or "", "category": category or "", "price_minor": price}
        for item, title, uri, category, price in rows
    }
