"""Impressions on their way to Kafka: sent by a thread of their own, so that a ranking never waits for the log."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections.abc import Callable
from typing import Any

from features.errors import FreshrankError
from features.events import Impression, encode
from features.kafka import producer
from features.settings import KafkaSettings
from serving.gateway.background import Health

log = logging.getLogger(__name__)
QUEUE = 20_000  # impressions held while Kafka is away
RETRY_S = 1.0


class ImpressionLog:
    """Sends impressions; counts what was acknowledged and what was lost.

    Args:
        settings: Kafka's settings with the address filled in.
        event_clock: Stamp records with the event's time instead of the broker's, for replays and simulations.
        count: Called with `sent`, `lost` or `failed` for each impression.
        health: Told when impressions wait or are lost. Neither makes the gateway unready: lists matter more.
    """

    def __init__(
        self, settings: KafkaSettings, *, event_clock: bool, count: Callable[[str], None], health: Health
    ) -> None:
        self._settings, self._event_clock, self._count, self._health = settings, event_clock, count, health
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
            full = FreshrankError("impressions are lost", field="waiting", value=QUEUE, remedy="bring Kafka back")
            self._health.failed("impression_queue", full, blocking=False)
        else:
            self._health.well("impression_queue")

    def close(self, timeout_s: float = 10.0) -> None:
        """Send what is left and stop."""
        self._stop.set()
        self._thread.join(timeout_s)
        self._give_up()

    def _run(self) -> None:
        """Send until told to stop; whatever goes wrong, begin again with a new producer."""
        while not (self._stop.is_set() and self._queue.empty()):
            try:
                # The producer is idempotent: what it sends again after an error stays one record.
                with producer(self._settings, linger_ms=2, max_block_ms=5_000) as client:
                    self.connected = True
                    self._health.well("impressions")
                    self._send_all(client)
            except Exception as error:
                self._health.failed("impressions", error, blocking=False)
                if self._stop.wait(RETRY_S):
                    return
            finally:
                self.connected = False

    def _give_up(self) -> None:
        """Count and tell what nobody will send any more."""
        lost = 0
        with contextlib.suppress(queue.Empty):
            while True:
                self._queue.get_nowait()
                self._count("lost")
                lost += 1
        if lost:
            log.error("%d impressions are lost: Kafka was away when the gateway stopped", lost)

    def _send_all(self, client: Any) -> None:
        topic, names = self._settings.topic("impressions"), self._settings.field_names("impressions")
        while not (self._stop.is_set() and self._queue.empty()):
            try:
                impression = self._queue.get(timeout=0.2)
            except queue.Empty:
                continue
            try:
                stamp = impression.event_time_us // 1000 if self._event_clock else None
                sent = client.send(
                    topic, encode(impression, names), key=impression.user_id.encode(), timestamp_ms=stamp
                )
            except Exception as error:  # kafka-python raises many kinds: too large, no topic, buffer full
                self._failed(error)
                continue
            sent.add_callback(self._sent)
            sent.add_errback(self._failed)

    def _sent(self, _: object) -> None:
        self._count("sent")
        self._health.well("impressions")

    def _failed(self, error: BaseException) -> None:
        self._count("failed")
        self._health.failed("impressions", error, blocking=False)
