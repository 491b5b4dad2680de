"""Both sources through a real broker: what was published is what a consumer reads, and twice adds nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from features.eventlog.ingest import ingest
from features.events import EVENTS
from features.layout import Layout
from features.publish import publish
from features.record import Record
from features.settings import KafkaSettings
from features.times import HOUR, SECOND, day_start, parse_date
from simulator.city.config import CityConfig
from simulator.city.simulate import City
from simulator.completejourney.replay import replay
from tests.integration.broker import T0, clicks, own_topics, records, rows
from tests.stack import ROOT, Stack

pytestmark = pytest.mark.integration
DAY_OF_JOURNEY = day_start(parse_date("2017-03-05"))


@pytest.fixture
def kafka(stack: Stack) -> KafkaSettings:
    return own_topics(stack.need("kafka").kafka, "source")


def journey() -> list[Record]:
    return list(replay(DAY_OF_JOURNEY, DAY_OF_JOURNEY + 6 * HOUR))


def city() -> list[Record]:
    made = City(CityConfig.small(photos=False, warm_up_days=2), seed=1)
    return list(made.history(made.config.start, days=1))


def as_read(kafka: KafkaSettings, topics: Iterable[str]) -> Counter[Record]:
    return Counter(
        Record(topic, record.key.decode(), record.timestamp * 1000, record.value)
        for topic in topics
        for record in records(kafka, topic)
    )


def on_the_wire(events: list[Record]) -> Counter[Record]:
    return Counter(event._replace(time_us=-(-event.time_us // 1000) * 1000) for event in events)


@pytest.mark.parametrize("source", [journey, city])
def test_what_was_published_is_what_a_consumer_reads_and_twice_adds_nothing(
    kafka: KafkaSettings, tmp_path: Path, source: object
) -> None:
    assert callable(source)
    events: list[Record] = source()
    assert len(events) > 1000
    done = publish(kafka, events)
    assert done.counts == Counter(event.topic for event in events)
    assert as_read(kafka, EVENTS) == on_the_wire(events)

    layout = Layout(tmp_path)
    taken = ingest(kafka, layout)
    assert sum(run.dead for run in taken.values()) == 0
    assert sum(run.events for run in taken.values()) == len(events)
    before = {topic: rows(layout, topic, "*") for topic in EVENTS}
    assert {topic: len(found) for topic, found in before.items()} == {
        topic: sum(event.topic == topic for event in events) for topic in EVENTS
    }

    publish(kafka, events)
    ingest(kafka, layout)
    assert {topic: rows(layout, topic, "*") for topic in EVENTS} == before


def test_the_command_publishes_a_range(stack: Stack, kafka: KafkaSettings) -> None:
    words = ["source", "replay", "completejourney", "--from", "2017-03-05", "--to", "2017-03-05T03:00:00Z", "--json"]
    env = {**stack.env, "FRESHRANK_KAFKA__TOPIC_PREFIX": kafka.topic_prefix}
    ended = subprocess.run(
        [sys.executable, "-m", "freshrank.cli", *words],
        env=env,
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    answer = json.loads(ended.stdout)
    expected = list(replay(DAY_OF_JOURNEY, DAY_OF_JOURNEY + 3 * HOUR))
    assert answer["published"] == len(expected)
    assert as_read(kafka, EVENTS) == on_the_wire(expected)


def test_a_paced_replay_keeps_the_events_distances(kafka: KafkaSettings) -> None:
    waited: list[float] = []
    events = [event._replace(time_us=T0 + 60 * number * SECOND) for number, event in enumerate(clicks(0, 4))]
    publish(kafka, events, pace=10.0, wait=waited.append)
    assert [round(seconds) for seconds in waited] == [6, 12, 18]  # a clock that never moves on
    assert as_read(kafka, ["clicks"]) == on_the_wire(events)
