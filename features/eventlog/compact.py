"""Compaction: a day that nothing new is expected for becomes one file a topic."""

from __future__ import annotations

import datetime as dt
import logging
from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError

from features.eventlog.schema import PARTITION_COLUMN
from features.events import EVENTS
from features.layout import Layout

log = logging.getLogger(__name__)
_KEEP_HOURS = 7 * 24
_OPEN_DAYS = 1  # days before the newest that stay open for late events


def compact_closed(layout: Layout, *, least_files: int = 2) -> int:
    """Compact the closed days of every topic, and delete files that no version of the last week needs.

    A day is closed when the log holds events of two days after it, by event time. Late events still land in their own
    day afterwards, and the day is then compacted again.

    Args:
        layout: Where the tables lie.
        least_files: A day with fewer files is left as it is.

    Returns:
        How many files were replaced.
    """
    return sum(_compact(layout.table(topic), least_files) for topic in EVENTS if layout.table(topic).exists())


def _compact(path: Path, least_files: int) -> int:
    table = DeltaTable(path)
    files = _files_by_day(table)
    if not files:
        return 0
    open_from = max(files) - dt.timedelta(days=_OPEN_DAYS)
    days = [day for day, count in files.items() if count >= least_files and day < open_from]
    replaced = 0
    try:
        for day in sorted(days):
            metrics = table.optimize.compact(partition_filters=[(PARTITION_COLUMN, "=", day.isoformat())])
            replaced += int(metrics["numFilesRemoved"])
        if replaced:
            table.vacuum(retention_hours=_KEEP_HOURS, dry_run=False)
    except CommitFailedError as error:  # another process compacts too; it is only housekeeping
        log.info("%s: compaction left to another process: %s", path.name, error)
    return replaced


def _files_by_day(table: DeltaTable) -> dict[dt.date, int]:
    counts: dict[dt.date, int] = {}
    for day in pa.table(table.get_add_actions(flatten=True))[f"partition.{PARTITION_COLUMN}"].to_pylist():
        counts[day] = counts.get(day, 0) + 1
    return counts
