"""The content of every listing that the event log knew before a moment."""

from __future__ import annotations

from collections.abc import Iterator

from features import facts
from features.content.encode import Item
from features.layout import Layout

_ALWAYS = 2**62  # µs; later than any known time


def known_items(layout: Layout, known_before_us: int | None) -> Iterator[Item]:
    """Every title, description and photo that a listing has had: requests need those of their own time, too.

    Args:
        layout: Where the event log lies.
        known_before_us: Only facts with an earlier known time; None for all.

    Yields:
        Distinct contents, in an order that does not change.
    """
    with facts.connection(layout) as con:
        facts.load_items(con, layout, known_before_us=_ALWAYS if known_before_us is None else known_before_us)
        query = "SELECT DISTINCT title, description, image_uri FROM f_items WHERE NOT gone ORDER BY ALL"
        for batch in facts.batches(con, query):
            for row in batch.to_pylist():
                yield Item(row["title"], row["description"], row["image_uri"])
