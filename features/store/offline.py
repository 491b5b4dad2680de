"""Features of labelled requests by Feast, point in time: what the online store would have served for each.

Feast is asked for each (user, cutoff) and each (item, cutoff) once, not for each candidate; what it answers is joined
to the requests in DuckDB, and crosses are computed request by request with the function that serving calls.
"""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from features.database import connect
from features.facts import batches
from features.layout import Layout
from features.store.crosses import Column, crosses
from features.store.definitions import ITEM, USER, Definitions
from features.store.registry import open_store, read_definitions

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection
    from feast import FeatureStore

_HISTORIES = ("buy_item", "buy_time", "buy_category", "buy_shop", "beh_item", "beh_type")


def join(
    con: DuckDBPyConnection, layout: Layout, service: str, table: str, columns: pa.Schema, rows: int = 1_000
) -> Iterator[pa.RecordBatch]:
    """Requests with their features.

    Args:
        con: A DuckDB connection.
        layout: Where things lie.
        service: The feature service.
        table: A table of requests, with the columns of `lake/requests`; for example those of one day.
        columns: Columns wanted: of the requests, `u_*`, `i_*` (lists) and `x_*` (lists).
        rows: Rows of a batch.

    Yields:
        Batches of `columns`, ordered by event_time, request_id.

    Raises:
        NotReadyError: If the service was never published.
    """
    import pyarrow as pa

    definitions = read_definitions(layout, service)
    store = open_store(layout, service)
    _retrieve(con, store, definitions, USER, f"SELECT DISTINCT user_id, feature_cutoff AS cutoff FROM {table}")
    _retrieve(
        con, store, definitions, ITEM,
        f"SELECT DISTINCT unnest(cand_item) AS item_id, feature_cutoff AS cutoff FROM {table}",
    )  # fmt: skip
    for batch in batches(con, _joined(definitions, table), rows):
        values = {name: batch.column(name) for name in batch.schema.names}
        values |= _cross(definitions, batch)
        yield pa.RecordBatch.from_arrays([values[field.name].cast(field.type) for field in columns], schema=columns)


def _retrieve(con: DuckDBPyConnection, store: FeatureStore, definitions: Definitions, entity: str, pairs: str) -> None:
    """Make the table `<entity>_values`: Feast's answer for each pair of entity and cutoff."""
    import pandas as pd

    asked = con.sql(f"{pairs} ORDER BY ALL").df()
    group = definitions.user if entity == USER else definitions.item
    if asked.empty:  # Feast takes no empty question
        types = {"text": "VARCHAR", "number": "DOUBLE"}
        names = ", ".join(f"NULL::{types[feature.type]} AS {feature.name}" for feature in group)
        answer = con.sql(
            f"SELECT ''::VARCHAR AS {entity}_id, 0::BIGINT AS cutoff, {names} WHERE false"
        ).to_arrow_table()
    else:
        asked["event_timestamp"] = pd.to_datetime(asked["cutoff"], unit="us", utc=True)
        with _ibis(con):
            answer = store.get_historical_features(
                entity_df=asked, features=definitions.refs(entity, histories=False), filter_by_created_timestamp=True
            ).to_arrow()
    names = ", ".join(feature.name for feature in group)
    con.register("answer", answer)
    con.execute(f"CREATE OR REPLACE TABLE {entity}_values AS SELECT {entity}_id, cutoff, {names} FROM answer")
    con.unregister("answer")


@contextlib.contextmanager
def _ibis(con: DuckDBPyConnection) -> Iterator[None]:
    """Give Feast's store a connection like ours, and be silent about what it calls that is deprecated.

    Its own would spill into the working folder, and would take a folder named `zone=5` above the files for a column.
    """
    import ibis

    spill = str(con.execute("SELECT current_setting('temp_directory')").fetchall()[0][0])
    backend: Any = ibis.duckdb.from_connection(connect(config={"temp_directory": spill}))
    backend.read_parquet = functools.partial(backend.read_parquet, hive_partitioning=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        ibis.options.default_backend = backend
        try:
            yield
        finally:
            ibis.options.default_backend = None
            backend.disconnect()


def _joined(definitions: Definitions, table: str) -> str:
    """SQL of the requests with `u_*` and lists of `i_*`."""
    user = ", ".join(f"u.{feature.name}" for feature in definitions.user)
    packed = ", ".join(f"{feature.name} := i.{feature.name}" for feature in definitions.item)
    lists = ", ".join(f"[x.{feature.name} FOR x IN c.shown] AS {feature.name}" for feature in definitions.item)
    return f"""
        WITH candidates AS (
            SELECT request_id, feature_cutoff, unnest(cand_item) AS item_id,
                   generate_subscripts(cand_item, 1) AS place
            FROM {table}
        ),
        listed AS (
            SELECT c.request_id, list(struct_pack({packed}) ORDER BY c.place) AS shown
            FROM candidates c LEFT JOIN item_values i ON i.item_id = c.item_id AND i.cutoff = c.feature_cutoff
            GROUP BY c.request_id
        )
        SELECT r.*, {user}, {lists} FROM {table} r
        LEFT JOIN user_values u ON u.user_id = r.user_id AND u.cutoff = r.feature_cutoff
        LEFT JOIN listed c ON c.request_id = r.request_id
        ORDER BY r.event_time, r.request_id"""


def _cross(definitions: Definitions, batch: pa.RecordBatch) -> dict[str, pa.Array]:
    """The crosses of a batch of requests, a list of lists each."""
    import pyarrow as pa

    def column(name: str) -> Column:
        values: Column = batch.column(name).to_pylist()
        return values

    users = {feature.name: column(feature.name) for feature in definitions.user}
    users |= {name: column(name) for name in _HISTORIES}
    items = {feature.name: column(feature.name) for feature in definitions.item} | {"item_id": column("cand_item")}
    context = {f"ctx_{name}": column(f"ctx_{name}") for name in definitions.context}
    out: dict[str, list[Column]] = {feature.name: [] for feature in definitions.crosses}
    for row, cutoff in enumerate(column("feature_cutoff")):
        found = crosses(
            cutoff,
            {name: values[row] for name, values in context.items()},
            {name: values[row] for name, values in users.items()},
            {name: values[row] for name, values in items.items()},
        )
        for name, values in found.items():
            out[name].append(values)
    return {name: pa.array(values, pa.list_(pa.float64())) for name, values in out.items()}
