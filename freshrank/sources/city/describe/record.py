"""Lives the city's history and keeps, for shown candidates, what a model could know and what is true.

Features are those as of the start of each day, made from purchases, clicks and impressions of days before. Shape
suffixes: B requests, N candidates, L slots of listings, U of shoppers, C categories, F features.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from freshrank.sources.city import draws
from freshrank.sources.city.answers import answer
from freshrank.sources.city.catalogue import Photos
from freshrank.sources.city.choice import Chances, examination
from freshrank.sources.city.config import CityConfig, Strengths
from freshrank.sources.city.draws import Floats, Ints
from freshrank.sources.city.photo import PhotoSpec
from freshrank.sources.city.plan import Plan
from freshrank.sources.city.policy import Lists
from freshrank.sources.city.simulate import City
from freshrank.sources.city.tables import BRANDS, ORIGINS

Table = NDArray[np.float32]

BASE = (
    "item_ctr", "item_cvr", "item_looks", "item_sold", "age_days", "log_price", "price_in_category", "promotion",
    "category", "brand", "shop", "shop_ctr", "shop_cvr", "brand_cvr", "category_cvr", "delivery_minutes",
    "distance", "user_ctr", "user_cvr", "user_bought", "household", "income", "age_band", "user_category_bought",
    "user_category_days", "user_category_every", "user_category_ctr", "user_brand_bought", "user_shop_bought",
    "price_to_user", "hour", "daypart", "weekday", "weather", "payday", "zone", "position",
)  # fmt: skip
TRUE = (
    "true_category", "true_variety", "true_origin", "true_weight", "true_package", "true_freshness",
    "text_origin", "text_weight", "text_variety", "photo_variety", "photo_freshness", "mismatch", "poor_text",
    "poor_photo", "user_variety_bought", "user_variety_clicked", "user_origin_bought", "complement_days",
    "product_sold", "variety_cvr", "true_category_days",
)  # fmt: skip
CATEGORICAL = {"category", "brand", "shop", "true_category", "true_variety", "true_origin", "text_origin",
               "true_package", "weather"}  # fmt: skip


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

    def joined(self) -> dict[str, Any]:
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
        self, config: CityConfig, seed: int, window: int = 7, tenfold: bool = True, photos: Photos | None = None
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
        u, c, b = config.shoppers, config.categories, len(BRANDS)
        n, v = config.listings, len(self.goods.var_category)
        self.item = np.zeros((4, n))  # looks (examined), clicks, purchases, shown
        self.user = np.zeros((4, u))
        self.of_shop, self.of_brand = np.zeros((3, config.shops)), np.zeros((3, b))
        self.of_category, self.of_variety = np.zeros((3, c)), np.zeros((3, v))
        self.product_sold = np.zeros(config.products)
        self.uc_bought, self.uc_clicked, self.uc_looked = np.zeros((u, c)), np.zeros((u, c)), np.zeros((u, c))
        self.uc_first, self.uc_last = np.full((u, c), np.nan), np.full((u, c), np.nan)
        self.ut_last = np.full((u, c), np.nan)  # by true category
        self.ub_bought, self.us_bought = np.zeros((u, b)), np.zeros((u, config.shops))
        self.uv_bought, self.uv_clicked = np.zeros((u, v)), np.zeros((u, v))
        self.uo_bought = np.zeros((u, len(ORIGINS)))
        self.u_paid = np.zeros((2, u))
        self._today: list[tuple[Ints, Ints, Floats, NDArray[np.bool_]]] = []

    # ---- hooks into the city's course

    def _open(self, day: int) -> None:
        before = self.shoppers.serial.copy()
        super()._open(day)
        left = np.flatnonzero(before != self.shoppers.serial)
        for table in (self.uc_bought, self.uc_clicked, self.uc_looked, self.ub_bought, self.us_bought,
                      self.uv_bought, self.uv_clicked, self.uo_bought):  # fmt: skip
            table[left] = 0.0
        for table in (self.uc_first, self.uc_last, self.ut_last):
            table[left] = np.nan
        self.user[:, left], self.u_paid[:, left] = 0.0, 0.0
        fresh = self.catalogue._new
        self.item[:, fresh] = 0.0
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
        parts = [self._bought[name] for name in sorted(self._bought)]
        if parts and not self._closed:
            shopper, _, time, quantity, slots = (np.concatenate([p[i] for p in parts]) for i in range(5))
            self._count_sales(shopper, time, slots)
            price = self.catalogue.listings.price[slots]
            if self._day is not None and self._day >= 0 and self.daily:
                self.daily[-1]["gmv"] = float((price * quantity).sum())
        for block in self._today:
            self._count_looks(*block)
        super()._close()

    def _keys(self, block: Plan) -> Any:
        keys = super()._keys(block)
        return keys if self._salt == 0 else draws.combine(keys, np.uint64(self._salt * 7919))

    def _log(self, block: Plan, wanted: bool) -> tuple[list[Any], list[Any]]:
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

    def _record(self, block: Plan, day: int, rows: Rows, share: float) -> None:
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
        base, true = self.features(block, shown)
        keep = done.purchased | (
            draws.uniform(draws.combine(self._keys(block)[:, None], listings.serial[shown] + 99)) < share
        )
        self._add(rows, block, day, shown, keep, base, true, chances, looked, done.purchased)

    def _without(self, block: Plan, shown: Ints) -> None:
        """What the probability of purchase would be without each mechanism, for the test day's shown items."""
        for mechanism in fields(Strengths):
            self.choice.config = replace(self.config, strengths=self.config.strengths.off(mechanism.name))
            chances = self.choice.chances(block.moments(), block.shopper, shown, self.homes)
            self.without.setdefault(mechanism.name, []).append(chances.relevance.ravel())
        self.choice.config = self.config

    def _keep_answers(self, block: Plan, day: int, shown: Ints, lists: Lists, looked: Floats, done: Any) -> None:
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

    def _record_all(self, block: Plan) -> None:
        """All candidates of about every third request, for the comparison of rankings."""
        block = block[np.flatnonzero(block.number % 3 == 0)]
        if not len(block):
            return
        slots = self.retrieval.candidates(self._keys(block), block.shopper)
        chances = self.choice.chances(block.moments(), block.shopper, slots, self.homes)
        base, true = self.features(block, slots)
        everything = np.ones(slots.shape, dtype=bool)
        nobody = np.zeros(slots.shape, dtype=bool)
        looked = np.ones(slots.shape)
        self._add(self.rank, block, self._day or 0, slots, everything, base, true, chances, looked, nobody)

    def _add(
        self, rows: Rows, block: Plan, day: int, slots: Ints, keep: NDArray[np.bool_], base: Table, true: Table,
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

    def _count_sales(self, shopper: Ints, time: Floats, slots: Ints) -> None:
        listings = self.catalogue.listings
        category, true = listings.declared[slots], listings.category[slots]
        serials = listings.serial[slots]
        self.sales.append((self._day or 0, self.shoppers.serial[shopper], serials, category))
        for table, column in ((self.uc_bought, category), (self.ub_bought, listings.brand[slots]),
                              (self.us_bought, listings.shop[slots]), (self.uv_bought, listings.variety[slots]),
                              (self.uo_bought, listings.origin[slots])):  # fmt: skip
            np.add.at(table, (shopper, column), 1.0)
        np.fmin.at(self.uc_first, (shopper, category), time)
        np.fmax.at(self.uc_last, (shopper, category), time)
        np.fmax.at(self.ut_last, (shopper, true), time)
        np.add.at(self.user[2], shopper, 1.0)
        np.add.at(self.product_sold, listings.product[slots], 1.0)
        np.add.at(self.u_paid[0], shopper, np.log(listings.price[slots]))
        np.add.at(self.u_paid[1], shopper, 1.0)
        if (self._day or 0) >= 0:
            np.add.at(self.item[2], slots, 1.0)
            for total, column in self._totals():
                np.add.at(total[2], column[slots], 1.0)

    def _totals(self) -> tuple[tuple[Floats, Ints], ...]:
        """Counts, and the column of the listings that says which of them."""
        one = self.catalogue.listings
        return ((self.of_shop, one.shop), (self.of_brand, one.brand), (self.of_category, one.declared),
                (self.of_variety, one.variety))  # fmt: skip

    def _count_looks(self, shopper: Ints, shown: Ints, looked: Floats, clicked: NDArray[np.bool_]) -> None:
        listings = self.catalogue.listings
        who = np.broadcast_to(shopper[:, None], shown.shape)
        looked = np.broadcast_to(looked, shown.shape)
        for row, value in ((0, looked), (1, clicked)):
            np.add.at(self.item[row], shown, value)
            np.add.at(self.user[row], who, value)
            for total, column in self._totals():
                np.add.at(total[row], column[shown], value)
        np.add.at(self.item[3], shown, 1.0)
        np.add.at(self.uc_looked, (who, listings.declared[shown]), looked)
        np.add.at(self.uc_clicked, (who, listings.declared[shown]), clicked)
        np.add.at(self.uv_clicked, (who, listings.variety[shown]), clicked)

    def features(self, block: Plan, slots: Ints) -> tuple[Table, Table]:
        """What is known at the start of the day: [B, N, F] of `BASE` and of `TRUE`."""
        listings, people = self.catalogue.listings, self.shoppers
        shape, row = slots.shape, block.shopper[:, None]
        time = block.time[:, None]
        category, true = listings.declared[slots], listings.category[slots]
        shop, brand = listings.shop[slots], listings.brand[slots]
        variety, origin = listings.variety[slots], listings.origin[slots]

        def rate(hits: Any, looks: Any, prior: float, weight: float) -> Any:
            return (hits + prior * weight) / (looks + weight)

        ctr, cvr = 0.2, 0.07  # of what is looked at
        log_price = np.log(listings.price)
        with np.errstate(invalid="ignore", divide="ignore"):
            every = (self.uc_last - self.uc_first) / np.maximum(self.uc_bought - 1, 1)
            mean_paid = self.u_paid[0] / self.u_paid[1]
        asked = self.goods.goes_with[:, true.ravel()].T.reshape(*shape, -1)  # categories that ask for this one
        last = np.where(asked, np.nan_to_num(self.ut_last[block.shopper], nan=-99.0)[:, None, :], -99.0).max(axis=2)
        base = (
            rate(self.item[1], self.item[0], ctr, 8.0)[slots], rate(self.item[2], self.item[0], cvr, 20.0)[slots],
            self.item[0][slots], self.popularity[slots],
            (block.time_us[:, None] - listings.created_us[slots]) / 86_400e6, log_price[slots],
            self.choice.price_in_category(category, listings.price[slots]), listings.promoted[slots], category,
            brand, shop,
            rate(self.of_shop[1], self.of_shop[0], ctr, 50.0)[shop],
            rate(self.of_shop[2], self.of_shop[0], cvr, 50.0)[shop],
            rate(self.of_brand[2], self.of_brand[0], cvr, 50.0)[brand],
            rate(self.of_category[2], self.of_category[0], cvr, 50.0)[category],
            self.shops.pace[shop],
            np.hypot(people.x[row] - self.shops.x[shop], people.y[row] - self.shops.y[shop]),
            rate(self.user[1], self.user[0], ctr, 20.0)[row], rate(self.user[2], self.user[0], cvr, 20.0)[row],
            self.user[2][row], people.household[row], np.digitize(people.income, [-0.6, 0.6])[row], people.age[row],
            self.uc_bought[row, category], time - self.uc_last[row, category], every[row, category],
            rate(self.uc_clicked, self.uc_looked, ctr, 4.0)[row, category], self.ub_bought[row, brand],
            self.us_bought[row, shop], log_price[slots] - mean_paid[row], (time % 1) * 24, block.daypart[:, None],
            np.floor(time) % 7, block.weather[:, None], block.payday[:, None], people.zone[row],
            np.arange(shape[1])[None, :],
        )  # fmt: skip
        hidden = (
            true, variety, origin, np.log(listings.weight[slots]), listings.package[slots],
            listings.freshness[slots], listings.text_origin[slots], np.log(np.maximum(listings.text_weight[slots], 1)),
            listings.text_variety[slots] >= 0, listings.photo_variety[slots] == variety,
            listings.photo_freshness[slots], listings.mismatch[slots], listings.poor_text[slots],
            listings.poor_photo[slots], self.uv_bought[row, variety], self.uv_clicked[row, variety],
            self.uo_bought[row, origin], time - last, self.product_sold[listings.product[slots]],
            rate(self.of_variety[2], self.of_variety[0], cvr, 50.0)[variety], time - self.ut_last[row, true],
        )  # fmt: skip
        assert len(base) == len(BASE) and len(hidden) == len(TRUE)

        def stacked(columns: tuple[Any, ...]) -> Table:
            return np.stack([np.broadcast_to(one, shape) for one in columns], axis=2).astype(np.float32)

        return stacked(base), stacked(hidden)


def run(recorder: Recorder) -> None:
    """Live the weeks before, the window and the test day."""
    first = -recorder.config.warm_up_days
    for day in range(first, recorder.window + 1):
        recorder._open(day)
        for _ in recorder._live(day, None):
            pass
        recorder._close()
