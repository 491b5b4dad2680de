"""The city, day by day: its catalogue, its logged history, its requests, and its answers to lists."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from operator import attrgetter

import numpy as np

from features.errors import DataError, UsageError
from features.record import Record
from features.times import day_start
from simulator.city import messages, warmup
from simulator.city.environment import Environment
from simulator.city.request import ListRequest, Named, parse_request_id

__all__ = ["City", "ListRequest"]

BLOCK = 256  # requests computed at once
_time = attrgetter("time_us")


class City(Environment):
    """A city of a seed. Days are lived in order; within a day answers do not depend on the order of calls.

    What is bought on a day changes what is at home from the next day on. All chance in an answer is hashed from seed,
    request and listing, so that the same list gets the same answer, and two policies meet the same luck.

    Args:
        config: The city's settings.
        seed: The seed.
        photos: Keeps rendered photos; without it they are rendered for their names alone.
        truth: Where the truth is written; None writes none.

    Example:
        >>> from simulator.city.config import CityConfig
        >>> city = City(CityConfig.small(photos=False, warm_up_days=2), seed=1)
        >>> events = list(city.history(city.config.start, days=1))
        >>> request = next(city.requests(city.config.start + dt.timedelta(days=1)))
        >>> answer = city.answer(request, request.candidates[:20])
        >>> {event.topic for event in answer} <= {"clicks", "carts", "purchases"}
        True
    """

    def history(self, first_day: dt.date, days: int) -> Iterator[Record]:
        """Catalogue and events of days under the logging policy, in the order of their times.

        From the first logged day (`config.start`) it begins with the weeks of purchases before it. Outcomes of the
        last days come at its end, later than the last day where the delay was long.

        Args:
            first_day: The first day wanted; earlier ones are lived unseen.
            days: How many days.

        Raises:
            UsageError: If the first day lies before the city's, or has been lived already.
        """
        first = self.index(first_day)
        begin = -self.config.warm_up_days if first == 0 else first
        self._live_until(begin)
        pending: list[Record] = []
        for day in range(begin, first + days):
            self._open(day)
            yield from self._live(day, pending)
            self._close()
        pending.sort(key=_time)
        yield from pending

    def catalogue_events(self, day: dt.date) -> Iterator[Record]:
        """What changes in listings and shoppers as the day begins; all of them on the very first day."""
        self._at(day)
        yield from self._catalogue_events()

    def requests(self, day: dt.date) -> Iterator[ListRequest]:
        """The day's requests, in order of time. Days before are closed; unlived ones are lived under the log policy."""
        self._at(day)
        for start in range(0, len(self.plan), BLOCK):
            block = self.plan[start : start + BLOCK]
            slots = self.retrieval.candidates(self._keys(block), block.shopper)
            names, contexts = self._names(block), self._contexts(block)
            for row, name in enumerate(names):
                yield ListRequest(
                    name, messages.user_id(int(self.shoppers.serial[block.shopper[row]])), int(block.time_us[row]),
                    contexts[row], [self.catalogue.listings.item_id(slot) for slot in slots[row].tolist()],
                )  # fmt: skip

    def answer(
        self, request: Named, shown: Sequence[str], policy: str = "", positions: Sequence[int] | None = None
    ) -> list[Record]:
        """What the shopper does with a list: clicks, carts, purchases, in the order of time.

        Args:
            request: The request; its day is the open one.
            shown: Item ids, first place first.
            policy: Written with the truth.
            positions: Places of the items, 0 first; by default 0, 1, 2, …

        Returns:
            The events; the impression is the ranker's to publish.

        Raises:
            DataError: If an item is not live or is shown twice.
        """
        day, number = parse_request_id(request.request_id)
        if self._day is None or day != self.date(self._day) or not 0 <= number < len(self.plan):
            raise DataError("not a request of the open day", field="request_id", value=request.request_id)
        slots = self.catalogue.slots(shown)
        block = self.plan[number : number + 1]
        if not len(shown):
            return []
        place = np.array([positions if positions is not None else range(len(shown))], dtype=np.int64)
        place = np.broadcast_to(place, (1, len(shown)))
        candidates = self.retrieval.candidates(self._keys(block), block.shopper)
        others = np.setdiff1d(candidates[0], slots)
        everything = np.concatenate([slots, others])[None, :]
        chances = self.choice.chances(block.moments(), block.shopper, everything, self.homes)
        return self._answer(block, everything, place, chances, [request.request_id], [policy])

    def skip(self, first_day: dt.date, days: int) -> None:
        """Live days of history without making their events, as after a restart."""
        self._live_until(self.index(first_day) + days)

    def index(self, day: dt.date) -> int:
        """Days since the first logged day.

        Raises:
            UsageError: If the day lies before it.
        """
        index = (day - self.config.start).days
        if index < 0:
            raise UsageError("before the city's first logged day", field="day", value=day.isoformat(),
                             remedy=f"from {self.config.start} on")  # fmt: skip
        return index

    def expected(self, request: ListRequest) -> dict[str, float]:
        """Truth of an open day's request: probability of purchase of each candidate if looked at."""
        _, number = parse_request_id(request.request_id)
        block = self.plan[number : number + 1]
        slots = self.catalogue.slots(request.candidates)[None, :]
        chances = self.choice.chances(block.moments(), block.shopper, slots, self.homes)
        return dict(zip(request.candidates, chances.relevance[0].tolist(), strict=True))

    # ---- the course of days

    def _at(self, day: dt.date) -> None:
        index = self.index(day)
        if self._day == index:
            return
        self._live_until(index)
        self._open(index)

    def _live_until(self, index: int) -> None:
        """Live all days before this one; an open day is closed as it stands."""
        if self._day is not None and index <= self._day:
            raise UsageError("the day has been lived already", field="day", value=self.date(index).isoformat(),
                             remedy="make a new City")  # fmt: skip
        if not self._closed:
            self._close()
        begin = -self.config.warm_up_days if self._day is None else self._day + 1
        for day in range(begin, index):
            self._open(day)
            for _ in self._live(day, None):
                pass
            self._close()

    def _live(self, day: int, pending: list[Record] | None) -> Iterator[Record]:
        """Events of the day; late outcomes are left in `pending`. With None nothing is made, only lived."""
        end_of_day = day_start(self.date(day + 1))
        if pending is not None:  # outcomes of yesterday may fall between the morning's changes
            yield from _merge(pending, list(self._catalogue_events()), int(self.plan.time_us[0]))
        if day < 0:
            bought = warmup.purchases(self.seed, day, self.plan, self.choice, self.homes, self.retrieval)
            self._bought["warm-up"] = bought
            if pending is not None:
                known = warmup.events(
                    self.config, self.shoppers, self.catalogue.listings, self.plan, bought, day_start(self.date(day))
                )
                yield from _merge(pending, known, end_of_day)
            return
        for start in range(0, len(self.plan), BLOCK):
            block = self.plan[start : start + BLOCK]
            shown, outcomes = self._log(block, pending is not None)
            if pending is not None:
                last = start + BLOCK >= len(self.plan)
                end = end_of_day if last else int(self.plan.time_us[start + BLOCK])
                yield from _merge(pending, shown + outcomes, end)

    def _catalogue_events(self) -> Iterator[Record]:
        moment = day_start(self.date(self._day or 0))
        for event in self.population.events(moment):
            moment = event.time_us
            yield event
        yield from self.catalogue.events(moment)


def _merge(pending: list[Record], fresh: list[Record], until: int) -> Iterator[Record]:
    """Events before a moment, in order; later ones stay."""
    pending.extend(fresh)
    pending.sort(key=_time)
    low = 0
    while low < len(pending) and pending[low].time_us < until:
        yield pending[low]
        low += 1
    del pending[:low]
