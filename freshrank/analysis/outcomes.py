"""What became of the requests of a span: each credited with clicks and purchases as labels credit them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from features import facts
from features.labels.attribution import NAMED_LOOKBACK_US, attribute
from features.layout import Layout
from features.times import DAY
from freshrank.analysis.impressions import Span

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


@contextlib.contextmanager
def outcomes(layout: Layout, span: Span, horizon_us: int) -> Iterator[DuckDBPyConnection]:
    """A connection that knows what became of the requests of a span.

    Args:
        layout: Where the log lies.
        span: Which requests, and when what followed must have been known.
        horizon_us: What comes later after a request is not credited to it, µs.

    Yields:
        A connection with `requests` (request_id, user_id, event_time, policy, bundle_id, items), `assigned`
        (request_id, experiment, arm: a row for each experiment that a request was part of) and `credited` (request_id,
        item_id, kind as in `features.facts`, amount_minor: each once).

    Raises:
        NotReadyError: If the event log does not hold every fact known by then.
    """
    facts.need_complete(layout, span.known_before)
    with facts.connection(layout) as con:
        first, last = span.from_us, span.to_us + horizon_us
        known = span.known_before
        facts.load_impressions(con, layout, known_before_us=known, from_us=first - NAMED_LOOKBACK_US, to_us=last)
        facts.load_actions(con, layout, known_before_us=known, from_us=first - DAY, to_us=last)
        attribute(con, from_us=span.from_us, to_us=span.to_us, horizon_us=horizon_us)
        con.execute(
            f"""CREATE OR REPLACE TABLE requests AS
            SELECT request_id, user_id, event_time, policy, bundle_id, items, experiments FROM f_impressions
            WHERE event_time >= {span.from_us} AND event_time < {span.to_us}"""
        )
        con.execute(
            """CREATE OR REPLACE TABLE assigned AS
            SELECT request_id, entry.key AS experiment, entry.value AS arm
            FROM (SELECT request_id, unnest(map_entries(experiments::JSON::MAP(VARCHAR, VARCHAR))) AS entry
                  FROM requests WHERE experiments IS NOT NULL)"""
        )
        con.execute(
            f"""CREATE OR REPLACE TABLE credited AS
            SELECT request_id, item_id, kind, sum(amount_minor) AS amount_minor
            FROM credits SEMI JOIN requests USING (request_id) WHERE delay_us < {horizon_us} GROUP BY ALL"""
        )
        yield con
