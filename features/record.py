"""One Kafka record to be: what every source yields and `features.publish` sends."""

from __future__ import annotations

from typing import NamedTuple


class Record(NamedTuple):
    """A record before it is published.

    Args:
        topic: Our name of the topic, such as `purchases`; settings map it to the broker's.
        key: The record's key: user_id, or item_id on `items`.
        time_us: `known_time`, µs UTC: the record's timestamp. Sources yield events in the order of it.
        value: The event as JSON (`features.events.encode`); None on `items` and `users` means gone.
    """

    topic: str
    key: str
    time_us: int
    value: bytes | None
