"""Kafka to Delta, exactly once, however often it is run or killed."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from features.atomic import write_bytes
from features.errors import DataError, UnreachableError
from features.eventlog import dead
from features.eventlog.schema import Row
from features.eventlog.table import Batch, TopicTable
from features.events import EVENTS, InvalidEvent, decode
from features.kafka import MAX_MESSAGE_BYTES, admin, consumer, errors, producer
from features.layout import Layout
from features.settings import KafkaSettings
from features.topics import Topic, ensure

if TYPE_CHECKING:
    from kafka import KafkaConsumer, KafkaProducer, TopicPartition
    from kafka.consumer.fetcher import ConsumerRecord

log = logging.getLogger(__name__)
BATCH_RECORDS = 20_000
BATCH_BYTES = 32 * 1024 * 1024
_STALL_S = 60.0


@dataclass
class Ingested:
    """What one run did with a topic.

    Args:
        events: Rows appended.
        dead: Records that went to the dead letters.
        commits: Delta commits.
        rows_from: Partition to the offset where this run began.
        rows_to: Partition to the next offset to read.
    """

    events: int = 0
    dead: int = 0
    commits: int = 0
    rows_from: dict[int, int] = field(default_factory=dict)
    rows_to: dict[int, int] = field(default_factory=dict)


def ingest(
    settings: KafkaSettings,
    layout: Layout,
    *,
    until: int | None = None,
    batch_records: int = BATCH_RECORDS,
    progress: Callable[[str, Ingested], None] = lambda _topic, _done: None,
) -> dict[str, Ingested]:
    """Bring the event log up to what Kafka holds as this begins.

    Everything that is committed in Kafka when this begins is taken in, whatever its timestamp, because records of a
    partition need not be in the order of their timestamps. So once the moment `until` has passed for those who
    produce, nothing that was known before it is missing afterwards, and that is written down for the steps that follow.

    Args:
        settings: Kafka's settings with `bootstrap_servers` filled in.
        layout: Where the tables lie.
        until: The moment (known time, µs UTC) up to which the caller wants the log to be complete.
        batch_records: Most records in one commit.
        progress: Called after each commit with the topic and what was done so far.

    Returns:
        What was done, by topic.

    Raises:
        DataError: If Kafka no longer has records that the log lacks.
        UnreachableError: If Kafka stops answering.
    """
    topics = {topic.name: topic for topic in ensure(settings)}
    with admin(settings) as client:
        cluster = str(client.describe_cluster()["cluster_id"])
    done: dict[str, Ingested] = {}
    with (
        consumer(settings, group_id=settings.group_id, max_poll_records=5_000) as source,
        producer(settings, max_request_size=2 * MAX_MESSAGE_BYTES) as letters,
    ):
        for name in EVENTS:
            topic = topics[name]
            table = TopicTable(layout.table(name), name, f"{cluster}/{topic.topic_id}", topic.broker_name)
            run = _TopicRun(settings, table, topic, source, letters, batch_records, progress)
            with errors(settings):
                done[name] = run.run()
    if until is not None:
        _note_complete(layout, until)
    return done


def complete_until(layout: Layout) -> int | None:
    """The newest known time up to which an `ingest --until` has completed the log; None if there was none."""
    file = layout.state / "ingested_until"
    return int(file.read_text(encoding="utf-8")) if file.exists() else None


def _note_complete(layout: Layout, until: int) -> None:
    if until > (complete_until(layout) or 0):
        write_bytes(layout.state / "ingested_until", f"{until}\n".encode())


class _TopicRun:
    """One topic, from where the table stands to the end that Kafka has now."""

    def __init__(
        self,
        settings: KafkaSettings,
        table: TopicTable,
        topic: Topic,
        source: KafkaConsumer,
        letters: KafkaProducer,
        batch_records: int,
        progress: Callable[[str, Ingested], None],
    ) -> None:
        from kafka import TopicPartition

        self.settings, self.table, self.topic, self.source, self.letters = settings, table, topic, source, letters
        self.batch_records, self.progress = batch_records, progress
        self.partitions = [TopicPartition(topic.broker_name, number) for number in range(topic.partitions)]
        self.done = Ingested()

    def run(self) -> Ingested:
        self.source.assign(self.partitions)
        ends: dict[TopicPartition, int] = self.source.end_offsets(self.partitions)
        starts = self._seek(ends)
        while any(self._position(partition) < end for partition, end in ends.items()):
            records = self._collect(ends)
            starts = self._commit(records, starts)
        self.source.unsubscribe()
        return self.done

    def _seek(self, ends: Mapping[TopicPartition, int]) -> dict[int, int | None]:
        """Go to where the table stands; a partition that it does not know begins with the oldest record there is."""
        starts: dict[int, int | None] = {}
        oldest = self.source.beginning_offsets(self.partitions)
        for tp in self.partitions:
            stands = self.table.next_offset(tp.partition)
            if stands is not None and not oldest[tp] <= stands <= ends[tp]:
                lost = "deleted by retention" if stands < oldest[tp] else "lost by Kafka"
                raise DataError(
                    f"records were {lost}: the log stands at {stands}, Kafka holds {oldest[tp]} to {ends[tp]}",
                    field="partition", value=f"{tp.topic}:{tp.partition}",
                    remedy="restore the topic, or lengthen retention.ms and ingest more often; nothing was skipped",
                )  # fmt: skip
            starts[tp.partition] = stands
            self.source.seek(tp, oldest[tp] if stands is None else stands)
            self.done.rows_from[tp.partition] = oldest[tp] if stands is None else stands
            self.done.rows_to[tp.partition] = self.done.rows_from[tp.partition]
        return starts

    def _collect(self, ends: Mapping[TopicPartition, int]) -> list[ConsumerRecord]:
        """Records of the next batch: until it is full, or everything that was there when the run began is read."""
        batch: list[ConsumerRecord] = []
        size, before, since = 0, self._positions(), time.monotonic()
        while any(self._position(partition) < end for partition, end in ends.items()):
            room = self.batch_records - len(batch)
            for records in self.source.poll(timeout_ms=1000, max_records=min(room, 5_000)).values():
                batch.extend(records)
                size += sum(len(record.value or b"") for record in records)
            if len(batch) >= self.batch_records or size >= BATCH_BYTES:
                break
            if (now := self._positions()) != before:
                before, since = now, time.monotonic()
            elif time.monotonic() - since > _STALL_S:
                raise UnreachableError(
                    f"Kafka gave no record of {self.topic.broker_name} for {_STALL_S:.0f} s",
                    field="kafka.bootstrap_servers", value=self.settings.bootstrap_servers,
                    remedy="look for partitions without a leader and for transactions left open",
                )  # fmt: skip
        return batch

    def _commit(self, records: list[ConsumerRecord], starts: Mapping[int, int | None]) -> dict[int, int | None]:
        rows, pending, names = [], [], self.settings.field_names(self.topic.name)
        for record in records:
            known_time = record.timestamp * 1000
            try:
                event = decode(self.topic.name, record.key, record.value, known_time, names)
                rows.append(Row(record.partition, record.offset, known_time, event))
            except InvalidEvent as reason:
                pending.append(dead.send(self.letters, self.settings, self.topic.name, record, reason))
        self.letters.flush(timeout=60)
        for future in pending:
            future.get(timeout=60)
        ends = {number: position for number, position in self._positions().items() if position != starts[number]}
        self.done.events += self.table.commit(Batch(rows, starts, ends))
        self.done.dead += len(pending)
        self.done.commits += 1
        self.done.rows_to.update(ends)
        self._show_lag()
        self.progress(self.topic.name, self.done)
        return {**starts, **ends}

    def _positions(self) -> dict[int, int]:
        return {tp.partition: self._position(tp) for tp in self.partitions}

    def _position(self, tp: TopicPartition) -> int:
        position = self.source.position(tp, timeout_ms=30_000)
        if position is None:
            raise UnreachableError(
                "Kafka does not say where we stand", field="partition", value=f"{tp.topic}:{tp.partition}",
                remedy="look for partitions without a leader",
            )  # fmt: skip
        return int(position)

    def _show_lag(self) -> None:
        """Commit to the group, which shows the lag to others and decides nothing."""
        from kafka import OffsetAndMetadata
        from kafka import errors as kafka_errors

        offsets = {tp: OffsetAndMetadata(self._position(tp), "", -1) for tp in self.partitions}
        try:
            self.source.commit(offsets, timeout_ms=5_000)
        except kafka_errors.KafkaError as error:
            log.warning("%s: the group's lag is not shown: %s", self.topic.broker_name, error)
