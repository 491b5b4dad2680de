"""Kafka to Delta, exactly once, however often it is run or killed."""

from __future__ import annotations

import logging
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from features.errors import DataError, NotReadyError, UnreachableError
from features.eventlog.complete import note_complete
from features.eventlog.dead import Letters
from features.eventlog.schema import EventRow
from features.eventlog.share import Counted, Refused, judge
from features.eventlog.table import EventBatch, Tally, TopicTable
from features.events import EVENTS, InvalidEvent, decode
from features.kafka import MAX_MESSAGE_BYTES, admin, consumer, errors, producer
from features.layout import Layout
from features.settings import KafkaSettings
from features.topics import Topic, ensure

if TYPE_CHECKING:
    from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
    from kafka.consumer.fetcher import ConsumerRecord

log = logging.getLogger(__name__)
BATCH_RECORDS = 20_000
BATCH_BYTES = 32 * 1024 * 1024
_STALL_S = 60.0
OPEN_S = 10.0  # how long `--until` waits for transactions that end by themselves
_LOOK_S = 0.2


@dataclass
class Ingested:
    """What one run did with a topic.

    Args:
        events: Rows appended.
        dead: Records that went to the dead letters.
        commits: Delta commits.
        rows_from: Partition to the offset where this run began.
        rows_to: Partition to the next offset to read.
        hidden: Partition to how many offsets, of those that Kafka held as the run began, an open transaction hides.
        reasons: Why records were no events, to how many they were.
        few: The new records, where too many are no events by their share but too few to stop the run; else None.
    """

    events: int = 0
    dead: int = 0
    commits: int = 0
    rows_from: dict[int, int] = field(default_factory=dict)
    rows_to: dict[int, int] = field(default_factory=dict)
    hidden: dict[int, int] = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)
    few: Refused | None = None


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
    Whatever error there is, what could be read is in the log, and what was no event is in the dead letters.

    Args:
        settings: Kafka's settings with `bootstrap_servers` filled in.
        layout: Where the tables lie.
        until: The moment (known time, µs UTC) up to which the caller wants the log to be complete.
        batch_records: Most records in one commit.
        progress: Called after each commit with the topic and what was done so far.

    Returns:
        What was done, by topic.

    Raises:
        DataError: If Kafka no longer has records that the log lacks, or if a larger share than
            `kafka.max_invalid_share` of a topic's new records are no events.
        NotReadyError: If the log cannot be complete at `until`: an open transaction hides records, or the moment has
            not come.
        UnreachableError: If Kafka stops answering.
    """
    topics = {topic.name: topic for topic in ensure(settings)}
    with admin(settings) as client:
        cluster = str(client.describe_cluster()["cluster_id"])
        marks = _high_watermarks(client, [topics[name] for name in EVENTS])
    runs: dict[str, _TopicRun] = {}
    with (
        consumer(settings, group_id=settings.group_id, max_poll_records=5_000) as source,
        producer(settings, max_request_size=2 * MAX_MESSAGE_BYTES) as sender,
    ):
        letters = Letters(sender, settings)
        for name in EVENTS:
            topic = topics[name]
            table = TopicTable(layout.table(name), name, f"{cluster}/{topic.topic_id}", topic.broker_name)
            runs[name] = _TopicRun(settings, table, topic, source, letters, marks, batch_records, progress)
        with errors(settings):
            for run in runs.values():
                run.run()
            if until is not None:
                _wait_for_transactions(list(runs.values()))
    found = {name: Counted(run.table.source, run.tally(), run.done.reasons) for name, run in runs.items()}
    for name, few in judge(layout, found, limit=settings.max_invalid_share, until=until).items():
        runs[name].done.few = few
    if until is not None:
        _need_all(runs.values())
        note_complete(layout, until)
    return {name: run.done for name, run in runs.items()}


def _high_watermarks(client: KafkaAdminClient, topics: Sequence[Topic]) -> dict[TopicPartition, int]:
    """The end of every partition, what transactions still hide included."""
    from kafka import TopicPartition
    from kafka.admin import OffsetSpec

    asked = {TopicPartition(t.broker_name, number): OffsetSpec.LATEST for t in topics for number in range(t.partitions)}
    found = client.list_partition_offsets(asked, isolation_level="read_uncommitted")
    return {partition: int(found[partition].offset) for partition in asked}


def _wait_for_transactions(runs: Sequence[_TopicRun]) -> None:
    """Read on for a moment where records are hidden: most transactions are about to end."""
    deadline = time.monotonic() + OPEN_S
    while (hidden := [run for run in runs if run.done.hidden]) and time.monotonic() < deadline:
        time.sleep(_LOOK_S)
        for run in hidden:
            run.run()


def _need_all(runs: Iterable[_TopicRun]) -> None:
    """Make sure that everything below the high watermarks was read.

    Raises:
        NotReadyError: If a transaction is open in a partition: it hides what others committed behind it, too.
    """
    hidden = [
        f"{run.topic.broker_name}:{number} (from {run.done.rows_to[number]}, {count} offsets)"
        for run in runs
        for number, count in sorted(run.done.hidden.items())
    ]
    if hidden:
        raise NotReadyError(
            "an open transaction hides records, so the log is not complete; what could be read is in",
            field="partition", value=", ".join(hidden),
            remedy="its producer must commit or abort it (`kafka-transactions.sh describe-producers`); run again",
        )  # fmt: skip


def _kind(reason: InvalidEvent) -> str:
    """A reason without what differs from record to record."""
    what = re.sub(r" \(byte [0-9]+\)", "", reason.what)
    return what if reason.field is None else f"{what} ({reason.field})"


class _TopicRun:
    """One topic, from where the table stands to the end that Kafka has now."""

    def __init__(
        self,
        settings: KafkaSettings,
        table: TopicTable,
        topic: Topic,
        source: KafkaConsumer,
        letters: Letters,
        marks: Mapping[TopicPartition, int],
        batch_records: int,
        progress: Callable[[str, Ingested], None],
    ) -> None:
        from kafka import TopicPartition

        self.settings, self.table, self.topic, self.source, self.letters = settings, table, topic, source, letters
        self.batch_records, self.progress = batch_records, progress
        self.partitions = [TopicPartition(topic.broker_name, number) for number in range(topic.partitions)]
        self.marks = {tp.partition: marks[tp] for tp in self.partitions}
        self.done = Ingested()

    def run(self) -> None:
        """Read on to what is stable now; `done.hidden` then says what is not."""
        self.source.assign(self.partitions)
        ends: dict[TopicPartition, int] = self.source.end_offsets(self.partitions)
        starts = self._seek(ends)
        while any(self._position(partition) < end for partition, end in ends.items()):
            records = self._collect(ends)
            starts = self._commit(records, starts)
        self.source.unsubscribe()
        hidden = {number: mark - self.done.rows_to[number] for number, mark in self.marks.items()}
        self.done.hidden = {number: count for number, count in hidden.items() if count > 0}

    def tally(self) -> Tally:
        """What the table counts of the topic."""
        return self.table.tally(list(self.marks))

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
            self.done.rows_to[tp.partition] = oldest[tp] if stands is None else stands
            self.done.rows_from.setdefault(tp.partition, self.done.rows_to[tp.partition])
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
        rows, names = [], self.settings.field_names(self.topic.name)
        dead: dict[int, list[int]] = {}
        for record in records:
            known_time = record.timestamp * 1000
            try:
                event = decode(self.topic.name, record.key, record.value, known_time, names)
                rows.append(EventRow(record.partition, record.offset, known_time, event))
            except InvalidEvent as reason:
                self.letters.send(self.topic.name, record, reason)
                dead.setdefault(record.partition, []).append(record.offset)
                self.done.reasons[_kind(reason)] += 1
        self.letters.flush()
        ends = {number: position for number, position in self._positions().items() if position != starts[number]}
        self.done.events += self.table.commit(EventBatch(rows, starts, ends, dead))
        self.done.dead += sum(map(len, dead.values()))
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
