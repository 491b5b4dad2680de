"""Every number of the city: sizes, rates, and how strong each mechanism is (0 switches it off)."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass, field, fields, replace
from typing import Annotated, Any

from pydantic import Field

from features.configuration import Finite, Natural, Rate, Share, Size, Weight, check
from features.errors import UsageError

Chance = Annotated[float, Field(gt=0, lt=1)]

SMALL: dict[str, Any] = {
    "shoppers": 120,
    "zones": 3,
    "shops": 8,
    "categories": 20,
    "products": 80,
    "listings": 200,
    "requests_per_day": 150,
    "warm_up_days": 14,
    "photo_px": 96,
}


@dataclass(frozen=True)
class Strengths:
    """Weights in the utilities, in units of a logit; 0 switches a mechanism off.

    Args:
        need: Stock at home that runs out: from −1 (just filled) to +1 (run out) in goods the shopper uses.
        unused: How much less a shopper wants goods of a category that the household does not use.
        complement: Wish for what goes with something bought a day or two ago.
        variety: Personal taste for a variety (in text and photo).
        brand: Personal taste for a brand.
        origin: Taste for an origin (text only).
        weight: Fit of the package's weight to the household (text only).
        package: Taste for a kind of package (photo only).
        freshness: Freshness of perishable goods (photo only), times the shopper's care for it.
        quality: The product's own quality, which nothing shows but what others did.
        price: Price by weight (as the text says it) within the category, times the shopper's price sensitivity.
        payday: How far a payday lifts price sensitivity, more for small incomes.
        promotion: A promotion's badge.
        moment: Category x part of day x weather.
        delivery: Minutes until delivery.
        trust: Loss where title and photo show different things.
        poor_text: Loss for a vague, truncated or misspelt title.
        poor_photo: Loss for a blurred, dark, stock or missing photo.
        shop: The shop's standing.
        noise: A taste of shopper for listing that nothing explains.
    """

    need: Finite = 1.1
    unused: Finite = 1.3
    complement: Finite = 1.2
    variety: Finite = 0.8
    brand: Finite = 0.35
    origin: Finite = 0.75
    weight: Finite = 0.6
    package: Finite = 0.8
    freshness: Finite = 3.0
    quality: Finite = 0.35
    price: Finite = 0.45
    payday: Finite = 0.8
    promotion: Finite = 0.45
    moment: Finite = 0.6
    delivery: Finite = 0.35
    trust: Finite = 1.8
    poor_text: Finite = 1.0
    poor_photo: Finite = 1.3
    shop: Finite = 0.2
    noise: Finite = 0.15

    def __post_init__(self) -> None:
        check(self, "city.strengths.")

    def off(self, *names: str) -> Strengths:
        """The same with these mechanisms switched off.

        Raises:
            UsageError: If a name is none of them.
        """
        known = {item.name for item in fields(self)}
        for name in names:
            if name not in known:
                raise UsageError("no such mechanism", field="off", value=name, remedy=f"one of {sorted(known)}")
        return replace(self, **dict.fromkeys(names, 0.0))


@dataclass(frozen=True)
class Dirt:
    """How often listings are dirty, and how.

    Args:
        rate: Share of listings that are dirty; careless shops have more of it, careful ones less.
        both: Share of the dirty that are dirty in text and photo.
        text_share: Share of the rest that are dirty in the text.
        text: Kinds of dirty text and their shares.
        photo: Kinds of dirty photos and their shares.
    """

    rate: Share = 0.15
    both: Share = 0.12
    text_share: Share = 0.5
    text: tuple[tuple[str, Share], ...] = (
        ("vague", 0.25),
        ("truncated", 0.2),
        ("misspelt", 0.2),
        ("wrong_title", 0.2),
        ("wrong_category", 0.15),
    )
    photo: tuple[tuple[str, Share], ...] = (
        ("wrong_photo", 0.25),
        ("blurred", 0.2),
        ("dark", 0.2),
        ("stock", 0.2),
        ("missing", 0.15),
    )

    def __post_init__(self) -> None:
        check(self, "city.dirt.")


@dataclass(frozen=True)
class Delays:
    """From impression to click, cart, purchase: a fast and a slow log-normal, mixed by kind of good.

    Args:
        fast_median_s: Median of the fast part, seconds.
        fast_sigma: Its spread.
        slow_median_s: Median of the slow part, seconds.
        slow_sigma: Its spread.
        slow_share: Share of slow purchases over all goods.
        longest_s: No purchase is later than this.
    """

    fast_median_s: Rate = 330.0
    fast_sigma: Weight = 0.7
    slow_median_s: Rate = 9_700.0
    slow_sigma: Weight = 1.2
    slow_share: Share = 0.15
    longest_s: Rate = 60.0 * 3600

    def __post_init__(self) -> None:
        check(self, "city.delays.")


@dataclass(frozen=True)
class CityConfig:
    """The city.

    Args:
        shoppers: Shoppers at any time.
        zones: Zones of the city.
        shops: Shops.
        categories: Categories of goods, at most those of `tables.CATEGORIES`.
        products: Products.
        listings: Live listings at any time.
        requests_per_day: Mean number of requests a day.
        candidates: Candidates of a request.
        shown: Of which are shown.
        replaced_daily: Share of listings replaced each day.
        promoted: Share of listings on promotion; a third of the promotions change each day.
        young_slots: Least and most slots of a list reserved for listings younger than a day.
        uniform_share: Share of logged requests ranked uniformly; the rest by Plackett–Luce on popularity.
        popularity_power: Plackett–Luce weight = (purchases + prior) ** power.
        popularity_prior: See above.
        popularity_half_life_days: Half-life of purchases in the count.
        examination: Position p (0 first) is looked at with probability (1 + p) ** −examination.
        click_rate: Clicks on shown items at the first logged day, over the logging policy; sets an intercept.
        purchase_rate: Purchases on clicks, likewise.
        cart_share: Clicks without purchase that still end in a cart.
        shown_share: How far the purchase follows what the listing shows, against what the item is.
        warm_up_days: Days of purchases before the first logged day.
        warm_up_visits: Visits a day and shopper in them.
        elsewhere: Chance a day that goods that ran out are bought where we cannot see it.
        turnover: Share of shoppers that leave, and arrive, each day.
        drift_period_days: Days in which tastes turn by a full circle; 0: never.
        shift_day: Day (0 is the first logged day) at which tastes change at once; None: never.
        shift_size: How much of the taste changes then, 0 to 1.
        start: First logged day.
        currency: Of all prices.
        photos: Whether photos are rendered; without them listings have no image.
        photo_px: Side of photos, pixels.
        strengths: Of the mechanisms.
        dirt: Of the listings.
        delays: Of clicks, carts and purchases.
    """

    shoppers: Size = 1500
    zones: Size = 5
    shops: Size = 25
    categories: Size = 40
    products: Size = 600
    listings: Size = 2000
    requests_per_day: Size = 1800
    candidates: Size = 50
    shown: Size = 20
    replaced_daily: Annotated[float, Field(ge=0, le=0.5)] = 0.05
    promoted: Share = 0.12
    young_slots: tuple[Natural, Natural] = (3, 4)
    uniform_share: Share = 0.3
    popularity_power: Weight = 0.7
    popularity_prior: Weight = 0.5
    popularity_half_life_days: Rate = 7.0
    examination: Weight = 0.4
    click_rate: Chance = 0.09
    purchase_rate: Chance = 0.35
    cart_share: Share = 0.15
    shown_share: Share = 0.5
    warm_up_days: Natural = 28
    warm_up_visits: Weight = 1.2
    elsewhere: Share = 0.12
    turnover: Share = 0.003
    drift_period_days: Weight = 240.0
    shift_day: int | None = None
    shift_size: Share = 0.6
    start: dt.date = dt.date(2025, 3, 3)
    currency: str = "EUR"
    photos: bool = True
    photo_px: Size = 192
    strengths: Strengths = field(default_factory=Strengths)
    dirt: Dirt = field(default_factory=Dirt)
    delays: Delays = field(default_factory=Delays)

    def __post_init__(self) -> None:
        check(self, "city.")

        def together(ok: bool, name: str, remedy: str) -> None:
            if not ok:
                raise UsageError("not a city", field=f"city.{name}", value=getattr(self, name), remedy=remedy)

        together(self.products >= self.categories, "products", "at least one a category")
        together(
            self.shown <= self.candidates <= self.listings // 2, "candidates", "between shown and half the listings"
        )
        together(
            self.young_slots[0] <= self.young_slots[1] <= self.shown, "young_slots", "least, most; at most `shown`"
        )

    @classmethod
    def small(cls, **changes: object) -> CityConfig:
        """A city for tests: a second or two for a week of it."""
        return cls(**(SMALL | changes))

    def scaled(self, messages_per_day: float) -> CityConfig:
        """The same city with as many shoppers and requests as give about this many Kafka messages a day.

        A request is one impression and, of 20 shown items, about 1.8 clicks, 0.8 carts and 0.6 purchases.
        """
        clicks = self.shown * self.click_rate
        carts = clicks * (self.purchase_rate + (1 - self.purchase_rate) * self.cart_share)
        each = 1 + clicks + carts + clicks * self.purchase_rate
        requests = max(1, math.ceil(messages_per_day / each))
        shoppers = max(20, round(self.shoppers * requests / self.requests_per_day))
        return replace(self, shoppers=shoppers, requests_per_day=requests)
