"""The city's facts as records of the topics."""

from __future__ import annotations

import uuid

import numpy as np

from features.events import (
    NAMESPACE,
    SCHEMA_VERSION,
    Cart,
    Click,
    Impression,
    Item,
    Purchase,
    Scalar,
    Shown,
    User,
    encode,
    impression_id,
)
from features.record import Record
from simulator.city.config import CityConfig
from simulator.city.draws import Floats, Ints
from simulator.city.listings import Listings
from simulator.city.tables import AGE_BANDS, BRANDS, CATEGORIES, INCOME_BANDS
from simulator.city.world import Shoppers, Shops

LATITUDE, LONGITUDE, KM_A_DEGREE = 52.09, 5.12, 111.2  # where the made-up city lies


def user_id(serial: int) -> str:
    """A shopper's public name."""
    return f"user{serial:07d}"


def shop_id(shop: int) -> str:
    """A shop's public name."""
    return f"shop{shop:03d}"


def moments(times_us: Ints | list[int]) -> list[str]:
    """RFC 3339 texts of many times at once."""
    texts = np.datetime_as_string(np.asarray(times_us, dtype="datetime64[us]"), unit="us").tolist()
    return [text + "Z" for text in texts]


def _place(x: float, y: float) -> dict[str, Scalar]:
    return {
        "latitude": round(LATITUDE + y / KM_A_DEGREE, 5),
        "longitude": round(LONGITUDE + x / (KM_A_DEGREE * 0.614), 5),
    }


def item(listings: Listings, shops: Shops, slot: int, time_us: int, image_uri: str | None) -> Record:
    """A listing as its shop publishes it: nothing of what is hidden."""
    name = listings.item_id(slot)
    shop = int(listings.shop[slot])
    attributes: dict[str, Scalar] = {
        "zone": f"zone{shops.zone[shop]}",
        **_place(float(shops.x[shop]), float(shops.y[shop])),
        "delivery_minutes": round(float(shops.pace[shop])),
        "promotion": bool(listings.promoted[slot]),
    }
    value = Item(
        event_id=_event_id("items", name, time_us), event_time=moments([time_us])[0], schema_version=SCHEMA_VERSION,
        item_id=name, shop_id=shop_id(shop), price_minor=int(listings.price[slot]), available=True,
        brand_id=BRANDS[listings.brand[slot]][0].lower().replace(" ", "-"),
        category_id=CATEGORIES[listings.declared[slot]].name,
        title=listings.title[slot] or None, description=listings.description[slot] or None, image_uri=image_uri,
        attributes=attributes,
    )  # fmt: skip
    return Record("items", name, time_us, encode(value))


def user(shoppers: Shoppers, slot: int, time_us: int) -> Record:
    """A shopper's profile, as a shop would know it."""
    name = user_id(int(shoppers.serial[slot]))
    income = float(shoppers.income[slot])
    profile: dict[str, Scalar] = {
        "zone": f"zone{shoppers.zone[slot]}",
        **_place(float(shoppers.x[slot]), float(shoppers.y[slot])),
        "household": int(shoppers.household[slot]),
        "income": INCOME_BANDS[0 if income < -0.6 else 1 if income < 0.6 else 2],
        "age": AGE_BANDS[int(shoppers.age[slot])],
    }
    value = User(
        event_id=_event_id("users", name, time_us), event_time=moments([time_us])[0], schema_version=SCHEMA_VERSION,
        user_id=name, profile=profile,
    )  # fmt: skip
    return Record("users", name, time_us, encode(value))


def gone(topic: str, name: str, time_us: int) -> Record:
    """An item or user that is no more."""
    return Record(topic, name, time_us, None)


def impressions(
    names: list[str], users: list[str], times_us: Ints, contexts: list[dict[str, Scalar]], policies: list[str],
    items: list[list[str]], prices: Ints, propensities: Floats,
) -> list[Record]:  # fmt: skip
    """Impressions of a block of logged requests, in order."""
    texts = moments(times_us)
    times = times_us.tolist()
    places = range(prices.shape[1])
    rows = zip(
        names, users, times, texts, contexts, policies, items, prices.tolist(), propensities.tolist(), strict=True
    )
    return [
        Record(
            "impressions", who, time,
            encode(Impression(
                event_id=impression_id(name), event_time=text, schema_version=SCHEMA_VERSION, request_id=name,
                user_id=who,
                items=[
                    Shown(one, place, cost, None, chance)
                    for one, place, cost, chance in zip(listed, places, costs, chances, strict=True)
                ],
                context=context, policy=policy,
            )),
        )
        for name, who, time, text, context, policy, listed, costs, chances in rows
    ]  # fmt: skip


def outcome(
    config: CityConfig, topic: str, name: str | None, who: str, one: str, time_us: int, text: str, quantity: int = 1,
    price: int = 0,
) -> Record:  # fmt: skip
    """A click, cart or purchase."""
    event_id = _event_id(topic, name or who, one, time_us)
    if topic == "purchases":
        value = Purchase(
            event_id=event_id, event_time=text, schema_version=SCHEMA_VERSION, user_id=who, item_id=one,
            request_id=name, quantity=quantity, amount_minor=quantity * price, currency=config.currency,
        )  # fmt: skip
        return Record(topic, who, time_us, encode(value))
    kind = Click if topic == "clicks" else Cart
    event = kind(
        event_id=event_id, event_time=text, schema_version=SCHEMA_VERSION, user_id=who, item_id=one, request_id=name
    )
    return Record(topic, who, time_us, encode(event))


def _event_id(*parts: object) -> str:
    return str(uuid.uuid5(NAMESPACE, "city\x1f" + "\x1f".join(map(str, parts))))
