"""One producer for what the demo publishes while a day is lived."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any

from features.events import rename
from features.kafka import errors, producer
from features.record import Record
from features.settings import KafkaSettings

UNCONFIRMED = 500  # sends that may wait for Kafka's word


class Outbox:
    """One producer for many small sends, which are confirmed together; as a context it confirms all at its end.

    Args:
        kafka: Kafka's settings with addresses filled in.
    """

    def __init__(self, kafka: KafkaSettings) -> None:
        self._settings = kafka
        self._opened = producer(kafka)
        self._client: Any = None
        self._sent: list[Any] = []

    def __enter__(self) -> Outbox:
        self._client = self._opened.__enter__()
        return self

    def __call__(self, events: Sequence[Record]) -> None:
        """Send events; a topic keeps their order."""
        with errors(self._settings):
            self._sent += [
                self._client.send(
                    self._settings.topic(event.topic),
                    key=event.key.encode(),
                    value=rename(event.value, self._settings.field_names(event.topic)),
                    timestamp_ms=-(-event.time_us // 1000),
                )
                for event in events
            ]
        if len(self._sent) >= UNCONFIRMED:
            self.confirm()

    def confirm(self) -> None:
        """Wait until Kafka has all that was sent."""
        sent, self._sent = self._sent, []
        with errors(self._settings):
            for future in sent:
                future.get(timeout=60)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.confirm()
        finally:
            self._opened.__exit__(kind, error, trace)
