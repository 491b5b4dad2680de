"""Columns of the event log's tables, and the rows that events become.

Every table has `event_id event_time schema_version known_time event_date` and where the row came from: `_source` (the
cluster's and the topic's id), `_topic` (the broker's name), `_partition`, `_offset`. Times are int64 µs UTC. Open-ended
objects (context, experiments, attributes, profile, features seen) are JSON text, which DuckDB reads with `->>`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import pyarrow as pa

from features.events import COMPACTED, EVENTS, Event, Gone, Impression
from features.times import parse_us

_TEXT, _I32, _I64, _F64, _FLAG = pa.string(), pa.int32(), pa.int64(), pa.float64(), pa.bool_()
_SHOWN = pa.struct(
    [("item_id", _TEXT), ("position", _I32), ("price_minor", _I64), ("score", _F64), ("propensity", _F64)]
)
_JSON = "json"  # marks a column of open-ended objects
_TYPES: dict[str, object] = {
    "position": _I32, "quantity": _I32, "price_minor": _I64, "amount_minor": _I64, "weight_g": _F64, "available": _FLAG,
    "feature_cutoff": _I64, "items": pa.list_(_SHOWN), "context": _JSON, "experiments": _JSON, "features_seen": _JSON,
    "attributes": _JSON, "profile": _JSON,
}  # fmt: skip
_COMMON = ("event_id", "event_time", "schema_version")
ORIGIN = ("_source", "_topic", "_partition", "_offset")
PARTITION_COLUMN = "event_date"
_EPOCH = dt.date(1970, 1, 1)
_DAY_US = 86_400_000_000


@dataclass(frozen=True)
class EventRow:
    """An event and where it came from.

    Args:
        partition: Kafka partition.
        offset: Kafka offset.
        known_time: The record's timestamp, µs UTC.
        event: The event.
    """

    partition: int
    offset: int
    known_time: int
    event: Event | Gone


def fields_of(topic: str) -> list[str]:
    """Names of the columns that a topic adds to the common ones."""
    own = [name for name in EVENTS[topic].__struct_fields__ if name not in _COMMON]
    return [*own, "gone"] if topic in COMPACTED else own


def arrow_schema(topic: str) -> pa.Schema:
    """Columns of a topic's table.

    Example:
        >>> arrow_schema("clicks").names[-3:]
        ['user_id', 'item_id', 'request_id']
    """
    columns = [
        ("_source", _TEXT), ("_topic", _TEXT), ("_partition", _I32), ("_offset", _I64), ("known_time", _I64),
        ("event_id", _TEXT), ("event_time", _I64), ("schema_version", _I32), (PARTITION_COLUMN, pa.date32()),
    ]  # fmt: skip
    for name in fields_of(topic):
        kind = _FLAG if name == "gone" else _TYPES.get(name, _TEXT)
        columns.append((name, _TEXT if kind is _JSON else kind))
    return pa.schema(columns)


def to_arrow(topic: str, source: str, broker_topic: str, rows: Sequence[EventRow]) -> pa.Table:
    """Rows as an Arrow table.

    Args:
        topic: Our name of the topic.
        source: `<cluster id>/<topic id>`.
        broker_topic: The broker's name of the topic.
        rows: The rows, in any order.

    Returns:
        A table of `arrow_schema(topic)`.
    """
    events = [row.event for row in rows]
    times = [event.time_us if isinstance(event, Gone) else event.event_time_us for event in events]
    columns: dict[str, object] = {
        "_source": [source] * len(rows),
        "_topic": [broker_topic] * len(rows),
        "_partition": [row.partition for row in rows],
        "_offset": [row.offset for row in rows],
        "known_time": [row.known_time for row in rows],
        "event_id": [event.event_id for event in events],
        "event_time": times,
        "schema_version": [None if isinstance(event, Gone) else event.schema_version for event in events],
        PARTITION_COLUMN: [time // _DAY_US for time in times],
    }
    for name in fields_of(topic):
        columns[name] = _column(topic, name, events)
    schema = arrow_schema(topic)
    return pa.table({field.name: pa.array(columns[field.name], type=field.type) for field in schema}, schema=schema)


def _column(topic: str, name: str, events: list[Event | Gone]) -> pa.Array | list[object]:
    if name == "gone":
        return [isinstance(event, Gone) for event in events]
    if name == "items":
        return _shown(events)
    if name == EVENTS[topic].topic.removesuffix("s") + "_id" and topic in COMPACTED:  # item_id of items, and so on
        return [event.key if isinstance(event, Gone) else getattr(event, name) for event in events]
    convert: Callable[[Any], Any] | None = None
    if _TYPES.get(name) is _JSON:
        convert = _json
    elif name == "feature_cutoff":
        convert = parse_us
    values: Iterable[object] = (getattr(event, name, None) for event in events)
    return [value if convert is None or value is None else convert(value) for value in values]


def _shown(events: list[Event | Gone]) -> pa.Array:
    """The lists that were shown; built flat, several times faster than from nested dictionaries."""
    lists = [event.items for event in events if isinstance(event, Impression)]
    flat = [item for items in lists for item in items]
    offsets = [0]
    for items in lists:
        offsets.append(offsets[-1] + len(items))
    children = [pa.array([getattr(item, field.name) for item in flat], type=field.type) for field in _SHOWN]
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.StructArray.from_arrays(children, fields=_SHOWN))


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


_DUCKDB = {_TEXT: "VARCHAR", _I32: "INTEGER", _I64: "BIGINT", _F64: "DOUBLE", _FLAG: "BOOLEAN", pa.date32(): "DATE"}


def duckdb_type(kind: pa.DataType) -> str:
    """DuckDB's name of a column type.

    Example:
        >>> duckdb_type(pa.list_(pa.struct([("a", pa.int64())])))
        'STRUCT("a" BIGINT)[]'
    """
    if pa.types.is_list(kind):
        return duckdb_type(kind.value_type) + "[]"
    if pa.types.is_struct(kind):
        return "STRUCT(" + ", ".join(f'"{field.name}" {duckdb_type(field.type)}' for field in kind) + ")"
    return _DUCKDB[kind]
