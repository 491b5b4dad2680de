"""Listings as last known."""

from __future__ import annotations

from dataclasses import dataclass

from features.database import connect
from features.eventlog.read import EventLog
from features.layout import Layout


@dataclass(frozen=True)
class Listing:
    """What is known of a listing.

    Args:
        title: Its title; empty where it has none.
        photo: Its photo's URI; empty where it has none.
        category: Its category; empty where it has none.
    """

    title: str = ""
    photo: str = ""
    category: str = ""


def listings(layout: Layout, known_before: int) -> dict[str, Listing]:
    """Every listing as last known; one that is gone, as it was before.

    Args:
        layout: Where the log lies.
        known_before: Only facts with an earlier known time count, µs UTC.

    Raises:
        NotReadyError: If no listing was ever ingested.
    """
    with connect() as con:
        view = EventLog(layout).relation(con, "items", known_before)
        rows = con.sql(
            f"SELECT item_id, arg_max(coalesce(title, ''), known_time), arg_max(coalesce(image_uri, ''), known_time), "
            f"arg_max(coalesce(category_id, ''), known_time) FROM {view} WHERE NOT gone GROUP BY 1"
        ).fetchall()
    return {str(item): Listing(title, photo, category) for item, title, photo, category in rows}
