"""The city, day by day: its catalogue, its logged history, its requests, and its answers to lists."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from features.errors import DataError, UsageError
from features.events import Scalar
from features.times import day_start
from freshrank.sources.city import catalogue, messages, warmup
from freshrank.sources.city.answers import Answers, answer
from freshrank.sources.city.choice import Chances, Choice, Homes, examination, request_keys, tastes
from freshrank.sources.city.config import CityConfig
from freshrank.sources.city.draws import Floats, Ints, generator
from freshrank.sources.city.plan import Plan, plan_day
from freshrank.sources.city.policy import Lists, Retrieval, log_lists
from freshrank.sources.city.truth import TruthFiles, candidate_rows
from freshrank.sources.city.world import goods, new_shoppers, shops
from freshrank.sources.event import Event

BLOCK = 256  # requests computed at once
PILOT = 768  # requests of the first logged day that set the intercepts


@dataclass(frozen=True)
class Request:
    """A shopper asks for a list.

    Args:
        request_id: Names it.
        user_id: Who asks.
        time_us: When, µs UTC.
        context: `zone`, `hour`, `weekday`, `weather`, `payday`.
        candidates: Item ids, in an order that tells nothing.
    """

    request_id: str
    user_id: str
    time_us: int
    context: dict[str, Scalar]
    candidates: list[str]


class City:
    """A city of a seed. Days are lived in order; within a day answers do not depend on the order of calls.

    What is bought on a day changes what is at home from the next day on. All chance in an answer is hashed from seed,
    request and listing, so that the same list gets the same answer, and two policies meet the same luck.

    Args:
        config: The city's settings.
        seed: The seed.
        photos: Keeps rendered photos; without it they are rendered for their names alone.
        truth: Where the truth is written; None writes none.

    Example:
        >>> city = City(CityConfig.small(photos=False, warm_up_days=2), seed=1)
        >>> events = list(city.history(city.config.start, days=1))
        >>> request = next(city.requests(city.config.start + dt.timedelta(days=1)))
        >>> answer = city.answer(request, request.candidates[:20])
        >>> {event.topic for event in answer} <= {"clicks", "carts", "purchases"}
        True
    """

    def __init__(
        self, config: CityConfig, seed: int, photos: catalogue.Photos | None = None, truth: TruthFiles | None = None
    ) -> None:
        self.config, self.seed, self.truth = config, seed, truth
        self.goods, self.shops = goods(config, seed), shops(config, seed)
        self.shoppers = new_shoppers(config, seed, np.arange(config.shoppers), self.goods)
        rng = generator(seed, "homes")
        shape = self.shoppers.uses.shape
        first = float(-config.warm_up_days)
        self.homes = Homes(first + self.shoppers.cycle * rng.uniform(-0.3, 1.0, shape), np.full(shape, -1e9))
        self.choice = Choice(config, seed, self.goods, self.shops)
        self.catalogue = catalogue.Catalogue(config, seed, self.goods, self.shops, photos)
        self.popularity = np.zeros(config.listings)
        self._next_shopper = config.shoppers
        self._day: int | None = None  # the open day
        self._closed = True
        self._bought: dict[str, tuple[Ints, Ints, Floats, Ints, Ints]] = {}
        self._changed_users: list[tuple[str, int]] = []
        self._calibrated = False

    # ---- what others call

    def history(self, first_day: dt.date, days: int) -> Iterator[Event]:
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
        pending: list[Event] = []
        for day in range(begin, first + days):
            self._open(day)
            yield from self._live(day, pending)
            self._close()
        pending.sort(key=_time)
        yield from pending

    def catalogue_events(self, day: dt.date) -> Iterator[Event]:
        """What changes in listings and shoppers as the day begins; all of them on the very first day."""
        self._at(day)
        yield from self._catalogue_events()

    def requests(self, day: dt.date) -> Iterator[Request]:
        """The day's requests, in order of time. Days before are closed; unlived ones are lived under the log policy."""
        self._at(day)
        for start in range(0, len(self.plan), BLOCK):
            block = self.plan[start : start + BLOCK]
            slots = self.retrieval.candidates(self._keys(block), block.shopper)
            names, contexts = self._names(block), self._contexts(block)
            for row, name in enumerate(names):
                yield Request(
                    name, messages.user_id(int(self.shoppers.serial[block.shopper[row]])), int(block.time_us[row]),
                    contexts[row], [self.catalogue.listings.item_id(slot) for slot in slots[row].tolist()],
                )  # fmt: skip

    def answer(
        self, request: Request, shown: Sequence[str], policy: str = "", positions: Sequence[int] | None = None
    ) -> list[Event]:
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
        day, number = self._number(request.request_id)
        if day != self._day or not 0 <= number < len(self.plan):
            raise DataError("not a request of the open day", field="request_id", value=request.request_id)
        slots = self.catalogue.slots(shown)
        block = self.plan[number : number + 1]
        place = np.array([positions if positions is not None else range(len(shown))], dtype=np.int64)
        if not len(shown):
            return []
        candidates = self.retrieval.candidates(self._keys(block), block.shopper)
        others = np.setdiff1d(candidates[0], slots)
        everything = np.concatenate([slots, others])[None, :]
        chances = self.choice.chances(block.moments(), block.shopper, everything, self.homes)
        return self._answer(block, everything, len(shown), place, chances, [request.request_id], [policy])

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

    def date(self, index: int) -> dt.date:
        """The calendar day."""
        return self.config.start + dt.timedelta(days=index)

    def expected(self, request: Request) -> dict[str, float]:
        """Truth of an open day's request: probability of purchase of each candidate if looked at."""
        _, number = self._number(request.request_id)
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

    def _open(self, day: int) -> None:
        first = self._day is None
        self._day, self._closed = day, False
        self._changed_users = [] if not first else [("new", slot) for slot in range(self.config.shoppers)]
        if not first:
            self._turnover(day)
            self._elsewhere(day)
        gone = self.catalogue.open_day(day, first)
        self.popularity[gone] = 0.0
        shoppers = self.shoppers
        self.choice.open_day(
            self.catalogue.listings, shoppers, tastes(self.config, self.seed, day, shoppers, self.goods)
        )
        habit = np.where(shoppers.uses, 1.0, 0.08) / self.goods.cycle[None, :] ** 0.5
        self.retrieval = Retrieval(self.config, self.catalogue.listings.category, self.catalogue.young, habit)
        self.plan: Plan = plan_day(self.config, self.seed, day, shoppers)
        self._bought = {}
        if day >= 0 and not self._calibrated:
            self._calibrate()
        if self.truth is not None:
            self.truth.add("listings", self.date(day), self.catalogue.truth_rows())

    def _live(self, day: int, pending: list[Event] | None) -> Iterator[Event]:
        """Events of the day; late outcomes are left in `pending`. With None nothing is made, only lived."""
        end_of_day = day_start(self.date(day + 1))
        if pending is not None:  # outcomes of yesterday may fall between the morning's changes
            yield from self._merge(pending, list(self._catalogue_events()), int(self.plan.time_us[0]))
        if day < 0:
            bought = warmup.purchases(self.seed, day, self.plan, self.choice, self.homes, self.retrieval)
            self._bought["warm-up"] = bought
            if pending is not None:
                yield from self._merge(pending, warmup.events(self, bought, day_start(self.date(day))), end_of_day)
            return
        for start in range(0, len(self.plan), BLOCK):
            block = self.plan[start : start + BLOCK]
            shown, outcomes = self._log(block, pending is not None)
            if pending is not None:
                last = start + BLOCK >= len(self.plan)
                end = end_of_day if last else int(self.plan.time_us[start + BLOCK])
                yield from self._merge(pending, shown + outcomes, end)

    def _merge(self, pending: list[Event], fresh: list[Event], until: int) -> Iterator[Event]:
        """Events before a moment, in order; later ones stay."""
        pending.extend(fresh)
        pending.sort(key=_time)
        low = 0
        while low < len(pending) and pending[low].time_us < until:
            yield pending[low]
            low += 1
        del pending[:low]

    def _close(self) -> None:
        """Put the day's purchases into the homes and the popularity."""
        if not self._closed:
            parts = [self._bought[name] for name in sorted(self._bought)]
            if parts:
                shopper, category, time, quantity, slots = (
                    np.concatenate([part[column] for part in parts]) for column in range(5)
                )
                order = np.lexsort((slots, time))
                self.homes.bought(
                    shopper[order], category[order], time[order], quantity[order], self.shoppers.cycle, self.goods
                )
                self.popularity *= 0.5 ** (1 / self.config.popularity_half_life_days)
                np.add.at(self.popularity, slots, 1.0)
            if self.truth is not None:
                self.truth.close_day()
        self._closed = True

    def _turnover(self, day: int) -> None:
        rng = generator(self.seed, "turnover", day)
        leaving = np.flatnonzero(rng.random(self.config.shoppers) < self.config.turnover)
        if not len(leaving):
            return
        serials = self._next_shopper + np.arange(len(leaving))
        self._next_shopper += len(leaving)
        for slot in leaving.tolist():
            self._changed_users += [(messages.user_id(int(self.shoppers.serial[slot])), slot), ("new", slot)]
        arriving = new_shoppers(self.config, self.seed, serials, self.goods)
        for name, column in vars(arriving).items():
            getattr(self.shoppers, name)[leaving] = column
        self.homes.due[leaving] = day + arriving.cycle * rng.uniform(-0.3, 1.0, arriving.cycle.shape)
        self.homes.wish[leaving] = -1e9

    def _elsewhere(self, day: int) -> None:
        """Goods that ran out are now and then bought where the city cannot see it."""
        rng = generator(self.seed, "elsewhere", day)
        out = (self.homes.due < day - 0.15 * self.shoppers.cycle) & self.shoppers.uses
        found = out & (rng.random(out.shape, dtype=np.float32) < self.config.elsewhere)
        self.homes.due[found] = day + self.shoppers.cycle[found]

    def _calibrate(self) -> None:
        """Set the intercepts so that the logging policy meets the click and purchase rates on its first day."""
        rows = np.unique(np.linspace(0, len(self.plan) - 1, min(PILOT, len(self.plan))).astype(np.int64))
        block = self.plan[rows]
        slots, lists = self._lists(block)
        chances = self.choice.chances(
            block.moments(), block.shopper, np.take_along_axis(slots, lists.index, axis=1), self.homes
        )
        looked = examination(self.config, np.arange(self.config.shown))[None, :]

        def solve(rate: Callable[[float], float], target: float) -> float:
            low, high = -15.0, 15.0
            for _ in range(50):
                middle = 0.5 * (low + high)
                low, high = (middle, high) if rate(middle) < target else (low, middle)
            return 0.5 * (low + high)

        def clicks(shift: float) -> Floats:
            return np.asarray(looked / (1 + np.exp(-chances.click_utility - shift)))

        # where examination alone is below the wanted rate, half of what is looked at is the most that can be had
        target = min(self.config.click_rate, 0.5 * float(looked.mean()))
        click = solve(lambda shift: float(clicks(shift).mean()), target)
        weights = clicks(click)
        buy = solve(
            lambda shift: float(np.average(1 / (1 + np.exp(-chances.buy_utility - shift)), weights=weights)),
            self.config.purchase_rate,
        )
        self.choice.click_intercept, self.choice.buy_intercept = click, buy
        self._calibrated = True

    # ---- blocks of requests

    def _keys(self, block: Plan) -> np.ndarray[tuple[int, ...], np.dtype[np.uint64]]:
        return request_keys(self.seed, self._day or 0, block.number)

    def _names(self, block: Plan) -> list[str]:
        date = self.date(self._day or 0).strftime("%Y%m%d")
        return [f"city-{date}-{number:07d}" for number in block.number.tolist()]

    def _number(self, request_id: str) -> tuple[int, int]:
        parts = request_id.split("-")
        try:
            date = dt.datetime.strptime(parts[1], "%Y%m%d").date()
            return (date - self.config.start).days, int(parts[2])
        except (IndexError, ValueError):
            raise DataError("not a request of the city", field="request_id", value=request_id) from None

    def _contexts(self, block: Plan) -> list[dict[str, Scalar]]:
        return block.contexts(self.date(self._day or 0), self.shoppers.zone[block.shopper])

    def _lists(self, block: Plan) -> tuple[Ints, Lists]:
        keys = self._keys(block)
        slots = self.retrieval.candidates(keys, block.shopper)
        weight = (self.popularity[slots] + self.config.popularity_prior) ** self.config.popularity_power
        return slots, log_lists(self.config, keys, weight, self.catalogue.young[slots])

    def _log(self, block: Plan, wanted: bool) -> tuple[list[Event], list[Event]]:
        """Rank a block by the logging policy and answer it."""
        slots, lists = self._lists(block)
        shown = np.take_along_axis(slots, lists.index, axis=1)
        chances = self.choice.chances(block.moments(), block.shopper, shown, self.homes)
        place = np.broadcast_to(np.arange(self.config.shown), shown.shape)
        names = self._names(block)
        policies = ["uniform" if one else "popularity" for one in lists.uniform.tolist()]
        outcomes = self._answer(block, shown, self.config.shown, place, chances, names, policies, wanted)
        if not wanted:
            return [], []
        listings = self.catalogue.listings
        items = [[f"item{serial:08d}" for serial in row] for row in listings.serial[shown].tolist()]
        users = [messages.user_id(serial) for serial in self.shoppers.serial[block.shopper].tolist()]
        logged = messages.impressions(
            names, users, block.time_us, self._contexts(block), policies, items, listings.price[shown],
            lists.propensity,
        )  # fmt: skip
        return logged, outcomes

    def _answer(
        self, block: Plan, slots: Ints, shown: int, place: Ints, chances: Chances, names: list[str],
        policies: list[str], wanted: bool = True,
    ) -> list[Event]:  # fmt: skip
        """Answer lists: the first `shown` of `slots` [B, N] were shown at `place` [B, shown]."""
        listings = self.catalogue.listings
        seen = slots[:, :shown]
        looked = examination(self.config, place)
        category = listings.category[seen]
        done = answer(
            self.config, self._keys(block), listings.serial[seen], category, self.shoppers.household[block.shopper],
            looked, chances.click[:, :shown], chances.buy[:, :shown], self.goods,
        )  # fmt: skip
        if self.truth is not None:
            self._write_truth(block, slots, shown, place, looked, chances, names, policies)
        rows, columns = np.nonzero(done.purchased)
        self._bought[names[0]] = (
            block.shopper[rows], category[rows, columns],
            block.time[rows] + done.purchase_s[rows, columns] / 86_400.0,
            done.quantity[rows, columns], seen[rows, columns],
        )  # fmt: skip
        return self._outcomes(block, seen, done, names) if wanted else []

    def _outcomes(self, block: Plan, seen: Ints, done: Answers, names: list[str]) -> list[Event]:
        listings, events = self.catalogue.listings, []
        serials = self.shoppers.serial[block.shopper]
        for topic, which, delay in (
            ("clicks", done.clicked, done.click_s), ("carts", done.carted, done.cart_s),
            ("purchases", done.purchased, done.purchase_s),
        ):  # fmt: skip
            rows, columns = np.nonzero(which)
            times = block.time_us[rows] + (delay[rows, columns] * 1e6).astype(np.int64)
            slots = seen[rows, columns]
            for row, time, text, serial, price, quantity in zip(
                rows.tolist(), times.tolist(), messages.moments(times), listings.serial[slots].tolist(),
                listings.price[slots].tolist(), done.quantity[rows, columns].tolist(), strict=True,
            ):  # fmt: skip
                events.append(
                    messages.outcome(
                        self.config, topic, names[row], messages.user_id(int(serials[row])), f"item{serial:08d}",
                        time, text, quantity, price,
                    )
                )  # fmt: skip
        events.sort(key=_time)
        return events

    def _write_truth(
        self, block: Plan, slots: Ints, shown: int, place: Ints, looked: Floats, chances: Chances, names: list[str],
        policies: list[str],
    ) -> None:  # fmt: skip
        assert self.truth is not None
        rows, width = slots.shape
        position = np.full(slots.shape, -1, dtype=np.int64)
        position[:, :shown] = place
        purchase = np.zeros(slots.shape)
        purchase[:, :shown] = looked * chances.relevance[:, :shown]
        serials = self.shoppers.serial[block.shopper]
        hidden = position.ravel() < 0
        self.truth.add(
            "candidates", self.date(self._day or 0),
            candidate_rows({
                "request_id": np.repeat(names, width), "policy": np.repeat(policies, width),
                "user_id": np.repeat([messages.user_id(int(serial)) for serial in serials], width),
                "item_id": [f"item{serial:08d}" for serial in self.catalogue.listings.serial[slots].ravel().tolist()],
                "position": np.ma.masked_array(position.ravel(), hidden),
                "relevance": chances.relevance.ravel(), "purchase": np.ma.masked_array(purchase.ravel(), hidden),
                "click": chances.click.ravel(), "click_utility": chances.click_utility.ravel(),
                "buy_utility": chances.buy_utility.ravel(),
            }),
        )  # fmt: skip
        assert rows == len(names)

    def _catalogue_events(self) -> Iterator[Event]:
        start = day_start(self.date(self._day or 0))
        moment = start
        for name, slot in self._changed_users:
            moment += 1_000
            if name == "new":
                yield messages.user(self.shoppers, slot, moment)
            else:
                yield messages.gone("users", name, moment)
        yield from self.catalogue.events(moment)


def _time(event: Event) -> int:
    return event.time_us
