"""The Complete Journey as a stream of events.

A basket is a request: its candidates are what was promoted (display or mailer) in that store and week, of which the
bought ones are kept and four times as many others drawn. What was bought without being promoted is no candidate, or
"was promoted" alone would give the label away. All purchases flow, promoted or not. Nobody clicks here, and where
nothing promoted was bought there is no request. The list's order is drawn too, so position says nothing.
"""

from __future__ import annotations

import bisect
import heapq
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.events import (
    SCHEMA_VERSION,
    Impression,
    Item,
    Purchase,
    Scalar,
    Shown,
    User,
    encode,
    event_id,
    impression_id,
)
from features.record import Record
from features.times import DAY, SECOND, format_us, to_datetime
from simulator.completejourney.data import WEEK_ONE, Basket, Journey, week_start

NAME = "completejourney"
CURRENCY = "USD"
NEGATIVES = 4
MAX_CANDIDATES = 1000
_NOTHING = np.empty(0, dtype=np.int64)
_SIZE = re.compile(r"^\s*([0-9]*\.?[0-9]+)\s*(OZ|LB|GM|KG|ML|LTR|GAL)\b")
_GRAMS = {"OZ": 28.35, "LB": 453.6, "GM": 1.0, "KG": 1000.0, "ML": 1.0, "LTR": 1000.0, "GAL": 3785.0}
_HEAVIEST_G = 50_000.0


@dataclass(frozen=True)
class BasketRequest:
    """A basket with its drawn candidates in the order in which they are listed."""

    basket: Basket
    candidates: NDArray[np.int64]


def replay(
    from_us: int, to_us: int, *, seed: int = 0, photo: Callable[[str, int], str | None] | None = None
) -> Iterator[Record]:
    """Events of the baskets paid in [from_us, to_us), in the order of their known time.

    First come the listings and households that the range mentions, as they stood at `from_us`, with the times at which
    they came to stand so. An event is the same whatever range it is published in.

    Args:
        from_us: µs UTC.
        to_us: µs UTC.
        seed: Of the drawn negatives and the order of the lists.
        photo: Gives the image URI of a product class (`type of product, category`) and product, or None.

    Yields:
        Events.
    """
    journey = Journey(until=to_us)
    requests = list(_requests(journey, from_us, to_us, seed))
    if not requests:
        return
    products = np.unique(np.concatenate([np.union1d(r.basket.products, r.candidates) for r in requests]))
    listings = list(journey.listings(products))
    yield from heapq.merge(
        _users(journey, {request.basket.household_id for request in requests}),
        _items(journey, products, listings, from_us, to_us, photo or (lambda _words, _product: None)),
        _impressions(requests, listings),
        _purchases(requests),
        key=lambda event: event.time_us,
    )


def _requests(journey: Journey, from_us: int, to_us: int, seed: int) -> Iterator[BasketRequest]:
    promoted: dict[int, NDArray[np.int64]] = {}
    week = None
    for basket in journey.baskets(from_us, to_us):
        if basket.week != week:
            week, promoted = basket.week, journey.promoted(basket.week)
        yield BasketRequest(basket, _candidates(basket, promoted.get(basket.store_id, _NOTHING), seed))


def _candidates(basket: Basket, promoted: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Promoted and bought, and four times as many promoted and not bought, in drawn order; none if none was bought."""
    bought = np.intersect1d(basket.products, promoted, assume_unique=True)[: MAX_CANDIDATES // (1 + NEGATIVES)]
    if not len(bought):
        return _NOTHING
    rest = np.setdiff1d(promoted, basket.products, assume_unique=True)
    draw = np.random.default_rng([seed, basket.basket_id])
    others = draw.choice(rest, size=min(NEGATIVES * len(bought), len(rest)), replace=False)
    return draw.permutation(np.concatenate([bought, others]))


def _impressions(requests: list[BasketRequest], listings: list[tuple[int, int, int]]) -> Iterator[Record]:
    """The lists, a second before the till's stamp: what the basket holds is known only after them."""
    weeks: dict[int, list[int]] = defaultdict(list)
    prices: dict[int, list[int]] = defaultdict(list)
    for product, week, price in listings:
        weeks[product].append(week)
        prices[product].append(price)
    for request in requests:
        basket, time_us = request.basket, request.basket.time_us - SECOND
        if not len(request.candidates):
            continue
        week = 1 + (time_us - WEEK_ONE) // (7 * DAY)
        shown = []
        for position, product in enumerate(request.candidates.tolist()):
            known = max(bisect.bisect_right(weeks[product], week) - 1, 0)
            shown.append(Shown(str(product), position, prices[product][known]))
        moment, name = to_datetime(time_us), _request_id(basket)
        context: dict[str, Scalar] = {"zone": str(basket.store_id), "hour": moment.hour, "weekday": moment.weekday()}
        event = Impression(
            event_id=impression_id(name), event_time=format_us(time_us), schema_version=SCHEMA_VERSION, request_id=name,
            user_id=str(basket.household_id), items=shown, context=context, policy="promoted",
            feature_cutoff=format_us(time_us),
        )  # fmt: skip
        yield Record("impressions", event.user_id, time_us, encode(event))


def _purchases(requests: list[BasketRequest]) -> Iterator[Record]:
    """Everything that was bought, promoted or not, by the basket's request id: so nothing credits an earlier list."""
    for request in requests:
        basket = request.basket
        user, name, moment = str(basket.household_id), _request_id(basket), format_us(basket.time_us)
        for product, quantity, amount in zip(
            basket.products.tolist(), basket.quantities.tolist(), basket.amounts.tolist(), strict=True
        ):
            event = Purchase(
                event_id=event_id(NAME, "purchase", basket.basket_id, product), event_time=moment,
                schema_version=SCHEMA_VERSION, user_id=user, item_id=str(product), quantity=quantity,
                amount_minor=amount, currency=CURRENCY, request_id=name,
            )  # fmt: skip
            yield Record("purchases", user, basket.time_us, encode(event))


def _request_id(basket: Basket) -> str:
    return f"cj-{basket.basket_id}"


def _users(journey: Journey, households: set[int]) -> Iterator[Record]:
    """Profiles, as if known before the first week: the package dates none of them."""
    profiles, time_us = journey.households(), week_start(1)
    for household in sorted(households):
        event = User(
            event_id=event_id(NAME, "user", household), event_time=format_us(time_us), schema_version=SCHEMA_VERSION,
            user_id=str(household), profile=dict(profiles.get(household, {})),
        )  # fmt: skip
        yield Record("users", event.user_id, time_us, encode(event))


def _items(
    journey: Journey,
    products: NDArray[np.int64],
    listings: list[tuple[int, int, int]],
    from_us: int,
    to_us: int,
    photo: Callable[[str, int], str | None],
) -> Iterator[Record]:
    """Listings: of each product the last one before the range, and all in it."""
    standing: dict[int, int] = {}
    for product, week, _ in listings:
        if week_start(week) <= from_us or product not in standing:
            standing[product] = week
    words = journey.describe(products)
    for product, week, price in listings:  # by week, so by time
        time_us = week_start(week)
        if standing[product] <= week and time_us < to_us:
            item = _item(product, time_us, price, words.get(product, {}), photo)
            yield Record("items", item.item_id, time_us, encode(item))


def _item(
    product: int, time_us: int, price: int, words: dict[str, Any], photo: Callable[[str, int], str | None]
) -> Item:
    kind, category, size = (words.get(name) for name in ("product_type", "product_category", "package_size"))
    attributes = {name: words[name] for name in ("department", "brand", "package_size") if words.get(name)}
    told = [words.get("department"), category, size, f"{words['brand']} brand" if words.get("brand") else None]
    return Item(
        event_id=event_id(NAME, "item", product, time_us), event_time=format_us(time_us), schema_version=SCHEMA_VERSION,
        item_id=str(product), shop_id=NAME, price_minor=price, available=True,
        brand_id=str(words["manufacturer_id"]) if words.get("manufacturer_id") is not None else None,
        category_id=category, title=" ".join(part for part in (kind, size) if part) or None,
        description=", ".join(part for part in told if part) or None,
        image_uri=photo(f"{kind or ''}, {category or ''}", product), weight_g=_grams(size), attributes=attributes,
    )  # fmt: skip


def _grams(size: str | None) -> float | None:
    """The package's weight; None where none is told, or none that a shop could sell ("51129513 OZ" is among them)."""
    found = _SIZE.match(size or "")
    grams = round(float(found[1]) * _GRAMS[found[2]], 1) if found else None
    return grams if grams is not None and grams <= _HEAVIEST_G else None
