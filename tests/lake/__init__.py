"""A small event log for tests, written as ingest writes it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from deltalake import write_deltalake

from features.atomic import write_text
from features.eventlog.schema import EventRow, to_arrow
from features.eventlog.table import open_or_create
from features.events import EVENTS, Event, Gone, decode, impression_id
from features.layout import Layout
from features.times import format_us, parse_us


def us(text: str) -> int:
    """µs of `01-09 12:00[:00]` in 2026, UTC."""
    day, time = text.split()
    return parse_us(f"2026-{day}T{time if time.count(':') == 2 else time + ':00'}Z")


@dataclass
class Lake:
    """Facts that are collected and then written to the event log's tables.

    Args:
        root: Folder of the stack.
    """

    root: Path
    rows: dict[str, list[EventRow]] = field(default_factory=lambda: {topic: [] for topic in EVENTS})
    _count: int = 0

    @property
    def layout(self) -> Layout:
        return Layout(self.root)

    def add(self, topic: str, key: str, at: int, known: int | None = None, **fields: Any) -> str:
        """Add one event; returns its event_id."""
        known = at if known is None else known
        name = fields.pop("event_id", f"{topic}-{self._count + 1}")
        value = {"event_id": name, "event_time": format_us(at), "schema_version": 1, **fields}
        self.put(topic, key, msgspec.json.encode(value), known)
        return name

    def put(self, topic: str, key: str, value: bytes | None, known: int) -> Event | Gone:
        """Add one record as Kafka has it.

        Raises:
            InvalidEvent: If it is no event.
        """
        event = decode(topic, key.encode(), value, known)
        self._count += 1
        self.rows[topic].append(EventRow(hash_partition(key), self._count, known, event))
        return event

    def gone(self, topic: str, key: str, known: int) -> None:
        """Say that an item or user is gone."""
        self.put(topic, key, None, known)

    def item(self, item: str, at: int, known: int | None = None, **fields: Any) -> None:
        values = {"shop_id": "s1", "price_minor": 100, "available": True, "title": f"title of {item}", **fields}
        self.add("items", item, at, known, item_id=item, **values)

    def user(self, user: str, at: int, **profile: Any) -> None:
        self.add("users", user, at, user_id=user, profile=profile)

    def show(self, request: str, user: str, items: list[str], at: int, known: int | None = None, **fields: Any) -> None:
        shown = [{"item_id": item, "position": place, "price_minor": 100} for place, item in enumerate(items)]
        self.add(
            "impressions", user, at, known,
            event_id=impression_id(request), request_id=request, user_id=user, items=shown, **fields,
        )  # fmt: skip

    def click(self, user: str, item: str, at: int, known: int | None = None, request: str | None = None) -> None:
        self.add("clicks", user, at, known, user_id=user, item_id=item, **_named(request))

    def cart(self, user: str, item: str, at: int, known: int | None = None, request: str | None = None) -> None:
        self.add("carts", user, at, known, user_id=user, item_id=item, **_named(request))

    def buy(
        self, user: str, item: str, at: int, known: int | None = None, request: str | None = None, amount: int = 100
    ) -> None:
        self.add(
            "purchases", user, at, known,
            user_id=user, item_id=item, quantity=1, amount_minor=amount, currency="EUR", **_named(request),
        )  # fmt: skip

    def write(self, complete_until: int | None = None) -> Layout:
        """Append what was collected since the last time to the tables, and say up to when the log is complete."""
        until = complete_until or us("12-31 00:00")
        write_text(self.layout.state / "ingested_until", f"{until}\n")
        for topic, rows in self.rows.items():
            open_or_create(self.layout.table(topic), topic)
            if rows:
                write_deltalake(self.layout.table(topic), to_arrow(topic, "c/t", topic, rows), mode="append")
            rows.clear()
        return self.layout


def hash_partition(key: str) -> int:
    return sum(key.encode()) % 4


def _named(request: str | None) -> dict[str, str]:
    return {} if request is None else {"request_id": request}
