"""Lives the city's history and keeps, for shown candidates, what a model could know and what is true.

Shape suffixes: B requests, N candidates.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.record import Record
from simulator.city import draws
from simulator.city.answers import Answers, answer
from simulator.city.catalogue import PhotoStore
from simulator.city.choice import Chances, examination
from simulator.city.config import CityConfig, Strengths
from simulator.city.describe.counts import ShopCounts
from simulator.city.describe.features import BASE, CATEGORICAL, TRUE, Table, features
from simulator.city.draws import Floats, Ints, Keys
from simulator.city.photo import PhotoSpec
from simulator.city.plan import DayPlan
from simulator.city.policy import Lists
from simulator.city.simulate import City

__all__ = ["BASE", "CATEGORICAL", "TRUE", "Recorder", "Rows", "Seen", "run"]

Array = NDArray[Any]  # of any type of values
Columns = dict[str, Array]


@dataclass
class Rows:
    """Candidates with what can be known of them; lists of blocks until `joined`."""

    base: list[Table] = field(default_factory=list)
    true: list[Table] = field(default_factory=list)
    serial: list[Ints] = field(default_factory=list)
    shopper: list[Ints] = field(default_factory=list)
    day: list[Ints] = field(default_factory=list)
    request: list[Ints] = field(default_factory=list)
    bought: list[Ints] = field(default_factory=list)
    relevance: list[Floats] = field(default_factory=list)
    purchase: list[Floats] = field(default_factory=list)  # probability at the position
    young: list[NDArray[np.bool_]] = field(default_factory=list)

    def joined(self) -> Columns:
        """One array a column."""
        return {name: np.concatenate(parts) for name, parts in vars(self).items() if parts}


@dataclass(frozen=True)
class Seen:
    """A listing's content and truth, by serial."""

    title: str
    description: str
    photo: PhotoSpec | None
    category: int
    declared: int
    variety: int
    freshness: float
    text_category: int
    photo_category: int
    dirt_text: str
    dirt_photo: str
    first_day: int


class Recorder(City):
    """The city, recording.

    Args:
        config: The city's settings.
        seed: The seed.
        window: Days that are learnt from; the day after them is the test.
        tenfold: Whether nine more answers to each day of the window are drawn.
        photos: See `City`.
    """

    def __init__(
        self, config: CityConfig, seed: int, window: int = 7, tenfold: bool = True, photos: PhotoStore | None = None
    ) -> None:
        super().__init__(config, seed, photos)
        self.window, self.tenfold = window, tenfold
        self.train, self.more, self.test, self.rank = Rows(), Rows(), Rows(), Rows()
        self.seen: dict[int, Seen] = {}
        self.sales: list[tuple[int, Ints, Ints, Ints]] = []  # day, shopper serials, listing serials, declared category
        self.daily: list[dict[str, float]] = []
        self.delays: list[Floats] = []
        self.places = np.zeros((3, config.shown))  # uniform requests: looks, clicks, purchases by position
        self.ages: Floats = np.zeros(0)
        self.without: dict[str, list[Floats]] = {}
        self._salt = 0
        self.counts = ShopCounts(config, len(self.goods.var_category))
        self.uc_bought, self.product_sold = self.counts.uc_bought, self.counts.product_sold  # the report reads them
        self._today: list[tuple[Ints, Ints, Floats, NDArray[np.bool_]]] = []

    # ---- hooks into the city's course

    def _open(self, day: int) -> None:
        before = self.shoppers.serial.copy()
        super()._open(day)
        left = np.flatnonzero(before != self.shoppers.serial)
        fresh = self.catalogue._new
        self.counts.forget(left, fresh)
        listings = self.catalogue.listings
        for slot in fresh.tolist():
            self.seen[int(listings.serial[slot])] = Seen(
                listings.title[slot], listings.description[slot], listings.photo[slot], int(listings.category[slot]),
                int(listings.declared[slot]), int(listings.variety[slot]), float(listings.freshness[slot]),
                int(listings.text_category[slot]), int(listings.photo_category[slot]),
                listings.dirt_text[slot], listings.dirt_photo[slot], day,
            )  # fmt: skip
        self._today = []
        if day == self.window:
            start = self.plan.time_us[0]
            self.ages = (start - listings.created_us) / 86_400e6

    def _close(self) -> None:
        listings = self.catalogue.listings
        parts = [self._bought[name] for name in sorted(self._bought)]
        if parts and not self._closed:
            shopper, _, time, quantity, slots = (np.concatenate([p[i] for p in parts]) for i in range(5))
            day = self._day or 0
            self.sales.append((day, self.shoppers.serial[shopper], listings.serial[slots], listings.declared[slots]))
            self.counts.add_sales(listings, shopper, time, slots, logged=day >= 0)
            if self._day is not None and day >= 0 and self.daily:
                self.daily[-1]["gmv"] = float((listings.price[slots] * quantity).sum())
        for block in self._today:
            self.counts.add_looks(listings, *block)
        super()._close()

    def _keys(self, block: DayPlan) -> Keys:
        keys = super()._keys(block)
        return keys if self._salt == 0 else draws.combine(keys, np.uint64(self._salt * 7919))

    def _log(self, block: DayPlan, wanted: bool) -> tuple[list[Record], list[Record]]:
        """As the city's, and the block is recorded."""
        day = self._day or 0
        if not 0 <= day <= self.window:
            return super()._log(block, wanted)
        self._record(block, day, self.train if day < self.window else self.test, 1 / 3 if day < self.window else 1.0)
        if day < self.window and self.tenfold:
            for salt in range(1, 10):
                self._salt = salt
                self._record(block, day, self.more, 0.1)
            self._salt = 0
        if day == self.window:
            self._record_all(block)
        return [], []

    # ---- recording

    def _record(self, block: DayPlan, day: int, rows: Rows, share: float) -> None:
        slots, lists = self._lists(block)
        shown = np.take_along_axis(slots, lists.index, axis=1)
        chances = self.choice.chances(block.moments(), block.shopper, shown, self.homes)
        listings = self.catalogue.listings
        place = np.broadcast_to(np.arange(self.config.shown), shown.shape)
        looked = examination(self.config, place)
        done = answer(
            self.config, self._keys(block), listings.serial[shown], listings.category[shown],
            self.shoppers.household[block.shopper], looked, chances.click, chances.buy, self.goods,
        )  # fmt: skip
        if self._salt == 0:
            self._keep_answers(block, day, shown, lists, looked, done)
        if day == self.window:
            self._without(block, shown)
        base, true = features(self, self.counts, block, shown)
        keep = done.purchased | (
            draws.uniform(draws.combine(self._keys(block)[:, None], listings.serial[shown] + 99)) < share
        )
        self._add(rows, block, day, shown, keep, base, true, chances, looked, done.purchased)

    def _without(self, block: DayPlan, shown: Ints) -> None:
        """What the probability of purchase would be without each mechanism, for the test day's shown items."""
        for mechanism in fields(Strengths):
            self.choice.config = replace(self.config, strengths=self.config.strengths.off(mechanism.name))
            chances = self.choice.chances(block.moments(), block.shopper, shown, self.homes)
            self.without.setdefault(mechanism.name, []).append(chances.relevance.ravel())
        self.choice.config = self.config

    def _keep_answers(self, block: DayPlan, day: int, shown: Ints, lists: Lists, looked: Floats, done: Answers) -> None:
        rows, columns = np.nonzero(done.purchased)
        listings = self.catalogue.listings
        self._bought[self._names(block[:1])[0]] = (
            block.shopper[rows], listings.category[shown[rows, columns]],
            block.time[rows] + done.purchase_s[rows, columns] / 86_400.0, done.quantity[rows, columns],
            shown[rows, columns],
        )  # fmt: skip
        self._today.append((block.shopper, shown, looked, done.clicked))
        self.delays.append(done.purchase_s[rows, columns])
        if not self.daily or self.daily[-1]["day"] != day:
            self.daily.append(dict.fromkeys(("day", "requests", "shown", "clicks", "carts", "purchases", "gmv"), 0.0))
            self.daily[-1]["day"] = float(day)
        today = self.daily[-1]
        for name, value in (("requests", len(block)), ("shown", shown.size), ("clicks", done.clicked.sum()),
                            ("carts", done.carted.sum()), ("purchases", done.purchased.sum())):  # fmt: skip
            today[name] += float(value)
        uniform = lists.uniform
        self.places += np.array(
            [np.full(shown.shape[1], uniform.sum()), done.clicked[uniform].sum(axis=0),
             done.purchased[uniform].sum(axis=0)]
        )  # fmt: skip

    def _record_all(self, block: DayPlan) -> None:
        """All candidates of about every third request, for the comparison of rankings."""
        block = block[np.flatnonzero(block.number % 3 == 0)]
        if not len(block):
            return
        slots = self.retrieval.candidates(self._keys(block), block.shopper)
        chances = self.choice.chances(block.moments(), block.shopper, slots, self.homes)
        base, true = features(self, self.counts, block, slots)
        everything = np.ones(slots.shape, dtype=bool)
        nobody = np.zeros(slots.shape, dtype=bool)
        looked = np.ones(slots.shape)
        self._add(self.rank, block, self._day or 0, slots, everything, base, true, chances, looked, nobody)

    def _add(
        self, rows: Rows, block: DayPlan, day: int, slots: Ints, keep: NDArray[np.bool_], base: Table, true: Table,
        chances: Chances, looked: Floats, bought: NDArray[np.bool_],
    ) -> None:  # fmt: skip
        looked = np.broadcast_to(looked, slots.shape)
        rows.base.append(base[keep])
        rows.true.append(true[keep])
        rows.serial.append(self.catalogue.listings.serial[slots][keep])
        rows.shopper.append(np.broadcast_to(self.shoppers.serial[block.shopper][:, None], slots.shape)[keep])
        rows.day.append(np.full(int(keep.sum()), day))
        rows.request.append(np.broadcast_to(block.number[:, None], slots.shape)[keep])
        rows.bought.append(bought[keep].astype(np.int64))
        rows.relevance.append(chances.relevance[keep])
        rows.purchase.append((looked * chances.relevance)[keep])
        rows.young.append(self.catalogue.young[slots][keep])


def run(recorder: Recorder) -> None:
    """Live the weeks before, the window and the test day."""
    first = -recorder.config.warm_up_days
    for day in range(first, recorder.window + 1):
        recorder._open(day)
        for _ in recorder._live(day, None):
            pass
        recorder._close()
