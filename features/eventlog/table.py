"""One Delta table of the event log, and the commit that holds rows and Kafka offsets together.

Delta keeps a version for each application id of its own: ours is the partition, its version the next offset to read.
Beside it, `<partition>/read` and `<partition>/dead` count its records and those of them that were no events.
Delta accepts a version at or below the one it has, and would double the rows; so a commit goes through the very handle
from which the version was read, after asserting that it equals the offset where the batch starts. A handle that became
stale because someone else wrote the same partition makes the commit fail; what they wrote is then dropped from ours.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, TableNotFoundError

from features.errors import DataError
from features.eventlog.schema import PARTITION_COLUMN, EventRow, arrow_schema, to_arrow

log = logging.getLogger(__name__)
_ATTEMPTS = 20


@dataclass(frozen=True)
class EventBatch:
    """Rows of some partitions of a topic and the offsets that they span.

    Args:
        rows: The valid events, in any order.
        starts: Partition to its first offset; None if the table has none yet for it.
        ends: Partition to the next offset to read, transaction markers passed over included.
        dead: Partition to the offsets of what was no event.
    """

    rows: Sequence[EventRow]
    starts: Mapping[int, int | None]
    ends: Mapping[int, int]
    dead: Mapping[int, Sequence[int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Tally:
    """How many records of a topic were read, and how many of them were no events.

    Args:
        read: Records, the dead ones included.
        dead: What went to the dead letters.
    """

    read: int
    dead: int

    @property
    def share(self) -> float:
        """Share of the dead among all, 0 to 1."""
        return self.dead / self.read if self.read else 0.0


class TopicTable:
    """The Delta table of one topic of one cluster.

    Args:
        path: The table's folder; created when missing.
        topic: Our name of the topic.
        source: `<cluster id>/<topic id>`: offsets are counted apart for each.
        broker_topic: The broker's name of the topic.
    """

    def __init__(self, path: Path, topic: str, source: str, broker_topic: str) -> None:
        self.path, self.topic, self.source, self.broker_topic = path, topic, source, broker_topic
        self._handle = open_or_create(path, topic)

    def next_offset(self, partition: int) -> int | None:
        """The offset at which reading goes on, as the held handle knows it; None if nothing of the partition is in."""
        return self._handle.transaction_version(self._app_id(partition))

    def tally(self, partitions: Sequence[int]) -> Tally:
        """Records of these partitions since the table was made (or since it counts), as its newest version has them."""
        self.reload()
        read, dead = (
            sum(self._handle.transaction_version(f"{self._app_id(partition)}/{kind}") or 0 for partition in partitions)
            for kind in ("read", "dead")
        )
        return Tally(read, dead)

    def reload(self) -> None:
        """Look at the table anew."""
        self._handle = DeltaTable(self.path)

    def commit(self, batch: EventBatch) -> int:
        """Append a batch with its offsets, once.

        Args:
            batch: The batch. What the table has of it already, because someone else wrote it, is left out.

        Returns:
            How many rows were appended.

        Raises:
            DataError: If the table stands before the batch: rows would be missing between.
        """
        for _ in range(_ATTEMPTS):
            rows, transactions = self._pending(batch)
            if not transactions:
                return 0
            try:
                write_deltalake(
                    self._handle,
                    to_arrow(self.topic, self.source, self.broker_topic, rows),
                    mode="append",
                    commit_properties=CommitProperties(app_transactions=transactions),
                )
            except CommitFailedError as error:
                log.info("%s: another writer was faster, looking again: %s", self.topic, error)
                self.reload()
                continue
            return len(rows)
        raise DataError(
            "other writers keep the table from being written", field="table", value=str(self.path),
            remedy="let one ingest run at a time",
        )  # fmt: skip

    def _pending(self, batch: EventBatch) -> tuple[list[EventRow], list[Transaction]]:
        """What of the batch the table does not have, judged by the handle that will commit it."""
        low: dict[int, int] = {}
        ends: dict[int, int] = {}
        for partition, end in batch.ends.items():
            there, start = self.next_offset(partition), batch.starts[partition]
            if there != start and (there is None or (start is not None and there < start)):
                raise DataError(
                    "the table stands before the batch", field=f"{self.broker_topic}:{partition}", value=there,
                    remedy=f"it should stand at {start}: was the table restored? run ingest again",
                )  # fmt: skip
            if there is None or there < end:
                low[partition], ends[partition] = there or 0, end
        rows = [row for row in batch.rows if row.partition in ends and row.offset >= low[row.partition]]
        living = Counter(row.partition for row in rows)
        transactions = []
        for partition, end in sorted(ends.items()):
            dead = sum(offset >= low[partition] for offset in batch.dead.get(partition, ()))
            transactions.append(Transaction(self._app_id(partition), end))
            transactions += self._counted(partition, "read", living[partition] + dead)
            transactions += self._counted(partition, "dead", dead)
        return rows, transactions

    def _counted(self, partition: int, kind: str, more: int) -> list[Transaction]:
        app_id = f"{self._app_id(partition)}/{kind}"
        return [Transaction(app_id, (self._handle.transaction_version(app_id) or 0) + more)] if more else []

    def _app_id(self, partition: int) -> str:
        return f"{self.source}/{partition}"


def open_or_create(path: Path, topic: str) -> DeltaTable:
    """The topic's table, made when missing, with the columns that its schema gained since.

    Args:
        path: The table's folder.
        topic: Our name of the topic.
    """
    schema = arrow_schema(topic)
    try:
        table = DeltaTable(path)
    except TableNotFoundError:
        path.mkdir(parents=True, exist_ok=True)
        DeltaTable.create(
            str(path), schema=schema, mode="ignore", partition_by=[PARTITION_COLUMN], name=topic,
            configuration={"delta.checkpointInterval": "25"},
        )  # fmt: skip
        table = DeltaTable(path)
    there = {field.name for field in table.schema().fields}
    missing = [field for field in schema if field.name not in there]
    if missing:
        from deltalake import Field, Schema

        gained = Schema.from_arrow(schema.empty_table().select([field.name for field in missing]).schema)
        table.alter.add_columns([Field(field.name, field.type, nullable=True) for field in gained.fields])
        table = DeltaTable(path)
    return table
