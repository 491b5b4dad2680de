"""The weeks before the log: shoppers find what they need by themselves, and only purchases are known of it."""

from __future__ import annotations

import numpy as np

from features.record import Record
from simulator.city import draws, messages
from simulator.city.choice import Choice, Homes, request_keys
from simulator.city.config import CityConfig
from simulator.city.draws import Floats, Ints
from simulator.city.listings import Listings
from simulator.city.plan import DayPlan
from simulator.city.policy import Retrieval
from simulator.city.world import Shoppers

BOUGHT_A_VISIT = 1.0  # mean purchases a visit


def purchases(
    seed: int, day: int, plan: DayPlan, choice: Choice, homes: Homes, retrieval: Retrieval
) -> tuple[Ints, Ints, Floats, Ints, Ints]:
    """Purchases of a day by search: of 50 listings found, about one a visit is bought, and of each
    category at most one.

    Returns:
        Shopper slot, category, time in days, quantity, listing slot.
    """
    parts = []
    for start in range(0, len(plan), 512):
        block = plan[start : start + 512]
        keys = request_keys(seed, day, block.number)
        slots = retrieval.candidates(keys, block.shopper)
        chances = choice.chances(block.moments(), block.shopper, slots, homes)
        # no intercepts exist before the log begins: the odds are scaled to the wanted number
        odds = np.exp(1.3 * (chances.click_utility + chances.buy_utility) / 2)
        chance = np.minimum(0.9, odds * (BOUGHT_A_VISIT / odds.sum(axis=1).mean()))
        listings = choice.listings
        luck = draws.uniform(draws.combine(keys[:, None], listings.serial[slots])) / chance
        rows, columns = np.nonzero(luck < 1.0)
        best = np.lexsort((luck[rows, columns], listings.category[slots[rows, columns]], rows))
        rows, columns = rows[best], columns[best]
        kinds = rows * len(choice.goods.cycle) + listings.category[slots[rows, columns]]
        first = np.r_[True, kinds[1:] != kinds[:-1]] if len(kinds) else np.zeros(0, dtype=bool)
        rows, columns = rows[first], columns[first]  # who looks for a good buys one of it
        found = slots[rows, columns]
        quantity = np.ones(len(rows), dtype=np.int64)
        time = block.time[rows] + (60.0 + 20.0 * columns) / 86_400.0
        parts.append((block.shopper[rows], listings.category[found], time, quantity, found))
    shopper, category, time, quantity, found = (np.concatenate([part[i] for part in parts]) for i in range(5))
    return shopper, category, time, quantity, found


def events(
    config: CityConfig, shoppers: Shoppers, listings: Listings, plan: DayPlan,
    bought: tuple[Ints, Ints, Floats, Ints, Ints], day_start_us: int,
) -> list[Record]:  # fmt: skip
    """Purchase events, which name no request.

    Args:
        config: The city's settings.
        shoppers: Who bought, by slot.
        listings: What was bought, by slot.
        plan: The day's visits.
        bought: What `purchases` returned.
        day_start_us: When the day began, µs UTC.
    """
    shopper, _, time, quantity, slots = bought
    times = day_start_us + ((time - (plan.time[0] // 1)) * 86_400e6).astype(np.int64)
    return [
        messages.outcome(
            config, "purchases", None, messages.user_id(who), listings.item_id(slot), moment, text, many,
            int(listings.price[slot]),
        )
        for who, slot, moment, text, many in zip(
            shoppers.serial[shopper].tolist(), slots.tolist(), times.tolist(), messages.moments(times),
            quantity.tolist(), strict=True,
        )
    ]  # fmt: skip
