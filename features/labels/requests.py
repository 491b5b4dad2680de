"""A day's labelled requests: one row a request, with what became of each shown item."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from features import facts
from features.database import literal
from features.dictionary import arrow_schema
from features.labels.attribution import NAMED_LOOKBACK_US, attribute
from features.labels.columns import EVENT_DATE, columns
from features.labels.history import LOOKBACK_US, build_histories
from features.layout import Layout
from features.scalars import text_sql
from features.settings import FeatureSettings
from features.times import DAY, HOUR, SECOND, day_start

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

_CUT_OF_DAY_US = 2 * HOUR  # runs cut at 02:00 UTC


def serving_cutoff_sql(moment: str) -> str:
    """SQL of the newest cut (02:00 UTC) at or before a moment: what the online store would have served then.

    Args:
        moment: SQL of the moment, µs.
    """
    return f"(({moment}) - {_CUT_OF_DAY_US}) // {DAY} * {DAY} + {_CUT_OF_DAY_US}"


def schema(settings: FeatureSettings) -> pa.Schema:
    """Columns of `lake/requests`, in order."""
    return arrow_schema((*columns(settings.context), EVENT_DATE))


def load(con: DuckDBPyConnection, layout: Layout, days: Sequence[dt.date], *, cut_us: int, horizon_us: int) -> None:
    """Load what the requests of some days are made from: `f_impressions`, `f_actions`, `f_items`.

    Args:
        con: A DuckDB connection.
        layout: Where the event log lies.
        days: UTC days of the requests' event times.
        cut_us: Only facts known before it count.
        horizon_us: Label horizon.
    """
    start, end = day_start(min(days)), day_start(max(days)) + DAY + horizon_us
    facts.load_impressions(con, layout, known_before_us=cut_us, from_us=start - NAMED_LOOKBACK_US, to_us=end)
    facts.load_actions(con, layout, known_before_us=cut_us, from_us=start - DAY - LOOKBACK_US, to_us=end)
    facts.load_items(con, layout, known_before_us=cut_us)


def write_day(
    con: DuckDBPyConnection, settings: FeatureSettings, day: dt.date, *, cut_us: int, horizon_us: int, file: Path
) -> int:
    """Write the day's labelled requests, as known at the cut, to a Parquet file ordered by event_time, request_id.

    Args:
        con: A connection with what `load` made for that day, or more days.
        settings: Which fields of the context become columns.
        day: The UTC day of the requests' event times.
        cut_us: Only facts known before it count.
        horizon_us: Label horizon.
        file: The file to write.

    Returns:
        Rows written.
    """
    start = day_start(day)
    end = start + DAY
    con.execute(
        f"""CREATE OR REPLACE TABLE day_requests AS
        SELECT * EXCLUDE (feature_cutoff),
            -- a cutoff after the request itself would let its own outcome in; such a claim is not believed
            CASE WHEN feature_cutoff BETWEEN 0 AND moment THEN feature_cutoff ELSE {serving_cutoff_sql("moment")} END
                AS feature_cutoff
        FROM (SELECT *, least(event_time, known_time) AS moment FROM f_impressions
              WHERE event_time >= {start} AND event_time < {end})"""
    )
    con.execute(
        "CREATE OR REPLACE TABLE cutoffs AS SELECT DISTINCT user_id, feature_cutoff AS cutoff FROM day_requests"
    )
    build_histories(con, "cutoffs")
    attribute(con, from_us=start, to_us=end, horizon_us=horizon_us)
    _build_candidates(con, horizon_us)
    con.execute(f"COPY ({_rows(settings, cut_us, horizon_us)}) TO {literal(file)} (FORMAT parquet)")
    return int(con.execute("SELECT count(*) FROM day_requests").fetchall()[0][0])


def _build_candidates(con: DuckDBPyConnection, horizon_us: int) -> None:
    """Make `candidates`: request_id and the list of its shown items with content and labels."""
    con.execute(
        f"""CREATE OR REPLACE TABLE candidates AS
        WITH outcome AS (
            SELECT request_id, item_id,
                bool_or(kind = {facts.CLICK}) AS clicked, bool_or(kind = {facts.CART}) AS carted,
                bool_or(kind = {facts.PURCHASE}) AS purchased,
                min(delay_us) FILTER (kind = {facts.PURCHASE}) // {SECOND} AS delay_s, sum(amount_minor) AS gmv
            FROM credits WHERE delay_us < {horizon_us} GROUP BY request_id, item_id
        ),
        shown AS (SELECT request_id, moment, unnest(items, max_depth := 2) FROM day_requests),
        content AS (
            SELECT s.*, v.text_sha, v.image_sha
            FROM shown s ASOF LEFT JOIN f_items v ON s.item_id = v.item_id AND s.moment >= v.known_time
        )
        SELECT c.request_id, list(struct_pack(
            item := c.item_id, position := c.position, propensity := c.propensity, text_sha := c.text_sha,
            image_sha := c.image_sha, clicked := coalesce(o.clicked, false)::TINYINT,
            carted := coalesce(o.carted, false)::TINYINT, purchased := coalesce(o.purchased, false)::TINYINT,
            delay_s := o.delay_s::INTEGER, gmv := coalesce(o.gmv, 0)::BIGINT) ORDER BY c.position) AS shown
        FROM content c LEFT JOIN outcome o ON o.request_id = c.request_id AND o.item_id = c.item_id
        GROUP BY c.request_id"""
    )


def _rows(settings: FeatureSettings, cut_us: int, horizon_us: int) -> str:
    context = "".join(f"{text_sql('r.context', name)} AS ctx_{name}, " for name in settings.context)
    own = "x.request IS DISTINCT FROM r.request_id"  # never the request's own outcome, whatever its clock says
    buys, behaviours = "coalesce(h.buys, [])", "coalesce(h.behaviours, [])"
    return f"""
        SELECT r.request_id, r.user_id, r.event_time, r.known_time, r.feature_cutoff, r.policy,
            {_arm("r.experiments")} AS arm, r.bundle_id, {context}
            [x.item FOR x IN {buys} IF {own}] AS buy_item, [x.at FOR x IN {buys} IF {own}] AS buy_time,
            [x.category FOR x IN {buys} IF {own}] AS buy_category, [x.shop FOR x IN {buys} IF {own}] AS buy_shop,
            [x.item FOR x IN {behaviours} IF {own}] AS beh_item, [x.type FOR x IN {behaviours} IF {own}] AS beh_type,
            [x.at FOR x IN {behaviours} IF {own}] AS beh_time,
            [x.item FOR x IN c.shown] AS cand_item,
            [least(x.position, 32767)::SMALLINT FOR x IN c.shown] AS cand_position,
            [x.propensity FOR x IN c.shown] AS cand_propensity, [x.text_sha FOR x IN c.shown] AS cand_text_sha,
            [x.image_sha FOR x IN c.shown] AS cand_image_sha, [x.clicked FOR x IN c.shown] AS clicked,
            [x.carted FOR x IN c.shown] AS carted, [x.purchased FOR x IN c.shown] AS purchased,
            [x.delay_s FOR x IN c.shown] AS delay_s, [x.gmv FOR x IN c.shown] AS gmv_minor,
            {cut_us} - r.event_time >= {horizon_us} AS mature,
            CAST(make_timestamp(r.event_time) AS DATE) AS event_date
        FROM day_requests r JOIN candidates c USING (request_id)
        LEFT JOIN histories h ON h.user_id = r.user_id AND h.cutoff = r.feature_cutoff
        ORDER BY r.event_time, r.request_id"""


def _arm(experiments: str) -> str:
    """SQL of the arm: of the one experiment, or `name=arm;…` of several."""
    # names are anybody's text: as a path into the JSON, one with a quote would be an error
    arms = f"list_sort(map_entries(from_json({experiments}, '\"MAP(VARCHAR, VARCHAR)\"')))"
    return (
        f"CASE coalesce(len({arms}), 0) WHEN 0 THEN NULL WHEN 1 THEN {arms}[1].value "
        f"ELSE array_to_string([x.key || '=' || x.value FOR x IN {arms}], ';') END"
    )
