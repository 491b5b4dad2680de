"""Features of a user and an item together: one function, called with what Feast served, in training and in serving.

It works on plain lists and knows nothing of where they come from, so that both sides compute the very same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from features.times import DAY

Column = list[Any]
_EARTH_KM = 6371.0088  # mean radius, IUGG


def crosses(
    cutoff_us: int,
    context: Mapping[str, str | None],
    user: Mapping[str, Any],
    items: Mapping[str, Sequence[Any]],
) -> dict[str, Column]:
    """The crosses of one request's user with each of its C candidates.

    Args:
        cutoff_us: The request's feature cutoff; days are counted back from it.
        context: The context's fields, `ctx_zone` and the like.
        user: `u_*` and histories (`buy_item`, `buy_time`, `buy_category`, `buy_shop`, `beh_item`, `beh_type`) of the
            user; missing or None where unknown.
        items: `item_id` and `i_*`, a list of length C each.

    Returns:
        `x_*`, a list of length C each: float, or None where unknown.

    Example:
        >>> out = crosses(2 * DAY, {}, {"buy_item": ["a"], "buy_time": [DAY]}, {"item_id": ["a", "b"]})
        >>> out["x_item_buys"], out["x_item_days"]
        ([1.0, 0.0], [1.0, None])
    """
    ids = items["item_id"]
    nothing: Sequence[Any] = [None] * len(ids)
    times = user.get("buy_time") or []
    item_buys, item_days = _counts(cutoff_us, user.get("buy_item"), times, ids)
    category_buys, category_days = _counts(cutoff_us, user.get("buy_category"), times, items.get("i_category", nothing))
    shop_buys, _ = _counts(cutoff_us, user.get("buy_shop"), times, items.get("i_shop", nothing))
    return {
        "x_item_buys": item_buys,
        "x_item_days": item_days,
        "x_item_clicks": _clicks(user.get("beh_item") or [], user.get("beh_type") or [], ids),
        "x_category_buys": category_buys,
        "x_category_days": category_days,
        "x_shop_buys": shop_buys,
        "x_price_ratio": _ratios(items.get("i_price", nothing), user.get("u_mean_price")),
        "x_same_zone": _same(context.get("ctx_zone") or user.get("u_zone"), items.get("i_zone", nothing)),
        "x_distance_km": _distances(
            user.get("u_latitude"), user.get("u_longitude"),
            items.get("i_latitude", nothing), items.get("i_longitude", nothing),
        ),
    }  # fmt: skip


def _counts(
    cutoff_us: int, bought: Sequence[str | None] | None, times: Sequence[int], wanted: Sequence[str | None]
) -> tuple[Column, Column]:
    """How often each wanted value was bought, and days from the last time to the cutoff."""
    count: dict[str, int] = {}
    last: dict[str, int] = {}
    for value, time in zip(bought or (), times, strict=False):
        if value:
            count[value] = count.get(value, 0) + 1
            last[value] = max(time, last.get(value, time))
    counts: Column = [float(count.get(value, 0)) if value else 0.0 for value in wanted]
    days: Column = [(cutoff_us - last[value]) / DAY if value and value in last else None for value in wanted]
    return counts, days


def _clicks(items: Sequence[str], kinds: Sequence[int], wanted: Sequence[str]) -> Column:
    count: dict[str, int] = {}
    for item, kind in zip(items, kinds, strict=False):
        if kind < 2:  # clicks and carts; purchases are counted apart
            count[item] = count.get(item, 0) + 1
    return [float(count.get(item, 0)) for item in wanted]


def _ratios(prices: Sequence[float | None], mean: float | None) -> Column:
    return [price / mean if price is not None and mean else None for price in prices]


def _same(zone: str | None, zones: Sequence[str | None]) -> Column:
    return [float(zone == other) if zone and other else None for other in zones]


def _distances(
    latitude: float | None,
    longitude: float | None,
    latitudes: Sequence[float | None],
    longitudes: Sequence[float | None],
) -> Column:
    """Great-circle distances by the haversine formula, km; None where a place is unknown, or no place on earth."""
    here = _radians(latitude, longitude)
    if here is None:
        return [None] * len(latitudes)
    out: Column = []
    for there in map(_radians, latitudes, longitudes):
        if there is None:
            out.append(None)
            continue
        (a, b), (c, d) = here, there
        h = math.sin((c - a) / 2) ** 2 + math.cos(a) * math.cos(c) * math.sin((d - b) / 2) ** 2
        out.append(2 * _EARTH_KM * math.asin(math.sqrt(min(h, 1.0))))
    return out


def _radians(latitude: float | None, longitude: float | None) -> tuple[float, float] | None:
    if latitude is None or longitude is None or not (-90 <= latitude <= 90 and -360 <= longitude <= 360):
        return None
    return math.radians(latitude), math.radians(longitude)
