"""Up to which moment the event log is complete: `state/ingested_until`, written by `ingest --until` alone."""

from __future__ import annotations

import time

import pyarrow as pa
from deltalake import DeltaTable

from features.atomic import write_bytes
from features.errors import NotReadyError
from features.events import EVENTS
from features.layout import Layout
from features.times import format_us


def complete_until(layout: Layout) -> int | None:
    """The newest known time up to which an `ingest --until` has completed the log; None if there was none."""
    file = layout.state / "ingested_until"
    return int(file.read_text(encoding="utf-8")) if file.exists() else None


def note_complete(layout: Layout, until: int) -> None:
    """Write down that everything known before a moment is in the log.

    Args:
        layout: Where the log lies.
        until: The moment, µs UTC.

    Raises:
        NotReadyError: If the moment has not come: it lies beyond both the machine's clock and the newest record.
    """
    if until > (clock := time.time_ns() // 1000) and until > (newest := newest_known(layout)):
        there = f"the newest record is of {format_us(newest)}" if newest else "there is no record yet"
        raise NotReadyError(
            f"this moment has not come: it is {format_us(clock)}, and {there}",
            field="--until", value=format_us(until), remedy="name a moment that has passed, or wait for it",
        )  # fmt: skip
    if until > (complete_until(layout) or 0):
        write_bytes(layout.state / "ingested_until", f"{until}\n".encode())


def newest_known(layout: Layout) -> int:
    """The newest known time in the log, µs UTC, by the statistics of its files; 0 if it is empty."""
    newest = 0
    for topic in EVENTS:
        if layout.table(topic).exists():
            actions = pa.table(DeltaTable(layout.table(topic)).get_add_actions(flatten=True))
            if "max.known_time" in actions.column_names:
                newest = max([newest, *(high for high in actions["max.known_time"].to_pylist() if high is not None)])
    return newest
