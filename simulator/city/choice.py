"""How shoppers choose: utilities over what a listing shows and what it is, and the probabilities that follow.

Shape suffixes: B requests of a block, N candidates of each, U shoppers, L listings, C categories, V varieties.
A click has probability examination(position) * sigmoid(click utility), a purchase after it sigmoid(buy utility): random
utility with logistic noise against doing nothing. Given the shoppers' state the items of a list are independent, so
that the probabilities written as truth are exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.city import draws
from simulator.city.config import CityConfig
from simulator.city.draws import Floats, Ints, Keys
from simulator.city.listings import UNKNOWN_FRESHNESS, Listings
from simulator.city.tables import BRANDS, ORIGINS, PACKAGES
from simulator.city.world import STYLE, Goods, Shoppers, Shops

COMPLEMENT_DAYS = 1.5  # how fast the wish for what goes with a purchase fades
_Small = NDArray[np.float32]


@dataclass(frozen=True)
class Moments:
    """When and how requests of a block come in; all [B]."""

    time: Floats  # days since the first logged day began
    daypart: Ints
    weather: Ints
    payday: NDArray[np.bool_]
    visit: Ints  # which of the shopper's visits of the day this is
    visits: Ints  # of how many


@dataclass(frozen=True)
class Chances:
    """Utilities and probabilities of candidates, without position; all [B, N]."""

    click_utility: Floats
    buy_utility: Floats
    click: Floats
    buy: Floats

    @property
    def relevance(self) -> Floats:
        """Probability of a purchase of an item that is looked at."""
        return self.click * self.buy


@dataclass
class Homes:
    """What is at home: when stock runs out, and when something that asks for a complement was bought."""

    due: Floats  # [U, C] days
    wish: Floats  # [U, C] day of the last purchase that asks for this category

    def bought(self, shopper: Ints, category: Ints, time: Floats, quantity: Ints, cycle: Floats, goods: Goods) -> None:
        """Fill the stock; the order of equal pairs does not matter."""
        np.maximum.at(self.due, (shopper, category), time)
        np.add.at(self.due, (shopper, category), cycle[shopper, category] * quantity)
        rows, others = np.nonzero(goods.goes_with[category])
        np.maximum.at(self.wish, (shopper[rows], others), time[rows])


@dataclass(frozen=True)
class Tastes:
    """Tastes of a day, by shopper slot."""

    variety_UV: _Small  # one more column than varieties: 0, for what is not shown
    brand_UB: _Small
    origin_UO: _Small  # one more column than origins
    package_UP: _Small


def tastes(config: CityConfig, seed: int, day: float, shoppers: Shoppers, goods: Goods) -> Tastes:
    """Tastes on a day: each turns slowly between two hidden ones; a sudden shift mixes in a third."""
    period = config.drift_period_days
    angle = 2 * np.pi * day / period if period else 0.0
    shifted = config.shift_day is not None and day >= config.shift_day
    size = config.shift_size if shifted else 0.0
    root = np.uint64(draws.key_of(seed, "taste"))

    def table(name: str, width: int) -> Floats:
        keys = draws.combine(root + np.uint64(draws.key_of(name) % 1_000_003), shoppers.serial)[:, None]
        parts = [draws.normal(draws.combine(keys, np.arange(width)[None, :] + 10_000 * part)) for part in range(1 + 2)]
        value = np.cos(angle) * parts[0] + np.sin(angle) * parts[1]
        return np.asarray(np.sqrt(1 - size**2) * value + size * parts[2])

    def padded(values: Floats) -> _Small:
        return np.concatenate([values, np.zeros((len(values), 1))], axis=1).astype(np.float32)

    common = draws.generator(seed, "varieties").normal(size=len(goods.var_category))
    if size:
        other = draws.generator(seed, "varieties", "shifted").normal(size=len(common))
        common = np.sqrt(1 - size**2) * common + size * other
    profile = np.stack(
        [shoppers.income, (shoppers.age - 1.5) / 1.12, (shoppers.household - 2.46) / 1.23], axis=1
    )  # what a shop may know; tastes lean on it

    def leaning(name: str, width: int) -> Floats:
        """A taste leans on the profile for the most part; the rest is personal."""
        shape = (profile.shape[1], width)
        lean = draws.generator(seed, "lean", name).normal(size=shape)
        if size:
            other = draws.generator(seed, "lean", name, "shifted").normal(size=shape)
            lean = np.sqrt(1 - size**2) * lean + size * other
        return np.asarray(0.4 * table(name, width) + 0.9 * profile @ lean / np.sqrt(profile.shape[1]))

    style = leaning("brand", STYLE) @ goods.brand_style.T
    place = 0.8 * leaning("origin", STYLE) @ goods.origin_style.T + goods.origin_quality
    return Tastes(
        padded(0.65 * leaning("variety", len(common)) + 0.76 * common),
        style[:, : len(BRANDS)].astype(np.float32), padded(place[:, : len(ORIGINS)]),
        leaning("package", len(PACKAGES)).astype(np.float32),
    )  # fmt: skip


class Choice:
    """Utilities of a day: what hangs on the listings is laid out once."""

    def __init__(self, config: CityConfig, seed: int, goods: Goods, shops: Shops) -> None:
        self.config, self.goods, self.shops = config, goods, shops
        self.click_intercept = self.buy_intercept = 0.0
        self._noise = np.uint64(draws.key_of(seed, "noise"))
        self._log_price_C = np.array(
            [
                np.log(goods.product_price[goods.product_category == category]).mean()
                for category in range(config.categories)
            ]
        )
        log_weight = np.log(goods.product_weight)
        self._log_weight_C = np.array(
            [log_weight[goods.product_category == category].mean() for category in range(config.categories)]
        )

    def open_day(self, listings: Listings, shoppers: Shoppers, taste: Tastes) -> None:
        """Lay out the day's listings, shoppers and tastes."""
        self.listings, self.shoppers, self.taste = listings, shoppers, taste
        text, photo = listings.text_category, listings.photo_category
        self._first = np.where(text >= 0, text, np.where(photo >= 0, photo, listings.declared))
        self._second = np.where(photo >= 0, photo, self._first)
        unknown = len(self.goods.var_category)  # the padded column
        text, photo = listings.text_variety, listings.photo_variety
        both = np.where(text >= 0, text, np.where(photo >= 0, photo, unknown))
        self._variety_1 = both
        self._variety_2 = np.where(photo >= 0, photo, both)
        self._origin = np.where(listings.text_origin >= 0, listings.text_origin, len(ORIGINS))
        perishes = ~np.isnan(listings.freshness)
        shown = np.where(np.isnan(listings.photo_freshness), UNKNOWN_FRESHNESS, listings.photo_freshness)
        self._fresh_shown = np.where(perishes, shown - UNKNOWN_FRESHNESS, 0.0)
        self._fresh_true = np.where(perishes, np.nan_to_num(listings.freshness) - UNKNOWN_FRESHNESS, 0.0)
        mean = self._log_weight_C[listings.category]
        self._weight_true = (np.log(listings.weight) - mean) / 0.5
        said = np.log(np.maximum(listings.text_weight, 1))
        self._weight_shown = np.where(
            listings.text_weight > 0, (said - self._log_weight_C[self._first]) / 0.5, 0.0
        ).clip(-3, 3)
        # shoppers weigh the price by the kilo, where the listing says the weight; else they suppose a middling one
        label = np.log(listings.price) - self._log_price_C[listings.category]
        self._price_true = ((label - 0.75 * 0.5 * self._weight_true) / 0.27).clip(-3, 3)
        self._price_shown = ((label - 0.75 * 0.5 * self._weight_shown) / 0.27).clip(-3, 3)
        self._quality = self.goods.product_quality[listings.product]

    def price_in_category(self, category: Ints, price: Ints) -> Floats:
        """Log price on the label against the category's mean, in units of a usual spread."""
        return np.asarray(((np.log(price) - self._log_price_C[category]) / 0.35).clip(-3, 3))

    def wants(self, moments: Moments, shopper: Ints, homes: Homes) -> Floats:
        """Wish for each category now, in logits [B, C]: need, and what goes with recent purchases."""
        strengths = self.config.strengths
        time = moments.time[:, None]
        uses = self.shoppers.uses[shopper]
        need = np.tanh(2.5 * (time - homes.due[shopper]) / self.shoppers.cycle[shopper])
        # with several visits a day each need belongs to one of them, so that a day's answers need no common memory
        several = moments.visits > 1
        if several.any():
            category = np.arange(uses.shape[1])[None, :]
            part = draws.mix(
                self.shoppers.serial[shopper][:, None] * 1_000_003 + np.floor(time).astype(np.int64) * 101 + category
            )
            other = (part % moments.visits[:, None].astype(np.uint64)).astype(np.int64) != moments.visit[:, None]
            need = np.where(other & several[:, None], np.minimum(need, -0.6), need)
        age = time - homes.wish[shopper]
        wish = np.where(age > 0, np.exp(-np.maximum(age, 0) / COMPLEMENT_DAYS), 0.0)
        value = np.where(uses, strengths.need * need, -strengths.unused)
        return np.asarray(value + strengths.complement * wish + self.goods.hour[:, moments.daypart].T)

    def chances(self, moments: Moments, shopper: Ints, slots: Ints, homes: Homes) -> Chances:
        """Utilities and probabilities of candidates.

        Args:
            moments: When the requests come in.
            shopper: Slots of the shoppers, [B].
            slots: Slots of the listings, [B, N].
            homes: What is at home.
        """
        w, config = self.config.strengths, self.config
        listings, people, taste = self.listings, self.shoppers, self.taste
        row = shopper[:, None]
        wants = self.wants(moments, shopper, homes)

        def of_category(category_L: Ints) -> Floats:
            return np.take_along_axis(wants, category_L[slots], axis=1)

        fresh_care = people.fresh_care[row]
        big = ((people.household[row] - 2.2) / 1.2) * w.weight
        shown = 0.5 * (of_category(self._first) + of_category(self._second))
        variety = taste.variety_UV[row, self._variety_1[slots]] + taste.variety_UV[row, self._variety_2[slots]]
        shown += 0.5 * w.variety * variety
        shown += w.origin * taste.origin_UO[row, self._origin[slots]]
        shown += big * self._weight_shown[slots]
        shown += w.freshness * fresh_care * self._fresh_shown[slots]
        true = of_category(listings.category)
        true += w.variety * taste.variety_UV[row, listings.variety[slots]]
        true += w.origin * taste.origin_UO[row, listings.origin[slots]]
        true += big * self._weight_true[slots]
        true += w.freshness * fresh_care * self._fresh_true[slots]
        # what text and photo need not tell, because fields, a badge or the map do
        both = w.brand * taste.brand_UB[row, listings.brand[slots]]
        package = listings.photo_package[slots]
        shown += w.package * np.where(package >= 0, taste.package_UP[row, np.maximum(package, 0)], 0.0)
        both += w.promotion * listings.promoted[slots]
        both += w.moment * self.goods.moment[
            listings.category[slots], moments.daypart[:, None], moments.weather[:, None]
        ]  # fmt: skip
        both += w.shop * self.shops.standing[listings.shop[slots]]
        both += w.quality * self._quality[slots]
        pairs = draws.combine(draws.combine(self._noise, people.serial[shopper])[:, None], listings.serial[slots])
        both += w.noise * draws.normal(pairs)
        poor = 1 / (1 + np.exp(people.income[shopper]))  # 0 rich .. 1 poor
        lift = 1.0 + w.payday * poor * np.where(moments.payday, -1.0, 0.5)
        price_care = -w.price * (people.price_care[shopper] * lift)[:, None]
        price_shown, price_true = price_care * self._price_shown[slots], price_care * self._price_true[slots]
        shop = listings.shop[slots]
        kilometres = np.hypot(people.x[row] - self.shops.x[shop], people.y[row] - self.shops.y[shop])
        late = w.delivery * (self.shops.pace[shop] + 4.0 * kilometres - 38.0) / 14.0
        doubt = w.trust * listings.mismatch[slots]
        click_utility = (
            self.click_intercept + shown + both + price_shown - 0.5 * late - 0.5 * doubt
            - w.poor_text * listings.poor_text[slots] - w.poor_photo * listings.poor_photo[slots]
        )  # fmt: skip
        seen = config.shown_share * shown + (1 - config.shown_share) * true
        buy_utility = (
            self.buy_intercept + 0.8 * seen + 0.6 * both + 0.5 * (price_shown + price_true) - late - doubt
            - 0.5 * (w.poor_text * listings.poor_text[slots] + w.poor_photo * listings.poor_photo[slots])
        )  # fmt: skip
        return Chances(click_utility, buy_utility, sigmoid(click_utility), sigmoid(buy_utility))


def sigmoid(values: Floats) -> Floats:
    """The logistic function."""
    return np.asarray(1.0 / (1.0 + np.exp(-values)))


def examination(config: CityConfig, position: Ints | Floats) -> Floats:
    """Probability that a position (0 first) is looked at."""
    return np.asarray((1.0 + np.asarray(position, dtype=np.float64)) ** -config.examination)


def request_keys(seed: int, day: int, number: Ints) -> Keys:
    """Keys of a day's requests by their numbers."""
    return draws.combine(np.uint64(draws.key_of(seed, "request", day)), number)
