"""The city's side of the demo: its history goes to Kafka at once, later days are lived against the gateway."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from typing import Any

from features.events import rename
from features.kafka import errors, producer
from features.layout import Layout
from features.publish import publish
from features.record import Record
from features.settings import KafkaSettings
from features.times import run_cut
from freshrank.demo.plan import EXPERIMENT, Plan
from simulator.city.album import Album
from simulator.city.config import CityConfig
from simulator.city.simulate import City, Request
from simulator.city.truth import TruthFiles

UNCONFIRMED = 500  # sends that may wait for Kafka's word


def config(plan: Plan) -> CityConfig:
    """The city of a plan."""
    if plan.small:
        return CityConfig.small(requests_per_day=plan.requests_per_day)
    return CityConfig(requests_per_day=plan.requests_per_day, shoppers=plan.shoppers, listings=plan.listings)


class Shoppers:
    """A city that publishes.

    Args:
        plan: The demo.
        layout: The stack's folders: photos and truth go there.
        kafka: Kafka's settings with addresses filled in.
    """

    def __init__(self, plan: Plan, layout: Layout, kafka: KafkaSettings) -> None:
        self.plan, self.kafka = plan, kafka
        self.city = City(config(plan), plan.seed, photos=Album(layout), truth=TruthFiles(layout.truth("city")))
        self.late: list[Record] = []

    def day(self, number: int) -> dt.date:
        """Day 1 is the first logged day."""
        return self.city.date(number - 1)

    def publish_history(self) -> dict[str, int]:
        """Publish the weeks before, the logged days, and the listings of the day that follows.

        What becomes known after the first run's cut (late purchases) waits until its time has come.

        Returns:
            Records by topic.
        """
        until = run_cut(self.day(self.plan.history_days))

        def known() -> Iterator[Record]:
            for event in self.city.history(self.day(1), self.plan.history_days):
                if event.time_us < until:
                    yield event
                else:
                    self.late.append(event)
            yield from self.city.catalogue_events(self.day(self.plan.history_days + 1))

        return publish(self.kafka, known()).counts

    def publish_catalogue(self, number: int) -> dict[str, int]:
        """Open a day: publish what changed in listings and shoppers as it begins."""
        return publish(self.kafka, self.city.catalogue_events(self.day(number))).counts

    def answer(self, request: Request, response: dict[str, Any]) -> list[Record]:
        """What the shopper does with the list that came back."""
        shown = [item["item_id"] for item in response["items"]]
        arm = response.get("experiments", {}).get(EXPERIMENT, "")
        return self.city.answer(request, shown, policy=arm)


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

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        try:
            if error is None:
                self.confirm()
        finally:
            self._opened.__exit__(kind, error, trace)
