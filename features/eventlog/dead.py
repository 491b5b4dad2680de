"""Dead letters: what is no valid event, with the reason, on `<topic>.dead` under the key `topic:partition:offset`.

They are written before the batch that they came with is committed, so a crash in between writes them again: at least
once on the wire, once by key.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from features.events import EVENTS, LAST_US, InvalidEvent
from features.kafka import MAX_MESSAGE_BYTES, consumer
from features.settings import KafkaSettings
from features.topics import DEAD, broker_name

if TYPE_CHECKING:
    from kafka import KafkaProducer
    from kafka.consumer.fetcher import ConsumerRecord

_ROOM = 4096  # for everything but the original in a dead letter


def key_of(record: ConsumerRecord) -> str:
    """The dead letter's key: where the record lies."""
    return f"{record.topic}:{record.partition}:{record.offset}"


def letter(record: ConsumerRecord, reason: InvalidEvent) -> bytes:
    """The dead letter of a record, as JSON.

    Args:
        record: What is no valid event.
        reason: Why.

    Returns:
        `topic partition offset timestamp_ms reason`, and the original's key and value: as text, or in base64 under
        `key_base64`, `value_base64` where they are no UTF-8. A value too long for the topic is left in its own.
    """
    body: dict[str, Any] = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp_ms": record.timestamp,
        "reason": str(reason),
    }
    _put(body, "key", record.key)
    _put(body, "value", record.value)
    wrapped = msgspec.json.encode(body)
    if len(wrapped) > MAX_MESSAGE_BYTES - _ROOM:
        for name in ("value", "value_base64"):
            body.pop(name, None)
        body["value_bytes"] = len(record.value)
        wrapped = msgspec.json.encode(body)
    return wrapped


def _put(body: dict[str, Any], name: str, data: bytes | None) -> None:
    if data is None:
        body[name] = None
        return
    try:
        body[name] = data.decode()
    except UnicodeDecodeError:
        body[name + "_base64"] = base64.b64encode(data).decode()


def send(
    producer: KafkaProducer, settings: KafkaSettings, topic: str, record: ConsumerRecord, reason: InvalidEvent
) -> Any:
    """Send a dead letter; the caller waits for the future it returns before it commits the batch.

    Args:
        producer: Where to.
        settings: Kafka's settings.
        topic: Our name of the topic that the record came from.
        record: What is no valid event.
        reason: Why.
    """
    return producer.send(
        broker_name(settings, topic + DEAD),
        key=key_of(record).encode(),
        value=letter(record, reason),
        timestamp_ms=min(max(record.timestamp, 0), LAST_US // 1000),
    )


def read(settings: KafkaSettings, topic: str) -> Iterator[tuple[str, dict[str, Any]]]:
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
