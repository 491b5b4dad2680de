"""The days of a demo that users live: their history goes to Kafka at once, later days meet the gateway."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

from features.encoded import JsonObject
from features.publish import publish
from features.record import Record
from features.settings import KafkaSettings
from features.times import run_cut, run_start
from freshrank.demo.plan import EXPERIMENT
from freshrank.sources import Asking, Simulation


class SimulatedDays:
    """A simulation whose days are published.

    Args:
        simulation: Who lives them.
        first: The first logged day.
        judged: The last logged day, which judges the first model.
        kafka: Kafka's settings with addresses filled in.
    """

    def __init__(self, simulation: Simulation, first: dt.date, judged: dt.date, kafka: KafkaSettings) -> None:
        self.simulation, self.first, self.judged, self.kafka = simulation, first, judged, kafka
        self.late: list[Record] = []

    def publish_history(self) -> dict[str, int]:
        """Publish the logged days with what came before them, and the listings of the day that follows.

        What becomes known after the first run's cut (late purchases) waits in `late` until its time has come.

        Returns:
            Records by topic.
        """
        until, days = run_cut(self.judged), (self.judged - self.first).days + 1

        def known() -> Iterator[Record]:
            for record in self.simulation.history(self.first, days):
                if record.time_us < until:
                    yield record
                else:
                    self.late.append(record)
            yield from self.simulation.catalogue_events(self.judged + dt.timedelta(days=1))

        return publish(self.kafka, known()).counts

    def publish_catalogue(self, day: dt.date) -> dict[str, int]:
        """Open a day: publish what changed in listings and users as it begins.

        Args:
            day: The day after the one that is open.

        Returns:
            Records by topic.
        """
        return publish(self.kafka, self.simulation.catalogue_events(day)).counts

    def requests(self, day: dt.date) -> list[Asking]:
        """A day's requests from 02:00 UTC on.

        A lived day begins at the cut of the run before it: what happened earlier would have been known to that run,
        which is over by now.

        Args:
            day: The day.
        """
        return [request for request in self.simulation.requests(day) if request.time_us >= run_start(day)]

    def answer(self, request: Asking, response: JsonObject) -> list[Record]:
        """What the user does with the list that came back.

        Args:
            request: What was asked.
            response: Body of the gateway's answer.
        """
        shown = [item["item_id"] for item in response["items"]]
        arm = response.get("experiments", {}).get(EXPERIMENT, "")
        return list(self.simulation.answer(request, shown, policy=arm))
