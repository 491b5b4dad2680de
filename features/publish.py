"""From a source to Kafka: any iterator of events, at full speed or at the pace of their own clock."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from features.errors import UnreachableError
from features.events import rename
from features.kafka import errors, producer
from features.record import Record
from features.settings import KafkaSettings
from features.times import SECOND
from features.topics import ensure

_PROGRESS_EVERY = 20_000


@dataclass(frozen=True)
class Published:
    """What was published.

    Args:
        counts: Records acknowledged, by topic.
        first_us: Known time of the first record, µs UTC; None if there was none.
        last_us: Known time of the last record, µs UTC; None if there was none.
    """

    counts: dict[str, int]
    first_us: int | None
    last_us: int | None

    @property
    def total(self) -> int:
        """Records acknowledged."""
        return sum(self.counts.values())


def publish(
    settings: KafkaSettings,
    events: Iterable[Record],
    *,
    pace: float | None = None,
    progress: Callable[[int, int], None] = lambda _count, _time_us: None,
    wait: Callable[[float], object] = time.sleep,
) -> Published:
    """Publish events with their own known times as record timestamps.

    Kafka keeps milliseconds; a known time is rounded up to the next, so that nothing counts as known before it was.
    Publishing a range again repeats its `event_id`s, which readers of the event log drop.

    Args:
        settings: Kafka's settings with `bootstrap_servers` filled in.
        events: Events in the order of their known time.
        pace: How many seconds of event time pass in one second; None is full speed.
        progress: Called now and then with the count and the known time of the newest event.
        wait: How to wait, seconds; for a clock other than the machine's.

    Returns:
        What was acknowledged by all replicas.

    Raises:
        UnreachableError: If a record was not acknowledged.
    """
    ensure(settings)
    names: dict[str, tuple[str, dict[str, str]]] = {}
    counts: Counter[str] = Counter()
    failed: list[Exception] = []
    first: int | None = None
    last: int | None = None
    began = time.monotonic()
    with errors(settings), producer(settings) as client:
        for count, event in enumerate(events, start=1):
            first = event.time_us if first is None else first
            last = event.time_us
            if pace is not None:
                _keep_pace((event.time_us - first) / SECOND / pace - (time.monotonic() - began), client, wait)
            if event.topic not in names:
                names[event.topic] = settings.topic(event.topic), settings.field_names(event.topic)
            name, fields = names[event.topic]
            value = rename(event.value, fields)
            future = client.send(name, key=event.key.encode(), value=value, timestamp_ms=-(-event.time_us // 1000))
            future.add_errback(failed.append)
            counts[event.topic] += 1
            if count % _PROGRESS_EVERY == 0:
                client.flush(timeout=120)  # the client queues without limit
                progress(count, event.time_us)
            if failed:
                break
        client.flush(timeout=120)
    if failed:
        raise UnreachableError(
            f"records were not acknowledged ({failed[0]})", field="kafka.bootstrap_servers",
            value=settings.bootstrap_servers, remedy="publish the range again, nothing counts twice",
        ) from failed[0]  # fmt: skip
    return Published(dict(counts), first, last)


def _keep_pace(ahead_s: float, client: Any, wait: Callable[[float], object]) -> None:
    if ahead_s > 0.05:
        client.flush(timeout=120)
        wait(ahead_s)
