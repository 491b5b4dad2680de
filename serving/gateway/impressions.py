"""Impressions on their way to Kafka: sent by a thread of their own, so that a ranking never waits for the log."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from typing import Any

from features.errors import FreshrankError
from features.events import Impression, encode
from features.kafka import producer
from features.settings import KafkaSettings

log = logging.getLogger(__name__)
QUEUE = 20_000  # impressions held while Kafka is away
RETRY_S = 1.0


class ImpressionLog:
    """Sends impressions; counts what was acknowledged and what was lost.

    Args:
        settings: Kafka's settings with the address filled in.
        event_clock: Stamp records with the event's time instead of the broker's, for replays and simulations.
        count: Called with `sent`, `lost` or `failed` for each impression.
    """

    def __init__(self, settings: KafkaSettings, *, event_clock: bool, count: Callable[[str], None]) -> None:
        self._settings, self._event_clock, self._count = settings, event_clock, count
        self._queue: queue.Queue[Impression] = queue.Queue(QUEUE)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="impressions", daemon=True)
        self.connected = False

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def put(self, impression: Impression) -> None:
        """Take an impression; never blocks. One too many while Kafka is away is lost, and counted."""
        try:
            self._queue.put_nowait(impression)
        except queue.Full:
            self._count("lost")

    def close(self, timeout_s: float = 10.0) -> None:
        """Send what is left and stop."""
        self._stop.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stop.is_set() or not self._queue.empty():
            try:
                # The producer is idempotent: what it sends again after an error stays one record.
                with producer(self._settings, linger_ms=2, max_block_ms=5_000) as client:
                    self.connected = True
                    self._send_all(client)
                    return
            except FreshrankError as error:
                self.connected = False
                log.warning("impressions wait for Kafka: %s", error)
                if self._stop.wait(RETRY_S):
                    for _ in range(self._queue.qsize()):
                        self._count("lost")
                    return

    def _send_all(self, client: Any) -> None:
        topic, names = self._settings.topic("impressions"), self._settings.field_names("impressions")
        while not (self._stop.is_set() and self._queue.empty()):
            try:
                impression = self._queue.get(timeout=0.2)
            except queue.Empty:
                continue
            stamp = impression.event_time_us // 1000 if self._event_clock else None
            try:
                sent = client.send(
                    topic, encode(impression, names), key=impression.user_id.encode(), timestamp_ms=stamp
                )
            except Exception as error:  # kafka-python raises many kinds: too large, no topic, buffer full
                self._count("failed")
                log.error("impression %s was not sent: %s", impression.request_id, error)
                continue
            sent.add_callback(lambda _: self._count("sent"))
            sent.add_errback(self._failed)

    def _failed(self, error: BaseException) -> None:
        self._count("failed")
        log.error("Kafka refused an impression: %s", error)
