"""What a model could know of candidates at the start of a day, and what is true of them.

Made from purchases, clicks and impressions of days before. Shape suffixes: B requests, N candidates, F features.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simulator.city.describe.counts import ShopCounts
from simulator.city.draws import Ints
from simulator.city.plan import DayPlan
from simulator.city.simulate import City

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


def features(city: City, counts: ShopCounts, block: DayPlan, slots: Ints) -> tuple[Table, Table]:
    """What is known at the start of the day.

    Args:
        city: The city, with the day open.
        counts: What was counted on the days before.
        block: Requests, [B].
        slots: Slots of their candidates, [B, N].

    Returns:
        [B, N, F] of `BASE` and of `TRUE`.
    """
    listings, people = city.catalogue.listings, city.shoppers
    shape, row = slots.shape, block.shopper[:, None]
    time = block.time[:, None]
    category, true = listings.declared[slots], listings.category[slots]
    shop, brand = listings.shop[slots], listings.brand[slots]
    variety, origin = listings.variety[slots], listings.origin[slots]

    def rate(hits: NDArray[np.float64], looks: NDArray[np.float64], prior: float, weight: float) -> NDArray[np.float64]:
        return (hits + prior * weight) / (looks + weight)

    ctr, cvr = 0.2, 0.07  # of what is looked at
    log_price = np.log(listings.price)
    with np.errstate(invalid="ignore", divide="ignore"):
        every = (counts.uc_last - counts.uc_first) / np.maximum(counts.uc_bought - 1, 1)
        mean_paid = counts.u_paid[0] / counts.u_paid[1]
    asked = city.goods.goes_with[:, true.ravel()].T.reshape(*shape, -1)  # categories that ask for this one
    last = np.where(asked, np.nan_to_num(counts.ut_last[block.shopper], nan=-99.0)[:, None, :], -99.0).max(axis=2)
    base = (
        rate(counts.item[1], counts.item[0], ctr, 8.0)[slots], rate(counts.item[2], counts.item[0], cvr, 20.0)[slots],
        counts.item[0][slots], city.popularity[slots],
        (block.time_us[:, None] - listings.created_us[slots]) / 86_400e6, log_price[slots],
        city.choice.price_in_category(category, listings.price[slots]), listings.promoted[slots], category,
        brand, shop,
        rate(counts.of_shop[1], counts.of_shop[0], ctr, 50.0)[shop],
        rate(counts.of_shop[2], counts.of_shop[0], cvr, 50.0)[shop],
        rate(counts.of_brand[2], counts.of_brand[0], cvr, 50.0)[brand],
        rate(counts.of_category[2], counts.of_category[0], cvr, 50.0)[category],
        city.shops.pace[shop],
        np.hypot(people.x[row] - city.shops.x[shop], people.y[row] - city.shops.y[shop]),
        rate(counts.user[1], counts.user[0], ctr, 20.0)[row], rate(counts.user[2], counts.user[0], cvr, 20.0)[row],
        counts.user[2][row], people.household[row], np.digitize(people.income, [-0.6, 0.6])[row], people.age[row],
        counts.uc_bought[row, category], time - counts.uc_last[row, category], every[row, category],
        rate(counts.uc_clicked, counts.uc_looked, ctr, 4.0)[row, category], counts.ub_bought[row, brand],
        counts.us_bought[row, shop], log_price[slots] - mean_paid[row], (time % 1) * 24, block.daypart[:, None],
        np.floor(time) % 7, block.weather[:, None], block.payday[:, None], people.zone[row],
        np.arange(shape[1])[None, :],
    )  # fmt: skip
    hidden = (
        true, variety, origin, np.log(listings.weight[slots]), listings.package[slots],
        listings.freshness[slots], listings.text_origin[slots], np.log(np.maximum(listings.text_weight[slots], 1)),
        listings.text_variety[slots] >= 0, listings.photo_variety[slots] == variety,
        listings.photo_freshness[slots], listings.mismatch[slots], listings.poor_text[slots],
        listings.poor_photo[slots], counts.uv_bought[row, variety], counts.uv_clicked[row, variety],
        counts.uo_bought[row, origin], time - last, counts.product_sold[listings.product[slots]],
        rate(counts.of_variety[2], counts.of_variety[0], cvr, 50.0)[variety], time - counts.ut_last[row, true],
    )  # fmt: skip
    assert len(base) == len(BASE) and len(hidden) == len(TRUE)

    def stacked(columns: tuple[NDArray[np.generic], ...]) -> Table:
        return np.stack([np.broadcast_to(one, shape) for one in columns], axis=2).astype(np.float32)

    return stacked(base), stacked(hidden)
