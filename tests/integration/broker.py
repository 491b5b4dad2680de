"""Topics of their own for each test on the stack's Kafka, and raw reading of them."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from features.database import connect
from features.eventlog.read import EventLog
from features.events import SCHEMA_VERSION, Click, Impression, Shown, encode, impression_id
from features.kafka import consumer
from features.layout import Layout
from features.record import Record
from features.settings import KafkaSettings
from features.times import MINUTE, format_us

T0 = 1_735_689_600_000_000  # 2025-01-01
FAR = T0 * 2


def own_topics(settings: KafkaSettings, name: str) -> KafkaSettings:
    """The broker's settings with topics and a group that only this test uses."""
    prefix = f"{name}-{random.SystemRandom().randrange(16**8):08x}."
    return replace(settings, topic_prefix=prefix, group_id=prefix + "group", partitions=3)


def clicks(low: int, high: int) -> list[Record]:
    """A click a minute by one of 40 users."""
    events = []
    for number in range(low, high):
        time = T0 + number * MINUTE
        click = Click(
            event_id=f"click-{number}", event_time=format_us(time), schema_version=SCHEMA_VERSION,
            user_id=f"u{number % 40}", item_id=f"i{number % 7}",
        )  # fmt: skip
        events.append(Record("clicks", click.user_id, time, encode(click)))
    return events


def impressions(low: int, high: int) -> list[Record]:
    """A list of three items a minute."""
    events = []
    for number in range(low, high):
        time, request = T0 + number * MINUTE, f"r{number}"
        shown = [Shown(f"i{place}", place, 100 + place) for place in range(3)]
        impression = Impression(
            event_id=impression_id(request), event_time=format_us(time), schema_version=SCHEMA_VERSION,
            request_id=request, user_id=f"u{number % 40}", items=shown, policy="uniform",
        )  # fmt: skip
        events.append(Record("impressions", impression.user_id, time, encode(impression)))
    return events


def records(settings: KafkaSettings, topic: str) -> list[Any]:
    """Every committed record of a topic, as a plain consumer reads it."""
    from kafka import TopicPartition

    name = settings.topic(topic)
    found: list[Any] = []
    with consumer(settings) as client:
        partitions = [TopicPartition(name, number) for number in sorted(client.partitions_for_topic(name) or ())]
        client.assign(partitions)
        client.seek_to_beginning(*partitions)
        ends = client.end_offsets(partitions)
        while any(client.position(partition) < end for partition, end in ends.items()):
            for batch in client.poll(timeout_ms=500).values():
                found.extend(batch)
    return found


def rows(layout: Layout, topic: str, columns: str, order: str = "ALL") -> list[Any]:
    """Rows of a topic in the event log as readers see them."""

    con = connect()
    view = EventLog(layout).relation(con, topic, FAR)
    return con.sql(f"SELECT {columns} FROM {view} ORDER BY {order}").fetchall()


def stored(layout: Layout, topics: Iterable[str]) -> list[tuple[str, int, int]]:
    """(topic, partition, offset) of every row in the tables, repetitions included, sorted."""
    from deltalake import DeltaTable

    found = []
    for topic in topics:
        table = DeltaTable(layout.table(topic)).to_pyarrow_table(columns=["_partition", "_offset"])
        found += [(topic, row["_partition"], row["_offset"]) for row in table.to_pylist()]
    return sorted(found)
