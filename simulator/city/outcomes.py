"""What shoppers do with lists, as events and as rows of the truth.

Shape suffixes: B requests, N candidates, of which the first `shown` were shown.
"""

from __future__ import annotations

from operator import attrgetter

import numpy as np
import pyarrow as pa

from features.record import Record
from simulator.city import messages
from simulator.city.answers import Answers
from simulator.city.choice import Chances
from simulator.city.config import CityConfig
from simulator.city.draws import Floats, Ints
from simulator.city.listings import Listings
from simulator.city.truth import candidate_rows


def outcome_events(
    config: CityConfig, listings: Listings, names: list[str], serials: Ints, time_us: Ints, seen: Ints, done: Answers
) -> list[Record]:
    """Clicks, carts and purchases, in the order of time.

    Args:
        config: The city.
        listings: Live listings.
        names: Names of the requests.
        serials: Serial numbers of their shoppers, [B].
        time_us: When they came in, [B].
        seen: Slots of the shown listings, [B, shown].
        done: What was done with them.
    """
    events = []
    for topic, which, delay in (
        ("clicks", done.clicked, done.click_s), ("carts", done.carted, done.cart_s),
        ("purchases", done.purchased, done.purchase_s),
    ):  # fmt: skip
        rows, columns = np.nonzero(which)
        times = time_us[rows] + (delay[rows, columns] * 1e6).astype(np.int64)
        slots = seen[rows, columns]
        for row, time, text, serial, price, quantity in zip(
            rows.tolist(), times.tolist(), messages.moments(times), listings.serial[slots].tolist(),
            listings.price[slots].tolist(), done.quantity[rows, columns].tolist(), strict=True,
        ):  # fmt: skip
            events.append(
                messages.outcome(
                    config, topic, names[row], messages.user_id(int(serials[row])), f"item{serial:08d}",
                    time, text, quantity, price,
                )
            )  # fmt: skip
    events.sort(key=attrgetter("time_us"))
    return events


def truth_rows(
    names: list[str], policies: list[str], serials: Ints, items: Ints, place: Ints, looked: Floats, chances: Chances
) -> pa.Table:
    """Rows of the truth for every candidate.

    Args:
        names: Names of the requests.
        policies: What ordered their lists.
        serials: Serial numbers of their shoppers, [B].
        items: Serial numbers of the candidates, [B, N].
        place: Places of the shown ones, [B, shown].
        looked: Probability that each place is looked at, [B, shown].
        chances: Of all candidates.
    """
    shown, width = place.shape[1], items.shape[1]
    position = np.full(items.shape, -1, dtype=np.int64)
    position[:, :shown] = place
    purchase = np.zeros(items.shape)
    purchase[:, :shown] = looked * chances.relevance[:, :shown]
    hidden = position.ravel() < 0
    return candidate_rows({
        "request_id": np.repeat(names, width), "policy": np.repeat(policies, width),
        "user_id": np.repeat([messages.user_id(int(serial)) for serial in serials], width),
        "item_id": [f"item{serial:08d}" for serial in items.ravel().tolist()],
        "position": np.ma.masked_array(position.ravel(), hidden),
        "relevance": chances.relevance.ravel(), "purchase": np.ma.masked_array(purchase.ravel(), hidden),
        "click": chances.click.ravel(), "click_utility": chances.click_utility.ravel(),
        "buy_utility": chances.buy_utility.ravel(),
    })  # fmt: skip
