"""Reading the event log: DuckDB views over Delta tables, as of what was known, each event once."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from features.database import local_path, read_parquet
from features.errors import NotReadyError, UsageError
from features.eventlog.schema import PARTITION_COLUMN, arrow_schema, duckdb_type
from features.events import COMPACTED, EVENTS, LAST_US, MAX_CLOCK_SKEW_US
from features.layout import Layout
from features.times import day_of

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True)
class Standing:
    """How far a topic's table has come, for provenance.

    Args:
        version: The table's Delta version.
        rows: Rows known before the cut, repetitions included.
        last_known_time: Newest known time among them, µs UTC; None if there are none.
        offsets: `<cluster id>/<topic id>/<partition>` to the highest offset among them.
    """

    version: int
    rows: int
    last_known_time: int | None
    offsets: dict[str, int]


class EventLog:
    """Readers of the event log.

    Args:
        layout: Where the tables lie.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def relation(
        self,
        con: duckdb.DuckDBPyConnection,
        topic: str,
        known_before: int,
        from_us: int | None = None,
        to_us: int | None = None,
        *,
        name: str | None = None,
        version: int | None = None,
    ) -> str:
        """Make a temporary view of a topic's events; nothing is read into Python.

        Repetitions of an `event_id` are left out: of those known before the cut, and in the span of time, the one with
        the lowest (partition, offset) stays.

        Args:
            con: The connection that gets the view.
            topic: Our name of the topic.
            known_before: The cut, µs UTC: only events with `known_time` before it are seen.
            from_us: Events with `event_time` at or after it, µs UTC; days before are not opened.
            to_us: Events with `event_time` before it, µs UTC; days after are not opened.
            name: The view's name; by default the topic's.
            version: The Delta version to read; by default the newest.

        Returns:
            The view's name. Its columns are those of `features.eventlog.schema.arrow_schema(topic)`.

        Raises:
            NotReadyError: If the topic was never ingested.

        Example::

            con = connect()  # of features.database, in UTC
            clicks = EventLog(layout).relation(con, "clicks", known_before=cut, from_us=cut - 7 * DAY)
            con.sql(f"SELECT user_id, count(*) FROM {clicks} GROUP BY user_id")
        """
        name = name or topic
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise UsageError("not a view's name", field="name", value=name, remedy="use letters, digits and '_'")
        table = self._open(topic, version)
        base = _union(topic, self._files(table, known_before, from_us, to_us))
        limits = [f"known_time < {int(known_before)}"]
        limits += [f"event_time >= {int(from_us)}"] if from_us is not None else []
        limits += [f"event_time < {int(to_us)}"] if to_us is not None else []
        selected = f"SELECT * FROM ({base}) WHERE {' AND '.join(limits)}"  # noqa: S608
        if _drop_repetitions(con, name, selected):
            selected += f' AND (_source, _partition, _offset) NOT IN (FROM "{name}__repeated")'
        con.execute(f'CREATE OR REPLACE TEMP VIEW "{name}" AS {selected}')
        return name

    def latest(
        self,
        con: duckdb.DuckDBPyConnection,
        topic: str,
        known_before: int,
        *,
        name: str | None = None,
        version: int | None = None,
    ) -> str:
        """Make a temporary view of a compacted topic's state at the cut: each key's newest row, those gone left out.

        Args:
            con: The connection that gets the view.
            topic: `items` or `users`.
            known_before: The cut, µs UTC.
            name: The view's name; by default `<topic>_latest`.
            version: The Delta version to read; by default the newest.

        Returns:
            The view's name.

        Raises:
            UsageError: If the topic is no compacted one.
            NotReadyError: If the topic was never ingested.
        """
        if topic not in COMPACTED:
            raise UsageError("the topic has no state", field="topic", value=topic, remedy=f"use {', '.join(COMPACTED)}")
        name = name or f"{topic}_latest"
        rows = self.relation(con, topic, known_before, name=f"{name}__all", version=version)
        key = topic.removesuffix("s") + "_id"
        last = last_records(rows, key, at_each_moment=False)
        con.execute(f'CREATE OR REPLACE TEMP VIEW "{name}" AS SELECT * FROM ({last}) WHERE NOT gone')  # noqa: S608
        return name

    def version(self, topic: str) -> int:
        """The newest Delta version of a topic's table.

        Raises:
            NotReadyError: If the topic was never ingested.
        """
        return int(self._open(topic, None).version())

    def standing(self, con: duckdb.DuckDBPyConnection, topic: str, known_before: int) -> Standing:
        """How far a topic's table has come by the cut, for the provenance of what is made of it.

        Args:
            con: A connection to read with.
            topic: Our name of the topic.
            known_before: The cut, µs UTC.
        """
        table = self._open(topic, None)
        base = _union(topic, self._files(table, known_before, None, None))
        found = con.execute(
            f"SELECT _source, _partition, count(*), max(_offset), max(known_time) FROM ({base}) "  # noqa: S608
            f"WHERE known_time < {int(known_before)} GROUP BY ALL ORDER BY ALL"
        ).fetchall()
        return Standing(
            version=table.version(),
            rows=sum(row[2] for row in found),
            last_known_time=max((row[4] for row in found), default=None),
            offsets={f"{row[0]}/{row[1]}": row[3] for row in found},
        )

    def _open(self, topic: str, version: int | None) -> DeltaTable:
        if topic not in EVENTS:
            raise UsageError("no such topic", field="topic", value=topic, remedy=f"use {', '.join(EVENTS)}")
        try:
            return DeltaTable(self._layout.table(topic), version=version)
        except TableNotFoundError as error:
            raise NotReadyError(
                "the topic was never ingested", field="topic", value=topic, remedy="run `freshrank ingest` first"
            ) from error

    @staticmethod
    def _files(table: DeltaTable, known_before: int, from_us: int | None, to_us: int | None) -> list[str]:
        """Data files that may hold such events: by day, as no event lies more than an hour after it was known."""
        last = min(LAST_US, known_before + MAX_CLOCK_SKEW_US, to_us if to_us is not None else LAST_US)
        first = day_of(from_us) if from_us is not None else None
        actions = pa.table(table.get_add_actions(flatten=True))
        days = actions[f"partition.{PARTITION_COLUMN}"].to_pylist()
        lows = actions["min.known_time"].to_pylist() if "min.known_time" in actions.column_names else [None] * len(days)
        paths = actions["path"].to_pylist()
        root = local_path(table.table_uri).rstrip("/")
        return sorted(
            f"{root}/{path}"
            for path, day, low in zip(paths, days, lows, strict=True)
            if day <= day_of(last) and (first is None or day >= first) and (low is None or low < known_before)
        )


def last_records(rows: str, key: str, *, at_each_moment: bool) -> str:
    """SQL of the last record of each key in a view of a compacted topic, or of each key at each known time.

    In a partition the later offset is the later record. Two partitions hold a key only where the topic was given more
    of them, or was made again: then the one in which the key appeared later, by known time, is its present one, and
    where that does not tell, the one of the higher number, as partitions are only ever added.

    Args:
        rows: The view.
        key: The key's column.
        at_each_moment: Keep the last of those known at one moment; else the last of all.
    """
    moment = ", known_time" if at_each_moment else ""
    home = f"{key}, _source, _partition"
    return (
        f'SELECT r.* FROM "{rows}" AS r '  # noqa: S608
        f'JOIN (SELECT {home}, min(known_time) AS since FROM "{rows}" GROUP BY ALL) AS homes USING ({home}) '
        f"QUALIFY row_number() OVER (PARTITION BY r.{key}{moment} "
        "ORDER BY known_time DESC, since DESC, _partition DESC, _offset DESC, _source DESC) = 1"
    )


def _union(topic: str, files: list[str]) -> str:
    """SQL of the files' rows with every column of the schema, those that older files lack as null."""
    schema = arrow_schema(topic)
    columns = ", ".join(f'NULL::{duckdb_type(field.type)} AS "{field.name}"' for field in schema)
    empty = f"SELECT {columns} WHERE false"
    if not files:
        return empty
    # Delta keeps the partition's value in the path alone; it is the day of event_time
    day = f"CAST(make_timestamp(event_time) AS DATE) AS {PARTITION_COLUMN}"
    read = f"SELECT *, {day} FROM {read_parquet(files)}"  # noqa: S608
    return f"{empty} UNION ALL BY NAME {read}"


def _drop_repetitions(con: duckdb.DuckDBPyConnection, name: str, selected: str) -> bool:
    """Note which rows repeat an event that is there already; mostly none, and then the view stays a plain scan."""
    narrow = f"SELECT event_id, _source, _partition, _offset, known_time FROM ({selected})"  # noqa: S608
    con.execute(
        f'CREATE OR REPLACE TEMP TABLE "{name}__repeated" AS '  # noqa: S608
        f"WITH seen AS ({narrow}), twice AS (SELECT event_id FROM seen GROUP BY event_id HAVING count(*) > 1) "
        "SELECT _source, _partition, _offset FROM seen SEMI JOIN twice USING (event_id) QUALIFY row_number() OVER "
        "(PARTITION BY event_id ORDER BY _partition, _offset, known_time, _source) > 1"
    )
    count: Any = con.execute(f'SELECT count(*) FROM "{name}__repeated"').fetchone()  # noqa: S608
    return bool(count[0])
