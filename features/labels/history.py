"""What users had done before a cutoff: the same query for labelled requests and for what is served."""

from __future__ import annotations

from typing import TYPE_CHECKING

from features.facts import PURCHASE
from features.times import DAY

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MAX_BUYS = 50
MAX_BEHAVIOURS = 100
LOOKBACK_US = 90 * DAY  # nothing older enters a history


def build_histories(con: DuckDBPyConnection, cutoffs: str) -> None:
    """Make the table `histories`: for each user and cutoff, what was known and had happened strictly before the cutoff.

    Columns: user_id, cutoff, buys (list of structs: item, at, request, category, shop), behaviours (list of structs:
    item, type, at, request); oldest first, the newest 50 and 100. Users without any are not in it. Category and shop
    are those of the item's last listing known before the cutoff.

    Args:
        con: A connection with `f_actions` and `f_items`.
        cutoffs: Name of a table with the columns user_id and cutoff (µs), each pair once.
    """
    con.execute(
        f"""CREATE OR REPLACE TABLE history_actions AS
        SELECT c.cutoff, a.user_id, a.kind, a.item_id, a.event_time, a.event_id, a.request_id
        FROM {cutoffs} c JOIN f_actions a
          ON a.user_id = c.user_id AND a.known_time < c.cutoff AND a.event_time < c.cutoff
             AND a.event_time >= c.cutoff - {LOOKBACK_US}
        QUALIFY row_number() OVER (PARTITION BY a.user_id, c.cutoff ORDER BY a.event_time DESC, a.event_id DESC, a.kind)
                <= {MAX_BEHAVIOURS}
             OR (a.kind = {PURCHASE} AND {MAX_BUYS} >= row_number() OVER (
                 PARTITION BY a.user_id, c.cutoff, a.kind ORDER BY a.event_time DESC, a.event_id DESC))"""
    )
    con.execute(
        f"""CREATE OR REPLACE TABLE histories AS
        WITH listed AS (
            SELECT h.*, v.category_id AS category, v.shop_id AS shop
            FROM history_actions h ASOF LEFT JOIN f_items v ON h.item_id = v.item_id AND h.cutoff > v.known_time
        )
        SELECT user_id, cutoff,
            coalesce(list(struct_pack(item := item_id, at := event_time, request := request_id,
                                      category := category, shop := shop) ORDER BY event_time, event_id)
                     FILTER (kind = {PURCHASE}), [])[-{MAX_BUYS}:] AS buys,
            list(struct_pack(item := item_id, type := kind, at := event_time, request := request_id)
                 ORDER BY event_time, event_id, kind DESC)[-{MAX_BEHAVIOURS}:] AS behaviours
        FROM listed GROUP BY user_id, cutoff"""
    )
    con.execute("DROP TABLE history_actions")
