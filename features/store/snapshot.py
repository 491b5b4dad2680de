"""One snapshot: every user's and item's values as of a cut, from facts known before it and happened before it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from features import atomic, facts
from features.database import literal
from features.labels.history import LOOKBACK_US, build_histories
from features.layout import Layout
from features.scalars import number_sql, text_sql
from features.settings import FeatureSettings
from features.store.definitions import ITEM, USER, Definitions, define, source_folder
from features.times import DAY, HOUR, day_of

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

RUN_HOUR_US = 2 * HOUR  # runs cut at 02:00 UTC
VERSION = 2  # raise it when the same facts give other files
SHRINKAGE = 20.0  # exposures that the mean of all items weighs in an item's own rate
TOPICS = ("impressions", *facts.ACTIONS, "items", "users")


@dataclass(frozen=True)
class FeatureSnapshot:
    """The two files of a cut.

    Args:
        cut_us: The cut.
        users: Parquet of the user view.
        items: Parquet of the item view.
        written: Whether they were made now; otherwise they were there, from the same facts.
    """

    cut_us: int
    users: Path
    items: Path
    written: bool


def snapshots(
    con: DuckDBPyConnection, layout: Layout, settings: FeatureSettings, cuts: Sequence[int]
) -> Iterator[FeatureSnapshot]:
    """Make the snapshots of some cuts, but those that are there, made from the same facts.

    Args:
        con: A DuckDB connection.
        layout: Where things lie.
        settings: Which fields become features.
        cuts: The cuts, µs.

    Yields:
        The files of each cut, named by the day that the cut ends.
    """
    definitions = define(settings)
    for cut, mark in fingerprints(con, layout, cuts).items():
        name = day_of(cut - DAY).isoformat()
        files = {entity: source_folder(layout, definitions, entity) / f"{name}.parquet" for entity in (USER, ITEM)}
        noted = mark_file(layout, definitions, cut)
        same = (
            noted.exists()
            and noted.read_text(encoding="utf-8") == mark
            and all(file.exists() for file in files.values())
        )
        if not same:
            noted.unlink(missing_ok=True)  # put back when both files are there: a kill leaves work to do, no lie
            facts.load_impressions(con, layout, known_before_us=cut, from_us=cut - 7 * DAY, to_us=cut)
            facts.load_actions(con, layout, known_before_us=cut, from_us=cut - LOOKBACK_US, to_us=cut)
            facts.load_items(con, layout, known_before_us=cut)
            facts.load_users(con, layout, known_before_us=cut)
            _write(con, _users(con, settings, cut), definitions, USER, cut, files[USER])
            _write(con, _items(settings, cut), definitions, ITEM, cut, files[ITEM])
            atomic.write_text(noted, mark)
        yield FeatureSnapshot(cut, files[USER], files[ITEM], written=not same)


def mark_file(layout: Layout, definitions: Definitions, cut_us: int) -> Path:
    """The note of which facts a cut's snapshot was made from."""
    return layout.feast / definitions.service / "marks" / day_of(cut_us - DAY).isoformat()


def fingerprints(con: DuckDBPyConnection, layout: Layout, cuts: Sequence[int]) -> dict[int, str]:
    """Of each cut, a hash of which records were known before it, and of how files are made of them."""
    counted = {
        topic: facts.tally(
            con, layout, topic, known_before_us=max(cuts), bucket=f"(known_time - {RUN_HOUR_US}) // {DAY}"
        )
        for topic in TOPICS
    }
    marks = {}
    for cut in cuts:
        last = (cut - RUN_HOUR_US) // DAY  # cuts are at the run hour, so that no bucket lies on both sides
        known = [
            [topic, sorted((bucket, rows) for bucket, rows in counted[topic].items() if bucket < last)]
            for topic in TOPICS
        ]
        marks[cut] = hashlib.sha256(json.dumps([VERSION, known]).encode()).hexdigest()
    return marks


def _users(con: DuckDBPyConnection, settings: FeatureSettings, cut_us: int) -> str:
    """SQL of the user view: everyone with a profile or a deed, as of the cut."""
    con.execute(
        f"""CREATE OR REPLACE TABLE everyone AS
        SELECT DISTINCT user_id, {cut_us}::BIGINT AS cutoff FROM (
            SELECT user_id FROM f_users UNION ALL SELECT user_id FROM f_actions UNION ALL
            SELECT user_id FROM f_impressions)"""
    )
    build_histories(con, "everyone")
    profile = "".join(f"{text_sql('p.profile', name)} AS u_{name}, " for name in settings.user)
    return f"""
        WITH last_profile AS (
            SELECT user_id, CASE WHEN gone THEN NULL ELSE profile END AS profile FROM f_users
            QUALIFY row_number() OVER (PARTITION BY user_id ORDER BY known_time DESC) = 1
        ),
        deeds AS (
            SELECT user_id,
                count(*) FILTER (kind = {facts.PURCHASE} AND event_time >= {cut_us - 30 * DAY}) AS buys,
                sum(amount_minor) FILTER (kind = {facts.PURCHASE} AND event_time >= {cut_us - 30 * DAY}) AS spend,
                count(*) FILTER (kind = {facts.CLICK} AND event_time >= {cut_us - 7 * DAY}) AS clicks,
                max(event_time) FILTER (kind = {facts.PURCHASE}) AS last_buy
            FROM f_actions GROUP BY user_id
        ),
        paid AS (
            -- a quotient of whole numbers, so that the order of rows cannot change its last bit
            SELECT user_id, sum(amount_minor) / sum(quantity) AS price FROM
                (
                SELECT * FROM f_actions WHERE kind = {facts.PURCHASE}
                QUALIFY row_number() OVER (PARTITION BY user_id ORDER BY event_time DESC, event_id DESC) <= 50)
            GROUP BY user_id
        ),
        asked AS (SELECT user_id, count(*) AS requests FROM f_impressions GROUP BY user_id)
        SELECT e.user_id, {profile}
            {number_sql("p.profile", "latitude")} AS u_latitude,
            {number_sql("p.profile", "longitude")} AS u_longitude,
            coalesce(d.buys, 0)::DOUBLE AS u_buys_30d, coalesce(d.spend, 0)::DOUBLE AS u_spend_30d,
            coalesce(d.clicks, 0)::DOUBLE AS u_clicks_7d, coalesce(a.requests, 0)::DOUBLE AS u_requests_7d,
            m.price::DOUBLE AS u_mean_price, (({cut_us} - d.last_buy) / {DAY})::DOUBLE AS u_days_since_last,
            [x.item FOR x IN coalesce(h.buys, [])] AS buy_item, [x.at FOR x IN coalesce(h.buys, [])] AS buy_time,
            [coalesce(x.category, '') FOR x IN coalesce(h.buys, [])] AS buy_category,
            [coalesce(x.shop, '') FOR x IN coalesce(h.buys, [])] AS buy_shop,
            [x.item FOR x IN coalesce(h.behaviours, [])] AS beh_item,
            [x.type::BIGINT FOR x IN coalesce(h.behaviours, [])] AS beh_type,
            [x.at FOR x IN coalesce(h.behaviours, [])] AS beh_time
        FROM everyone e LEFT JOIN last_profile p USING (user_id) LEFT JOIN deeds d USING (user_id)
        LEFT JOIN paid m USING (user_id) LEFT JOIN asked a USING (user_id) LEFT JOIN histories h USING (user_id)"""


def _items(settings: FeatureSettings, cut_us: int) -> str:
    """SQL of the item view: every item ever listed; one that is gone cannot be bought, and keeps nothing else."""
    text = "".join(f"{text_sql('attributes', name)} AS i_{name}, " for name in settings.item)
    places = (*settings.item_numbers, "latitude", "longitude")
    numbers = "".join(f"{number_sql('attributes', name)} AS i_{name}, " for name in places)
    return f"""
        WITH listing AS (
            SELECT * FROM f_items QUALIFY row_number() OVER (PARTITION BY item_id ORDER BY known_time DESC) = 1
        ),
        past AS (
            SELECT item_id, min(known_time) AS first_known,
                -- the price that held 30 days ago counts too: the last listing before, and all since
                max(price_minor) FILTER (until_time > {cut_us - 30 * DAY}) AS top_price
            FROM (SELECT *, coalesce(lead(known_time) OVER (PARTITION BY item_id ORDER BY known_time), {cut_us})
                         AS until_time FROM f_items)
            GROUP BY item_id
        ),
        exposed AS (
            SELECT item_id, count(*) AS n FROM (SELECT unnest(items).item_id AS item_id FROM f_impressions) GROUP BY 1
        ),
        deeds AS (
            SELECT item_id, count(*) FILTER (kind = {facts.CLICK}) AS clicks,
                count(*) FILTER (kind = {facts.PURCHASE}) AS purchases, sum(amount_minor) AS gmv
            FROM f_actions WHERE event_time >= {cut_us - 7 * DAY} GROUP BY item_id
        ),
        counted AS (
            SELECT l.item_id, coalesce(e.n, 0)::DOUBLE AS exposures, coalesce(d.clicks, 0)::DOUBLE AS clicks,
                coalesce(d.purchases, 0)::DOUBLE AS purchases, coalesce(d.gmv, 0)::DOUBLE AS gmv
            FROM listing l LEFT JOIN exposed e USING (item_id) LEFT JOIN deeds d USING (item_id)
        ),
        mean AS (
            SELECT sum(clicks) / nullif(sum(exposures), 0) AS ctr, sum(purchases) / nullif(sum(exposures), 0) AS cvr
            FROM counted
        )
        SELECT * FROM (
            SELECT l.item_id, l.shop_id AS i_shop, l.brand_id AS i_brand, l.category_id AS i_category,
                {text} {numbers}
                l.price_minor::DOUBLE AS i_price, l.weight_g AS i_weight, l.available::INT::DOUBLE AS i_available,
                ({cut_us} - p.first_known) / 3600e6 AS i_age_hours,
                1 - l.price_minor / nullif(p.top_price, 0) AS i_discount,
                c.exposures AS i_exposures_7d, c.clicks AS i_clicks_7d, c.purchases AS i_purchases_7d,
                c.gmv AS i_gmv_7d,
                (c.clicks + {SHRINKAGE} * m.ctr) / (c.exposures + {SHRINKAGE}) AS i_ctr_7d,
                (c.purchases + {SHRINKAGE} * m.cvr) / (c.exposures + {SHRINKAGE}) AS i_cvr_7d
            FROM listing l JOIN past p USING (item_id) JOIN counted c USING (item_id) CROSS JOIN mean m
            WHERE NOT l.gone
            UNION ALL BY NAME
            SELECT item_id, 0::DOUBLE AS i_available FROM listing WHERE gone)"""


def _write(con: DuckDBPyConnection, query: str, definitions: Definitions, entity: str, cut_us: int, file: Path) -> None:
    """Write a view's file beside and rename it; columns are those that the definitions name, in their order."""
    columns = ", ".join(feature.name for feature in definitions.features(entity))
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.part")
    at = f"make_timestamptz({cut_us}::BIGINT)"  # a cast of one without a zone would be of the session's
    con.execute(
        f"COPY (SELECT {entity}_id, {columns}, {at} AS event_timestamp, {at} AS created_timestamp FROM ({query}) "
        f"ORDER BY {entity}_id) TO {literal(part)} (FORMAT parquet)"
    )
    atomic.publish(part, file)
