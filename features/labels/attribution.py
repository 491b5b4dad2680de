"""Which shown item a click, a cart or a purchase belongs to: exactly one, or none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from features.events import MAX_CLOCK_SKEW_US
from features.times import DAY

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

NAMED_LOOKBACK_US = 30 * DAY  # an action may name a request that old; a name beyond it counts as unknown


def attribute(con: DuckDBPyConnection, *, from_us: int, to_us: int, horizon_us: int) -> None:
    """Make the table `credits`: which request each action belongs to, and how long after it the action came.

    By request id, where that request showed the item; else the last list that showed the item to the user within the
    horizon before the action, by event time. Columns: event_id, kind, request_id, item_id, delay_us (never negative: a
    named request's clock may be ahead), amount_minor. Complete for requests of the span; others may be in it too.

    Args:
        con: A connection with `f_impressions` (from 30 days before the span to a horizon after it) and `f_actions`.
        from_us: Start of the requests' event times.
        to_us: End of them.
        horizon_us: The label horizon.
    """
    first, end = from_us - MAX_CLOCK_SKEW_US, to_us + horizon_us
    con.execute(
        f"""CREATE OR REPLACE TABLE shown AS
        SELECT request_id, user_id, unnest(items).item_id AS item_id, event_time FROM f_impressions
        WHERE event_time >= {first - NAMED_LOOKBACK_US} AND event_time < {end}"""
    )
    con.execute(
        f"""CREATE OR REPLACE TABLE credits AS
        WITH actions AS (SELECT * FROM f_actions WHERE event_time >= {first} AND event_time < {end}),
        named AS (
            SELECT a.event_id, a.kind, s.request_id, s.item_id,
                   greatest(a.event_time - s.event_time, 0) AS delay_us, a.amount_minor
            FROM actions a JOIN shown s ON s.request_id = a.request_id AND s.item_id = a.item_id
            WHERE s.event_time <= a.event_time + {MAX_CLOCK_SKEW_US}
              AND s.event_time > a.event_time - {NAMED_LOOKBACK_US}
        ),
        unnamed AS (SELECT * FROM actions a ANTI JOIN named n ON n.event_id = a.event_id AND n.kind = a.kind),
        lists AS (  -- where two lists of one moment show the item, one of them, always the same
            SELECT user_id, item_id, event_time, max(request_id) AS request_id FROM shown GROUP BY ALL
        )
        SELECT * FROM named
        UNION ALL
        SELECT a.event_id, a.kind, s.request_id, s.item_id, a.event_time - s.event_time, a.amount_minor
        FROM unnamed a ASOF JOIN lists s
          ON s.user_id = a.user_id AND s.item_id = a.item_id AND s.event_time <= a.event_time
        WHERE a.event_time - s.event_time < {horizon_us}"""
    )
    con.execute("DROP TABLE shown")
