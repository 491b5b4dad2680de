"""The broker does what the event log is built on."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.structs import OffsetAndMetadata

from tests.stack import Stack, until

pytestmark = pytest.mark.integration


@pytest.fixture
def broker(stack: Stack) -> str:
    return stack.need("kafka").kafka.bootstrap_servers


def make_topic(broker: str, name: str) -> TopicPartition:
    with contextlib.closing(KafkaAdminClient(bootstrap_servers=broker)) as admin:
        admin.create_topics([NewTopic(name, 1, 1, topic_configs={"retention.ms": "-1"})])
    return TopicPartition(name, 0)


@contextlib.contextmanager
def consumer(broker: str, **options: object) -> Iterator[KafkaConsumer]:
    client = KafkaConsumer(bootstrap_servers=broker, consumer_timeout_ms=3000, **options)
    with contextlib.closing(client):
        yield client


def read(broker: str, place: TopicPartition, **options: object) -> list[bytes]:
    with consumer(broker, **options) as client:
        client.assign([place])
        client.seek_to_beginning(place)
        return [record.value for record in client]


def test_a_record_is_produced_consumed_and_its_offset_committed(broker: str) -> None:
    place = make_topic(broker, "trial-commit")
    with contextlib.closing(KafkaProducer(bootstrap_servers=broker)) as producer:
        offsets = [producer.send(place.topic, b"%d" % n, partition=0).get(10).offset for n in range(3)]
    assert offsets == [0, 1, 2]
    with consumer(broker, group_id="trial", enable_auto_commit=False) as client:
        client.assign([place])
        client.seek(place, 1)
        assert [record.value for record in client] == [b"1", b"2"]
        client.commit({place: OffsetAndMetadata(client.position(place), "", -1)})
    with consumer(broker, group_id="trial") as client:
        client.assign([place])
        assert client.committed(place) == 3


def test_offsets_are_found_by_the_time_of_records_of_another_year(broker: str) -> None:
    place = make_topic(broker, "trial-times")
    first = 1_700_000_000_000
    with contextlib.closing(KafkaProducer(bootstrap_servers=broker)) as producer:
        for n in range(5):
            producer.send(place.topic, b"x", partition=0, timestamp_ms=first + 1000 * n).get(10)
    with consumer(broker) as client:
        found = client.offsets_for_times({place: first + 2500})[place]
        assert (found.offset, found.timestamp) == (3, first + 3000)
        assert client.offsets_for_times({place: first + 5000})[place] is None


def test_an_aborted_transaction_is_invisible_and_leaves_a_gap(broker: str) -> None:
    place = make_topic(broker, "trial-transactions")
    with contextlib.closing(KafkaProducer(bootstrap_servers=broker, transactional_id="trial")) as producer:
        producer.init_transactions()
        for value, keep in ((b"kept", True), (b"dropped", False), (b"kept too", True)):
            producer.begin_transaction()
            producer.send(place.topic, value, partition=0).get(10)  # an abort would drop it before it was sent
            producer.commit_transaction() if keep else producer.abort_transaction()
    assert read(broker, place, isolation_level="read_committed") == [b"kept", b"kept too"]
    with consumer(broker) as client:
        assert client.end_offsets([place])[place] == 6  # three records and three markers


def test_every_acknowledged_record_survives_a_kill_while_producing(stack: Stack, broker: str) -> None:
    place = make_topic(broker, "trial-kill")
    acknowledged: list[bytes] = []
    stop = threading.Event()

    def produce() -> None:
        producer = KafkaProducer(bootstrap_servers=broker, delivery_timeout_ms=90_000)
        number = 0
        while not stop.wait(0.001):  # paced, or the buffer would be full before the broker is back
            value = b"%d" % number
            sent = producer.send(place.topic, value, partition=0)
            sent.add_callback(lambda _, value=value: acknowledged.append(value))
            number += 1
        producer.flush(90)
        producer.close()

    thread = threading.Thread(target=produce)
    thread.start()
    try:
        until(lambda: len(acknowledged) > 200, "records before the kill")
        before = set(stack.pids("kafka"))
        stack.kill("kafka")
        seen = len(acknowledged)
        until(lambda: set(stack.pids("kafka")) - before, "the supervisor to start it again")
        until(lambda: len(acknowledged) > seen + 200, "records after the kill", 120)
    finally:
        stop.set()
        thread.join()
    stack.up("kafka")
    stored = read(broker, place)
    assert set(acknowledged) <= set(stored)
    assert len(stored) == len(set(stored)), "an idempotent producer stores nothing twice"
