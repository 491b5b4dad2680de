"""Keep `lake/requests` as known at a cut: each day's partition replaced in one commit, and only where it has changed.

What a day's rows were made from is written to `state/labels.json`, taken out before the partition is replaced and put
back after, so that a kill between leaves a day that is known to need work, never one that wrongly counts as done.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from features import atomic, facts
from features.encoded import JsonObject
from features.errors import NotReadyError
from features.events import MAX_CLOCK_SKEW_US
from features.labels import requests
from features.labels.attribution import NAMED_LOOKBACK_US
from features.layout import Layout
from features.scratch import scratch
from features.settings import FeatureSettings, LabelSettings
from features.times import DAY, HOUR, day_of, day_start, run_cut

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

VERSION = 2  # raise it when the same facts give other rows
TABLE = "requests"


@dataclass(frozen=True)
class Labelled:
    """What a run of `labels` did.

    Args:
        date: The run's day.
        cut_us: Its cut.
        days: Days it covers.
        rewritten: Those whose partition was replaced.
        requests: Requests of all days.
    """

    date: str
    cut_us: int
    days: list[str]
    rewritten: list[str]
    requests: int


def horizon_us(settings: LabelSettings) -> int:
    """The label horizon, µs."""
    return round(settings.horizon_hours * HOUR)


def days_of(date: dt.date, days: int) -> list[dt.date]:
    """The days of a run: those of its window, and the day itself.

    Example:
        >>> [day.day for day in days_of(dt.date(2026, 1, 9), 7)]
        [2, 3, 4, 5, 6, 7, 8, 9]
    """
    return [date - dt.timedelta(days=back) for back in range(days, -1, -1)]


def label(
    layout: Layout,
    features: FeatureSettings,
    labels: LabelSettings,
    date: dt.date,
    *,
    days: int,
    progress: Callable[[str], None] = lambda _: None,
) -> Labelled:
    """Bring the requests of the run's days to what is known at its cut.

    Args:
        layout: Where things lie.
        features: Which fields of the context become columns.
        labels: The horizon.
        date: The run's day D.
        days: Days of the window before D.
        progress: Called with a line for each day.

    Returns:
        What was done.

    Raises:
        NotReadyError: If the event log is not complete up to the cut.
        LockedError: If another process labels at the moment.
    """
    cut, horizon = run_cut(date), horizon_us(labels)
    span = days_of(date, days)
    facts.need_complete(layout, cut)
    with atomic.lock(layout.lock("labels")), facts.connection(layout) as con:
        marks = fingerprints(con, layout, features, labels, span, cut)
        state = _State(layout)
        stale = [day for day in span if state.get(day).get("facts") != marks[day]]
        rewritten = []
        if stale:
            requests.load(con, layout, stale, cut_us=cut, horizon_us=horizon)
        for day in stale:
            with scratch(layout.run, "labels-") as folder:
                file = folder / "day.parquet"
                rows = requests.write_day(con, features, day, cut_us=cut, horizon_us=horizon, file=file)
                digest = _sha256(file)
                if state.get(day).get("digest") != digest and (rows or state.get(day)):
                    state.remove(day)
                    _replace_day(layout, features, day, file)
                    rewritten.append(day.isoformat())
                state.put(day, {"facts": marks[day], "digest": digest, "rows": rows})
            progress(f"{day}: {rows} requests" + ("" if day.isoformat() in rewritten else ", as before"))
        total = sum(state.get(day)["rows"] for day in span)
    return Labelled(date.isoformat(), cut, [day.isoformat() for day in span], rewritten, total)


def check_current(
    con: DuckDBPyConnection,
    layout: Layout,
    features: FeatureSettings,
    labels: LabelSettings,
    days: list[dt.date],
    cut_us: int,
) -> None:
    """Make sure that `lake/requests` holds the days as known at the cut.

    Raises:
        NotReadyError: If a day is not labelled yet, or was with other facts.
    """
    state = _State(layout)
    marks = fingerprints(con, layout, features, labels, days, cut_us)
    for day in days:
        if state.get(day).get("facts") != marks[day]:
            raise NotReadyError(
                "the day's labels are not those known at the cut",
                field="day",
                value=day.isoformat(),
                remedy=f"run `freshrank labels --date {day_of(cut_us - DAY).isoformat()}` first",
            )


def fingerprints(
    con: DuckDBPyConnection,
    layout: Layout,
    features: FeatureSettings,
    labels: LabelSettings,
    days: list[dt.date],
    cut_us: int,
) -> dict[dt.date, str]:
    """Of each day, a hash of everything that its rows are made from, as known at the cut, without reading it.

    Histories and content before a day are not counted: what a row takes from them was known before its cutoff, and is
    fixed.
    """
    horizon = horizon_us(labels)
    counted = {
        topic: facts.tally(con, layout, topic, known_before_us=cut_us, bucket=f"event_time // {DAY}")
        for topic in ("impressions", *facts.ACTIONS)
    }
    marks = {}
    for day in days:
        start, end = day_start(day), day_start(day) + DAY
        last = (end + horizon - 1) // DAY
        spans = {
            topic: ((start - (NAMED_LOOKBACK_US if topic == "impressions" else 0) - MAX_CLOCK_SKEW_US) // DAY, last)
            for topic in counted
        }
        matured = min(max(cut_us - horizon + 1, start), end)  # requests before this moment are mature
        content = [VERSION, horizon, list(features.context), matured] + [
            [topic, sorted((bucket, rows) for bucket, rows in counted[topic].items() if low <= bucket <= high)]
            for topic, (low, high) in spans.items()
        ]
        marks[day] = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    return marks


class _State:
    """`state/labels.json`: day → what its partition was made from."""

    def __init__(self, layout: Layout) -> None:
        self.path = layout.state / "labels.json"
        self.entries: JsonObject = json.loads(self.path.read_text(encoding="utf-8")) if self.path.exists() else {}

    def get(self, day: dt.date) -> JsonObject:
        entry: JsonObject = self.entries.get(day.isoformat(), {})
        return entry

    def put(self, day: dt.date, entry: JsonObject) -> None:
        self.entries[day.isoformat()] = entry
        self._write()

    def remove(self, day: dt.date) -> None:
        if self.entries.pop(day.isoformat(), None) is not None:
            self._write()

    def _write(self) -> None:
        atomic.write_text(self.path, json.dumps(self.entries, indent=1, sort_keys=True) + "\n")


def _replace_day(layout: Layout, features: FeatureSettings, day: dt.date, file: Path) -> None:
    """Replace one partition by the file's rows, in one commit."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from deltalake import DeltaTable, write_deltalake

    table = layout.table(TABLE)
    schema = requests.schema(features)
    if not DeltaTable.is_deltatable(str(table)):
        DeltaTable.create(str(table), schema=schema, partition_by=["event_date"], name=TABLE, mode="ignore")
    with pq.ParquetFile(file) as source:
        batches = (_cast(batch, schema) for batch in source.iter_batches(batch_size=2_000))
        write_deltalake(
            str(table),
            pa.RecordBatchReader.from_batches(schema, batches),
            mode="overwrite",
            predicate=f"event_date = '{day.isoformat()}'",
            schema_mode="merge" if _gained(table, schema) else None,
        )


def _gained(table: Path, schema: pa.Schema) -> bool:
    from deltalake import DeltaTable

    there = {field.name for field in DeltaTable(str(table)).schema().fields}
    return any(name not in there for name in schema.names)


def _cast(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    import pyarrow as pa

    columns = [batch.column(field.name).cast(field.type) for field in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _sha256(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
