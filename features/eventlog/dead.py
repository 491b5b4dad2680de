"""Dead letters: what is no valid event, with the reason, on `<topic>.dead` under the key `topic:partition:offset`.

They are written before the batch that they came with is committed, so a crash in between writes them again: at least
once on the wire, once by key.
"""

from __future__ import annotations

import base64
import hashlib
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from features.encoded import JsonObject
from features.events import EVENTS, InvalidEvent
from features.kafka import MAX_MESSAGE_BYTES, consumer
from features.settings import KafkaSettings
from features.topics import DEAD, broker_name

if TYPE_CHECKING:
    from kafka import KafkaProducer
    from kafka.consumer.fetcher import ConsumerRecord

log = logging.getLogger(__name__)
_ROOM = 4096  # for everything but the original in a dead letter
_SHORT = 1024  # a key up to so many bytes stays in every letter


def key_of(record: ConsumerRecord) -> str:
    """The dead letter's key: where the record lies."""
    return f"{record.topic}:{record.partition}:{record.offset}"


def letter(record: ConsumerRecord, reason: InvalidEvent, *, whole: bool = True) -> bytes:
    """The dead letter of a record, as JSON.

    Args:
        record: What is no valid event.
        reason: Why.
        whole: With the original's key and value, if that stays below 4 MiB.

    Returns:
        `topic partition offset timestamp_ms reason`, and the original's key and value: as text, or in base64 under
        `key_base64`, `value_base64` where they are no UTF-8. What is too long is left in its own topic and named by
        `key_bytes key_sha256`, `value_bytes value_sha256`.
    """
    body: JsonObject = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp_ms": record.timestamp,
        "reason": str(reason),
    }
    wrapped = msgspec.json.encode(body | _part("key", record.key) | _part("value", record.value))
    if whole and len(wrapped) <= MAX_MESSAGE_BYTES - _ROOM:
        return wrapped
    return msgspec.json.encode(body | _bare("key", record.key) | _bare("value", record.value))


def _part(name: str, data: bytes | None) -> dict[str, object]:
    if data is None:
        return {name: None}
    try:
        return {name: data.decode()}
    except UnicodeDecodeError:
        return {name + "_base64": base64.b64encode(data).decode()}


def _bare(name: str, data: bytes | None) -> JsonObject:
    if data is None or (name == "key" and len(data) <= _SHORT):
        return _part(name, data)
    return {name + "_bytes": len(data), name + "_sha256": hashlib.sha256(data).hexdigest()}


class Letters:
    """Dead letters on their way; `flush` before the batch that they came with is committed.

    A letter has the present time as its record's timestamp: brokers refuse stamps that lie ahead of their clock, and
    delete old ones, and what is no event may have any. The original's is in the letter.

    Args:
        producer: Where to.
        settings: Kafka's settings.
    """

    def __init__(self, producer: KafkaProducer, settings: KafkaSettings) -> None:
        self._producer, self._settings = producer, settings
        self._sent: list[tuple[Any, str, ConsumerRecord, InvalidEvent]] = []

    def send(self, topic: str, record: ConsumerRecord, reason: InvalidEvent) -> None:
        """Send a dead letter.

        Args:
            topic: Our name of the topic that the record came from.
            record: What is no valid event.
            reason: Why.
        """
        self._sent.append((self._send(topic, record, letter(record, reason)), topic, record, reason))

    def flush(self, timeout_s: float = 60) -> None:
        """Wait until the broker has every letter; one that it refuses for its size goes again without its original.

        Else one record would stop all ingest, at this and at every later run.
        """
        from kafka import errors as kafka_errors

        sent, self._sent = self._sent, []
        self._producer.flush(timeout=timeout_s)
        again = []
        for future, topic, record, reason in sent:
            try:
                future.get(timeout=timeout_s)
            except (kafka_errors.MessageSizeTooLargeError, kafka_errors.RecordListTooLargeError):
                again.append(self._send(topic, record, letter(record, reason, whole=False)))
        if again:
            log.warning(
                "%d dead letters go without their originals: their topic's max.message.bytes is small", len(again)
            )
            self._producer.flush(timeout=timeout_s)
            for future in again:
                future.get(timeout=timeout_s)

    def _send(self, topic: str, record: ConsumerRecord, value: bytes) -> Any:
        return self._producer.send(broker_name(self._settings, topic + DEAD), key=key_of(record).encode(), value=value)


def read(settings: KafkaSettings, topic: str) -> Iterator[tuple[str, JsonObject]]:
    """Dead letters of a topic, each key once.

    Args:
        settings: Kafka's settings with `bootstrap_servers` filled in.
        topic: Our name of the topic that they come from.

    Yields:
        Key and letter, as `letter` made it.
    """
    from kafka import TopicPartition

    name, seen = broker_name(settings, topic + DEAD), set()
    with consumer(settings) as client:
        partitions = [TopicPartition(name, number) for number in sorted(client.partitions_for_topic(name) or ())]
        client.assign(partitions)
        client.seek_to_beginning(*partitions)
        ends = client.end_offsets(partitions) if partitions else {}
        while any(client.position(partition) < end for partition, end in ends.items()):
            for records in client.poll(timeout_ms=1000).values():
                for record in records:
                    if record.key not in seen and record.value is not None:
                        seen.add(record.key)
                        yield record.key.decode(), msgspec.json.decode(record.value)


def count(settings: KafkaSettings) -> dict[str, int]:
    """How many records of each topic are dead letters, by distinct key."""
    return {topic: sum(1 for _ in read(settings, topic)) for topic in EVENTS}
