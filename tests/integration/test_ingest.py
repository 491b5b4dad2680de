"""Ingest on a real broker: everything once, whatever happens to it."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from features.configuration import read, to_plain
from features.errors import DataError, NotReadyError, UsageError
from features.eventlog import dead
from features.eventlog.complete import complete_until
from features.eventlog.ingest import ingest
from features.events import EVENTS, LAST_US
from features.kafka import admin, producer
from features.layout import Layout
from features.publish import publish
from features.record import Record
from features.settings import KafkaSettings
from features.times import DAY, MINUTE
from features.topics import ensure
from tests.integration.broker import T0, clicks, impressions, own_topics, records, rows, stored
from tests.stack import Stack

pytestmark = pytest.mark.integration
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def kafka(stack: Stack) -> KafkaSettings:
    return own_topics(stack.need("kafka").kafka, "ingest")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


def total(done: dict[str, Any]) -> tuple[int, int]:
    return sum(run.events for run in done.values()), sum(run.dead for run in done.values())


def kafka_offsets(kafka: KafkaSettings, topics: tuple[str, ...]) -> list[tuple[str, int, int]]:
    return sorted((topic, record.partition, record.offset) for topic in topics for record in records(kafka, topic))


def test_topics_are_created_once_with_their_settings(kafka: KafkaSettings) -> None:
    first, second = ensure(kafka), ensure(kafka)
    assert all(topic.created and not topic.problems for topic in first)
    assert not any(topic.created or topic.problems for topic in second)
    assert {topic.partitions for topic in first} == {3}
    assert [topic.topic_id for topic in first] == [topic.topic_id for topic in second]


def test_missing_topics_are_named_where_they_may_not_be_created(kafka: KafkaSettings) -> None:
    with pytest.raises(UsageError, match="topics are missing"):
        ensure(replace(kafka, create_topics=False))


def test_a_topic_that_would_lose_events_is_reported(kafka: KafkaSettings) -> None:
    with admin(kafka) as client:
        client.create_topics({kafka.topic("items"): {"num_partitions": 1, "configs": {"cleanup.policy": "delete"}}})
    items = next(topic for topic in ensure(kafka) if topic.name == "items")
    assert not items.created
    assert "use compact" in items.problems[0]


def test_what_was_published_is_in_the_log_once(kafka: KafkaSettings, layout: Layout) -> None:
    done = publish(kafka, [*clicks(0, 200), *impressions(0, 50)])
    assert done.counts == {"clicks": 200, "impressions": 50}
    assert total(ingest(kafka, layout, until=T0 + DAY)) == (250, 0)
    assert total(ingest(kafka, layout)) == (0, 0)
    assert complete_until(layout) == T0 + DAY
    assert rows(layout, "clicks", "event_id, known_time, event_time") == sorted(
        (f"click-{number}", T0 + number * MINUTE, T0 + number * MINUTE) for number in range(200)
    )
    assert rows(layout, "impressions", "len(items), items[2].item_id, policy")[0] == (3, "i1", "uniform")
    publish(kafka, clicks(200, 210))
    assert total(ingest(kafka, layout)) == (10, 0)


def test_known_times_are_rounded_up_to_kafkas_milliseconds(kafka: KafkaSettings, layout: Layout) -> None:
    (event,) = clicks(0, 1)
    publish(kafka, [event._replace(time_us=T0 + 1)])
    ingest(kafka, layout)
    assert rows(layout, "clicks", "known_time - event_time") == [(1000,)]


def test_a_range_published_twice_counts_once(kafka: KafkaSettings, layout: Layout) -> None:
    events = [*clicks(0, 100), *impressions(0, 30)]
    publish(kafka, events)
    ingest(kafka, layout)
    before = rows(layout, "clicks", "*"), rows(layout, "impressions", "*")
    publish(kafka, events)
    assert total(ingest(kafka, layout)) == (130, 0)
    assert (rows(layout, "clicks", "*"), rows(layout, "impressions", "*")) == before


def test_names_of_topics_and_fields_are_the_brokers_own(kafka: KafkaSettings, layout: Layout) -> None:
    named = {"topics": {"clicks": "opened"}, "fields": {"clicks": {"user_id": "uid"}}}
    kafka = read(KafkaSettings, to_plain(kafka) | named)
    publish(kafka, clicks(0, 10))
    assert all(b'"uid"' in record.value and b'"user_id"' not in record.value for record in records(kafka, "clicks"))
    assert total(ingest(kafka, layout)) == (10, 0)
    assert rows(layout, "clicks", "user_id, _topic")[0] == ("u0", kafka.topic_prefix + "opened")


def test_what_is_no_event_is_a_dead_letter_with_its_reason(kafka: KafkaSettings, layout: Layout) -> None:
    good = clicks(0, 20)
    early = good[0]._replace(time_us=T0 - 2 * 60 * MINUTE)
    bad = [
        Record("clicks", "u1", T0, b'{"event_id": "x"'),
        Record("clicks", "u1", T0, b"\xff\xfe"),
        Record("clicks", "u1", T0, None),
        early,
        Record("items", "i1", T0, good[0].value),
    ]
    publish(kafka, [*good, *bad, Record("items", "i2", T0, None)])
    assert total(ingest(kafka, layout)) == (21, 5)
    letters = dict(dead.read(kafka, "clicks"))
    for letter in letters.values():
        assert letter["reason"]
    reasons = sorted(letter["reason"].split(":")[0] for letter in letters.values())
    assert reasons[0].startswith("Input data was truncated")
    assert any("more than an hour after" in reason for reason in reasons)
    assert any(letter.get("value_base64") == "//4=" for letter in letters.values())
    assert any(letter.get("value") == '{"event_id": "x"' for letter in letters.values())
    assert all(key == f"{x['topic']}:{x['partition']}:{x['offset']}" for key, x in letters.items())
    assert dead.count(kafka) == {**dict.fromkeys(EVENTS, 0), "clicks": 4, "items": 1}
    assert rows(layout, "items", "item_id, gone") == [("i2", True)]


def test_markers_and_aborted_records_leave_no_gap_and_no_row(kafka: KafkaSettings, layout: Layout) -> None:
    ensure(kafka)
    name = kafka.topic("clicks")
    with producer(kafka, transactional_id=kafka.topic_prefix + "t") as client:
        client.init_transactions()
        for number, event in enumerate(clicks(0, 40)):
            client.begin_transaction()
            client.send(name, key=event.key.encode(), value=event.value, timestamp_ms=event.time_us // 1000)
            client.flush()
            if number % 3:
                client.commit_transaction()
            else:
                client.abort_transaction()
    done = ingest(kafka, layout, batch_records=5)
    committed = [number for number in range(40) if number % 3]
    assert total(done) == (len(committed), 0)
    assert rows(layout, "clicks", "event_id") == sorted((f"click-{number}",) for number in committed)
    assert sum(done["clicks"].rows_to.values()) == 80  # each record and its transaction's marker
    again = ingest(kafka, layout)
    assert again["clicks"].rows_from == done["clicks"].rows_to
    assert total(again) == (0, 0)


def test_a_cut_is_not_complete_while_a_transaction_is_open(
    kafka: KafkaSettings, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka = replace(kafka, partitions=1)
    publish(kafka, clicks(0, 10))
    name = kafka.topic("clicks")
    with producer(kafka, transactional_id=kafka.topic_prefix + "t") as client:
        client.init_transactions()
        client.begin_transaction()
        client.send(name, key=b"u", value=clicks(10, 11)[0].value, timestamp_ms=T0 // 1000)
        client.flush()
        publish(kafka, clicks(11, 31))  # committed, and hidden behind it
        done = ingest(kafka, layout)
        assert (done["clicks"].events, done["clicks"].hidden) == (10, {0: 21})
        with monkeypatch.context() as patch:
            patch.setattr("features.eventlog.ingest.OPEN_S", 0.3)
            with pytest.raises(NotReadyError, match=rf"open transaction.*{name}:0 \(from 10, 21 offsets\)") as error:
                ingest(kafka, layout, until=T0 + DAY)
        assert (error.value.exit_code, complete_until(layout)) == (4, None)
        assert len(rows(layout, "clicks", "event_id")) == 10
        later = threading.Timer(0.5, client.commit_transaction)
        later.start()
        done = ingest(kafka, layout, until=T0 + DAY)  # waits for what ends by itself
        later.join()
    assert (done["clicks"].events, done["clicks"].hidden) == (21, {})
    assert len(rows(layout, "clicks", "event_id")) == 31
    assert complete_until(layout) == T0 + DAY


def test_every_codec_is_read_and_a_missing_one_is_named(
    kafka: KafkaSettings, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure(kafka)
    codecs = ("gzip", "lz4", "snappy", "zstd")
    for number, name in enumerate(codecs):
        with producer(kafka, compression_type=name) as client:
            for event in clicks(50 * number, 50 * number + 50):
                stamp = event.time_us // 1000
                client.send(kafka.topic("clicks"), key=event.key.encode(), value=event.value, timestamp_ms=stamp)
    with monkeypatch.context() as patch:
        patch.setattr("kafka.codec.lz4", None)
        with pytest.raises(UsageError, match=r"compression\.type = 'lz4'; install lz4 "):
            ingest(kafka, layout)
    assert complete_until(layout) is None
    ingest(kafka, layout)
    assert len(rows(layout, "clicks", "event_id")) == 200


def test_a_letter_that_its_topic_refuses_goes_in_a_form_that_it_takes(kafka: KafkaSettings, layout: Layout) -> None:
    """Dead letters' topics as an administrator makes them, with the broker's limits of size and of stamps ahead."""
    with admin(kafka) as client:
        new = {"num_partitions": 1, "configs": {"cleanup.policy": "compact"}}
        client.create_topics({kafka.topic("clicks") + ".dead": new})
    found = {topic.name: topic for topic in ensure(kafka)}
    assert f"max.message.bytes is 1048588: the letter of a long record goes without its original; use {2**22}" in (
        found["clicks.dead"].problems
    )
    big = b'{"note": "' + b"\x01" * 700_000  # no JSON, and six bytes each in a letter
    ahead = time.time_ns() // 1_000_000 * 1000 + 2 * DAY
    bad = [("big", T0, big), ("ahead", ahead, b"[]"), ("short", T0, b"{}"), ("big and ahead", ahead, big)]
    publish(kafka, [*clicks(0, 40), *(Record("clicks", *one) for one in bad), *clicks(40, 50)])
    assert total(ingest(kafka, layout, until=T0 + DAY)) == (50, 4)
    letters = {letter["key"]: letter for _, letter in dead.read(kafka, "clicks")}
    assert set(letters) == {key for key, _, _ in bad}
    assert (letters["short"]["value"], letters["ahead"]["value"]) == ("{}", "[]")
    for key in ("big", "big and ahead"):
        assert letters[key]["reason"]
        assert letters[key]["value_bytes"] == len(big)
        assert letters[key]["value_sha256"] == hashlib.sha256(big).hexdigest()
    assert letters["ahead"]["timestamp_ms"] == ahead // 1000
    assert total(ingest(kafka, layout)) == (0, 0)


def test_a_topic_full_of_nonsense_completes_no_cut_until_it_is_accepted(kafka: KafkaSettings, layout: Layout) -> None:
    amount = b'{"event_id": "p%d", "event_time": "2025-01-01T00:00:00Z", "schema_version": 1, "user_id": "u", '
    amount += b'"item_id": "a", "quantity": 1, "currency": "EUR", "amount_minor": %s}'
    publish(kafka, [Record("purchases", "u", T0, amount % (n, b"1.99" if n < 198 else b"199")) for n in range(200)])
    for _ in range(2):
        with pytest.raises(DataError, match=r"purchases: 198 of 200 new records \(99.0%\).*198 times: Expected `int`"):
            ingest(kafka, layout, until=T0 + DAY)
        assert complete_until(layout) is None
    assert (len(rows(layout, "purchases", "event_id")), dead.count(kafka)["purchases"]) == (2, 198)
    ingest(replace(kafka, max_invalid_share=0.99), layout, until=T0 + DAY)
    ingest(kafka, layout, until=T0 + DAY)
    assert complete_until(layout) == T0 + DAY


@pytest.mark.parametrize("timestamp_ms", [2**62, LAST_US // 1000 + 1])
def test_an_absurd_timestamp_stops_nothing(kafka: KafkaSettings, layout: Layout, timestamp_ms: int) -> None:
    (event,) = clicks(0, 1)
    publish(kafka, [event._replace(time_us=timestamp_ms * 1000), *clicks(1, 5)])
    assert total(ingest(kafka, layout)) == (4, 1)
    ((_, letter),) = dead.read(kafka, "clicks")
    assert (letter["timestamp_ms"], letter["value"]) == (timestamp_ms, (event.value or b"").decode())


def test_records_lost_to_retention_are_an_error(kafka: KafkaSettings, layout: Layout) -> None:
    from kafka import TopicPartition

    publish(kafka, clicks(0, 60))
    ingest(kafka, layout)
    publish(kafka, clicks(60, 120))
    ends = {(record.partition): record.offset for record in records(kafka, "clicks")}
    with admin(kafka) as client:
        client.delete_records({TopicPartition(kafka.topic("clicks"), number): end for number, end in ends.items()})
    with pytest.raises(DataError, match=r"deleted by retention.*nothing was skipped"):
        ingest(kafka, layout)
    assert len(rows(layout, "clicks", "event_id")) == 60


class Child:
    """Ingest in a process of its own."""

    def __init__(self, kafka: KafkaSettings, layout: Layout, batch_records: int) -> None:
        place = to_plain(kafka)
        asked = {"kafka": place, "dir": str(layout.root), "batch_records": batch_records}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.ingest_child", json.dumps(asked)], cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, encoding="utf-8",
        )  # fmt: skip

    def kill_after(self, layout: Layout, commits: int, spin: int) -> bool:
        """SIGKILL once the tables hold so many commits, and a little later; False if it ended before."""
        deadline = time.monotonic() + 120
        while self.process.poll() is None and time.monotonic() < deadline:
            if sum(1 for _ in layout.lake.glob("*/_delta_log/*.json")) >= commits:
                for _ in range(spin):
                    os.getpid()  # a moment, so that the kill finds it anywhere in its work
                break
        self.process.send_signal(signal.SIGKILL)
        return self.process.wait() == -signal.SIGKILL

    def wait(self) -> None:
        _, log = self.process.communicate(timeout=120)
        assert self.process.returncode == 0, log


@pytest.fixture
def published(kafka: KafkaSettings) -> Iterator[KafkaSettings]:
    """900 clicks, 300 impressions and 30 records that are no events."""
    bad = [Record("clicks", f"u{number}", T0, b"{" * (number + 1)) for number in range(30)]
    publish(kafka, [*clicks(0, 450), *bad, *clicks(450, 900), *impressions(0, 300)])
    yield kafka


def check_whole(kafka: KafkaSettings, layout: Layout) -> None:
    letters = {(x["partition"], x["offset"]) for _, x in dead.read(kafka, "clicks")}
    expected = [
        (topic, partition, offset)
        for topic, partition, offset in kafka_offsets(kafka, ("clicks", "impressions"))
        if topic != "clicks" or (partition, offset) not in letters
    ]
    assert len(letters) == 30
    assert stored(layout, ("clicks", "impressions")) == expected
    assert len(expected) == 1200


def test_killed_at_random_moments_the_log_is_the_same(published: KafkaSettings, layout: Layout) -> None:
    draw = random.Random(7)
    kills = 0
    for _ in range(5):
        there = sum(1 for _ in layout.lake.glob("*/_delta_log/*.json"))
        child = Child(published, layout, batch_records=40)
        kills += child.kill_after(layout, there + draw.randrange(1, 8), draw.randrange(40_000))
    assert kills >= 3
    ingest(published, layout, batch_records=40)
    check_whole(published, layout)


def test_two_at_once_write_nothing_twice(published: KafkaSettings, layout: Layout) -> None:
    children = [Child(published, layout, batch_records=25) for _ in range(2)]
    for child in children:
        child.wait()
    check_whole(published, layout)
