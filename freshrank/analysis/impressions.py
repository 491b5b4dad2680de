"""Impressions of the event log, as every analysis reads them: of a span of time, as known at a moment."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from features import facts
from features.eventlog.read import EventLog
from features.layout import Layout
from features.times import DAY, day_start, run_cut

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


@dataclass(frozen=True)
class Span:
    """Requests of a span of time, and what was known of them at a moment.

    Args:
        from_us: The first event time, µs UTC.
        to_us: Event times end before this, µs UTC.
        known_before: Only facts with an earlier known time count, µs UTC.
    """

    from_us: int
    to_us: int
    known_before: int

    @classmethod
    def of_day(cls, day: dt.date) -> Span:
        """A UTC day, as known at the cut of its run.

        Example:
            >>> span = Span.of_day(dt.date(1970, 1, 1))
            >>> span.from_us, span.to_us // 3_600_000_000, span.known_before // 3_600_000_000
            (0, 24, 26)
        """
        start = day_start(day)
        return cls(start, start + DAY, run_cut(day))


@dataclass(frozen=True)
class Logged:
    """An impression with the features that the gateway saw.

    Args:
        request_id: The request.
        event_time: When, µs UTC.
        scores: Of the shown items, first place first; None where there is none.
        features_seen: Raw columns; those of candidates have a value for each shown item, in the list's order.
    """

    request_id: str
    event_time: int
    scores: tuple[float | None, ...]
    features_seen: dict[str, object]


@contextlib.contextmanager
def reading(layout: Layout, span: Span) -> Iterator[DuckDBPyConnection]:
    """A connection with the view `impressions` of a span.

    Yields:
        The connection; it spills to disk what does not fit into its memory.

    Raises:
        NotReadyError: If the event log does not hold every fact known by then, or was never ingested.
    """
    facts.need_complete(layout, span.known_before)
    with facts.connection(layout) as con:
        EventLog(layout).relation(con, "impressions", span.known_before, span.from_us, span.to_us)
        yield con


def logged(con: DuckDBPyConnection, where: str = "true", order: str = "event_time, request_id") -> Iterator[Logged]:
    """Impressions that log the features seen.

    Args:
        con: A connection of `reading`, free until the last impression.
        where: SQL of which ones.
        order: SQL of their order, and `LIMIT` where it is wanted.

    Yields:
        One impression after the other; a few hundred are in memory.
    """
    query = (
        "SELECT request_id, event_time, list_transform(items, lambda x: x.score) AS scores, features_seen "
        f"FROM impressions WHERE features_seen IS NOT NULL AND {where} ORDER BY {order}"
    )
    reader: Any = con.sql(query).to_arrow_reader(200)
    for batch in reader:
        for row in batch.to_pylist():
            seen = json.loads(row["features_seen"])
            yield Logged(row["request_id"], row["event_time"], tuple(row["scores"]), seen)
