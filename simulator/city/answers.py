"""What shoppers do with a list: clicks, carts, purchases and when, from numbers hashed from request and listing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.city import draws
from simulator.city.config import CityConfig
from simulator.city.draws import Floats, Ints, Keys
from simulator.city.world import Goods

MINUTE_S = 60.0


@dataclass(frozen=True)
class Answers:
    """All [B, shown]; delays in seconds after the request, meaningful where the thing was done."""

    clicked: NDArray[np.bool_]
    carted: NDArray[np.bool_]
    purchased: NDArray[np.bool_]
    click_s: Floats
    cart_s: Floats
    purchase_s: Floats
    quantity: Ints


def answer(
    config: CityConfig, keys: Keys, serial: Ints, category: Ints, household: Ints, looked: Floats, click: Floats,
    buy: Floats, goods: Goods,
) -> Answers:  # fmt: skip
    """Draw what is done with shown items.

    Args:
        config: The city.
        keys: Keys of the requests, [B].
        serial: Serial numbers of the shown listings, [B, shown].
        category: Their true categories.
        household: Sizes of the households, [B].
        looked: Probability that each place is looked at, [B, shown].
        click: Probability of a click if looked at.
        buy: Probability of a purchase if clicked.
        goods: The goods.
    """
    pair = draws.combine(keys[:, None], serial)
    clicked = draws.uniform(draws.combine(pair, 1)) < looked * click
    purchased = clicked & (draws.uniform(draws.combine(pair, 2)) < buy)
    carted = purchased | (clicked & (draws.uniform(draws.combine(pair, 3)) < config.cart_share))
    shape = clicked.shape
    click_s, cart_s, purchase_s = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    quantity = np.ones(shape, dtype=np.int64)
    rows, places = np.nonzero(clicked)
    pair = pair[rows, places]
    delays = config.delays
    click_s[rows, places] = 2.0 + 3.0 * places - 8.0 * np.log(draws.uniform(draws.combine(pair, 4)))
    cart_s[rows, places] = click_s[rows, places] + 5.0 - 25.0 * np.log(draws.uniform(draws.combine(pair, 5)))
    slow = draws.uniform(draws.combine(pair, 6)) < delays.slow_share * goods.slow[category[rows, places]]
    median = np.where(slow, delays.slow_median_s, delays.fast_median_s)
    sigma = np.where(slow, delays.slow_sigma, delays.fast_sigma)
    drawn = median * np.exp(sigma * draws.normal(draws.combine(pair, 7)))
    earliest = cart_s[rows, places] + 10.0
    purchase_s[rows, places] = np.clip(drawn, earliest, delays.longest_s)
    more = draws.uniform(draws.combine(pair, 8)) < 0.05 * household[rows]
    quantity[rows, places] = 1 + more
    return Answers(clicked, carted, purchased, click_s, cart_s, purchase_s, quantity)
