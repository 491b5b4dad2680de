"""What a shop could count until a day begins: looks, clicks and purchases of items, shoppers and their pairs.

The first letters of a table's name are its axes: u shoppers, c categories, t true categories, b brands, s shops,
v varieties, o origins.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simulator.city.config import CityConfig
from simulator.city.draws import Floats, Ints
from simulator.city.listings import Listings
from simulator.city.tables import BRANDS, ORIGINS


class ShopCounts:
    """Counts by slot; those of shoppers that left and of listings that are gone are forgotten.

    Args:
        config: The city.
        varieties: How many varieties of goods there are.
    """

    def __init__(self, config: CityConfig, varieties: int) -> None:
        u, c, b, v = config.shoppers, config.categories, len(BRANDS), varieties
        self.item = np.zeros((4, config.listings))  # looks (examined), clicks, purchases, shown
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

    def forget(self, left: Ints, fresh: Ints) -> None:
        """Begin anew for slots with new shoppers and new listings."""
        for table in (self.uc_bought, self.uc_clicked, self.uc_looked, self.ub_bought, self.us_bought,
                      self.uv_bought, self.uv_clicked, self.uo_bought):  # fmt: skip
            table[left] = 0.0
        for table in (self.uc_first, self.uc_last, self.ut_last):
            table[left] = np.nan
        self.user[:, left], self.u_paid[:, left] = 0.0, 0.0
        self.item[:, fresh] = 0.0

    def add_sales(self, listings: Listings, shopper: Ints, time: Floats, slots: Ints, logged: bool) -> None:
        """Count purchases; those of the weeks before the log (not `logged`) were not looked at in any list."""
        category, true = listings.declared[slots], listings.category[slots]
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
        if logged:
            np.add.at(self.item[2], slots, 1.0)
            for total, column in self._totals(listings):
                np.add.at(total[2], column[slots], 1.0)

    def add_looks(
        self, listings: Listings, shopper: Ints, shown: Ints, looked: Floats, clicked: NDArray[np.bool_]
    ) -> None:
        """Count what was shown, [B, N]: looks as their probabilities, and clicks."""
        who = np.broadcast_to(shopper[:, None], shown.shape)
        looked = np.broadcast_to(looked, shown.shape)
        for row, value in ((0, looked), (1, clicked)):
            np.add.at(self.item[row], shown, value)
            np.add.at(self.user[row], who, value)
            for total, column in self._totals(listings):
                np.add.at(total[row], column[shown], value)
        np.add.at(self.item[3], shown, 1.0)
        np.add.at(self.uc_looked, (who, listings.declared[shown]), looked)
        np.add.at(self.uc_clicked, (who, listings.declared[shown]), clicked)
        np.add.at(self.uv_clicked, (who, listings.variety[shown]), clicked)

    def _totals(self, listings: Listings) -> tuple[tuple[Floats, Ints], ...]:
        """Counts, and the column of the listings that says which of them."""
        return ((self.of_shop, listings.shop), (self.of_brand, listings.brand),
                (self.of_category, listings.declared), (self.of_variety, listings.variety))  # fmt: skip
