"""The facts of the event log as DuckDB tables of one connection: known before a moment, each once.

Every later step reads facts through here, so that there is one place in which the future could leak in, and one that
keeps it out.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from features.database import connect, local_path, read_parquet
from features.errors import NotReadyError
from features.layout import Layout
from features.scratch import scratch
from features.times import format_us

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

CLICK, CART, PURCHASE = 0, 1, 2  # `kind` of actions and `beh_type` of histories
ACTIONS = {"clicks": CLICK, "carts": CART, "purchases": PURCHASE}


@contextlib.contextmanager
def connection(layout: Layout) -> Iterator[DuckDBPyConnection]:
    """A DuckDB connection that spills to the stack's folder and leaves nothing there, nor what a killed one left.

    Yields:
        The connection; its memory is bounded, so that tables larger than memory go to disk.
    """
    with (
        scratch(layout.run, "duckdb-") as spill,
        connect(config={"temp_directory": str(spill), "memory_limit": "3GB"}) as con,
    ):
        yield con


def need_complete(layout: Layout, cut_us: int) -> None:
    """Make sure that the log holds every fact known before the cut: one that is missing looks like one that never was.

    Raises:
        NotReadyError: If no `ingest --until` has reached the cut.
    """
    from features.eventlog.complete import complete_until

    if (complete_until(layout) or 0) < cut_us:
        raise NotReadyError(
            "the event log is not complete up to the cut", field="cut", value=format_us(cut_us),
            remedy=f"run `freshrank ingest --until {format_us(cut_us)}` first",
        )  # fmt: skip


def load_impressions(
    con: DuckDBPyConnection, layout: Layout, *, known_before_us: int, from_us: int, to_us: int
) -> None:
    """Make the view `f_impressions`, a row a request.

    Columns: request_id, user_id, event_time, known_time, feature_cutoff (as named, or null), policy, bundle_id, context
    and experiments (JSON), items (list of structs).

    Args:
        con: The connection.
        layout: Where the event log lies.
        known_before_us: Only facts with an earlier known time.
        from_us: First event time, µs.
        to_us: Event times end before this, µs.
    """
    _event_log(con, layout, "impressions", known_before_us, from_us, to_us)
    # an impression's event_id is made from its request_id, so that rows are unique by it already
    con.execute(
        "CREATE OR REPLACE TEMP VIEW f_impressions AS SELECT request_id, user_id, event_time, known_time, "
        "feature_cutoff, policy, bundle_id, context, experiments, items FROM log_impressions"
    )


def load_actions(con: DuckDBPyConnection, layout: Layout, *, known_before_us: int, from_us: int, to_us: int) -> None:
    """Make the table `f_actions`: clicks, carts and purchases.

    Columns: kind, event_id, request_id (or null), user_id, item_id, event_time, known_time, quantity, amount_minor.
    The arguments are those of `load_impressions`.
    """
    parts = []
    for topic, kind in ACTIONS.items():
        _event_log(con, layout, topic, known_before_us, from_us, to_us)
        money = (
            "quantity, amount_minor" if kind == PURCHASE else "NULL::BIGINT AS quantity, NULL::BIGINT AS amount_minor"
        )
        parts.append(
            f"SELECT {kind}::TINYINT AS kind, event_id, request_id, user_id, item_id, event_time, known_time, {money} "
            f"FROM log_{topic}"
        )
    con.execute("CREATE OR REPLACE TABLE f_actions AS " + " UNION ALL ".join(parts))


def load_items(con: DuckDBPyConnection, layout: Layout, *, known_before_us: int) -> None:
    """Make the table `f_items`: every listing ever known; of two known at one moment the later record.

    Columns: item_id, known_time, gone, shop_id, brand_id, category_id, title, description, image_uri, price_minor,
    weight_g, available, attributes (JSON), text_sha, image_sha.

    Args:
        con: The connection.
        layout: Where the event log lies.
        known_before_us: Only facts with an earlier known time.
    """
    from features.eventlog.read import last_records

    _event_log(con, layout, "items", known_before_us, None, None)
    con.execute(
        f"""CREATE OR REPLACE TABLE f_items_bare AS
        SELECT item_id, known_time, gone, shop_id, brand_id, category_id, title, description, image_uri,
               price_minor, weight_g, available, attributes
        FROM ({last_records("log_items", "item_id", at_each_moment=True)})"""
    )
    _hash_content(con)
    con.execute(
        """CREATE OR REPLACE TABLE f_items AS
        SELECT i.*, t.sha AS text_sha, p.sha AS image_sha FROM f_items_bare i
        LEFT JOIN text_hashes t ON t.title IS NOT DISTINCT FROM i.title
            AND t.description IS NOT DISTINCT FROM i.description
        LEFT JOIN image_hashes p ON p.uri = i.image_uri"""
    )
    con.execute("DROP TABLE f_items_bare")


def load_users(con: DuckDBPyConnection, layout: Layout, *, known_before_us: int) -> None:
    """Make the table `f_users`: every profile ever known, as `f_items`. Columns: user_id, known_time, gone, profile."""
    from features.eventlog.read import last_records

    _event_log(con, layout, "users", known_before_us, None, None)
    con.execute(
        "CREATE OR REPLACE TABLE f_users AS SELECT user_id, known_time, gone, profile "
        f"FROM ({last_records('log_users', 'user_id', at_each_moment=True)})"
    )


def tally(
    con: DuckDBPyConnection, layout: Layout, topic: str, *, known_before_us: int, bucket: str
) -> dict[int, list[list[str]]]:
    """Which records the log holds, by bucket, without reading them: counted by their place in Kafka, which names them.

    Args:
        con: The connection.
        layout: Where the event log lies.
        topic: Our name of the topic.
        known_before_us: Only facts with an earlier known time.
        bucket: SQL of the bucket of a record, an integer.

    Returns:
        Bucket → rows of source, partition, records, highest offset and sum of offsets.

    Raises:
        NotReadyError: If the topic was never ingested.
    """
    from deltalake import DeltaTable

    path = layout.table(topic)
    if not DeltaTable.is_deltatable(str(path)):
        raise NotReadyError("the topic was never ingested", field="topic", value=topic, remedy="run `freshrank ingest`")
    files = DeltaTable(str(path)).file_uris()
    if not files:
        return {}
    source = read_parquet(map(local_path, files))
    found: dict[int, list[list[str]]] = {}
    for key, *row in con.execute(
        f"SELECT {bucket}, _source, _partition, count(*), max(_offset), sum(_offset) FROM {source} "
        f"WHERE known_time < {known_before_us} GROUP BY ALL ORDER BY ALL"
    ).fetchall():
        found.setdefault(key, []).append([str(value) for value in row])
    return found


def _event_log(
    con: DuckDBPyConnection, layout: Layout, topic: str, known_before_us: int, from_us: int | None, to_us: int | None
) -> None:
    from features.eventlog.read import EventLog

    EventLog(layout).relation(con, topic, known_before_us, from_us, to_us, name=f"log_{topic}")


def _hash_content(con: DuckDBPyConnection) -> None:
    """Make `text_hashes(title, description, sha)` and `image_hashes(uri, sha)` of all listings, in batches."""
    from features.content.hash import image_sha, text_sha

    con.execute("CREATE OR REPLACE TABLE text_hashes (title VARCHAR, description VARCHAR, sha VARCHAR)")
    con.execute("CREATE OR REPLACE TABLE image_hashes (uri VARCHAR, sha VARCHAR)")
    for batch in batches(con, "SELECT DISTINCT title, description FROM f_items_bare"):
        titles, descriptions = (column.to_pylist() for column in batch.columns)
        shas = [text_sha(*pair) for pair in zip(titles, descriptions, strict=True)]
        _insert(con, "text_hashes", {"title": titles, "description": descriptions, "sha": shas})
    for batch in batches(con, "SELECT DISTINCT image_uri FROM f_items_bare WHERE image_uri IS NOT NULL"):
        uris = batch.column(0).to_pylist()
        _insert(con, "image_hashes", {"uri": uris, "sha": [image_sha(uri) for uri in uris]})


def batches(con: DuckDBPyConnection, query: str, rows: int = 10_000) -> Iterator[pa.RecordBatch]:
    """A query's result piece by piece, while the connection stays free for other statements.

    Yields:
        Record batches of at most `rows` rows or so.
    """
    with con.cursor() as reading:
        reader: Any = reading.sql(query).to_arrow_reader(rows)
        yield from reader


def _insert(con: DuckDBPyConnection, table: str, columns: dict[str, list[str | None]]) -> None:
    import pyarrow as pa

    arrays = [pa.array(values, pa.string()) for values in columns.values()]
    con.register("to_insert", pa.table(arrays, list(columns)))
    con.execute(f"INSERT INTO {table} SELECT * FROM to_insert")
    con.unregister("to_insert")
