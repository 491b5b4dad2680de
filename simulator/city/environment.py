"""The state of the city and what an open day does to it: lists are made and answered, and what is bought comes home."""

from __future__ import annotations

import datetime as dt

import numpy as np

from features.events import Scalar
from features.record import Record
from simulator.city import calibration, catalogue, messages
from simulator.city.answers import answer
from simulator.city.choice import Chances, Choice, examination, request_keys, tastes
from simulator.city.config import CityConfig
from simulator.city.draws import Floats, Ints, Keys
from simulator.city.outcomes import outcome_events, truth_rows
from simulator.city.plan import DayPlan, plan_day
from simulator.city.policy import Lists, Retrieval, log_lists
from simulator.city.population import Population
from simulator.city.request import request_ids
from simulator.city.truth import TruthFiles
from simulator.city.world import goods, shops


class Environment:
    """Shoppers, shops and goods of a seed, and one open day. Its arguments are those of `City`."""

    def __init__(
        self, config: CityConfig, seed: int, photos: catalogue.PhotoStore | None = None, truth: TruthFiles | None = None
    ) -> None:
        self.config, self.seed, self.truth = config, seed, truth
        self.goods, self.shops = goods(config, seed), shops(config, seed)
        self.population = Population(config, seed, self.goods)
        self.shoppers, self.homes = self.population.shoppers, self.population.homes
        self.choice = Choice(config, seed, self.goods, self.shops)
        self.catalogue = catalogue.CityCatalogue(config, seed, self.goods, self.shops, photos)
        self.popularity = np.zeros(config.listings)
        self._day: int | None = None  # the open day
        self._closed = True
        self._bought: dict[str, tuple[Ints, Ints, Floats, Ints, Ints]] = {}
        self._calibrated = False

    def date(self, index: int) -> dt.date:
        """The calendar day, by its number from the first logged day."""
        return self.config.start + dt.timedelta(days=index)

    def _open(self, day: int) -> None:
        first = self._day is None
        self._day, self._closed = day, False
        self.population.open_day(day, first)
        gone = self.catalogue.open_day(day, first)
        self.popularity[gone] = 0.0
        shoppers = self.shoppers
        self.choice.open_day(
            self.catalogue.listings, shoppers, tastes(self.config, self.seed, day, shoppers, self.goods)
        )
        habit = np.where(shoppers.uses, 1.0, 0.08) / self.goods.cycle[None, :] ** 0.5
        self.retrieval = Retrieval(self.config, self.catalogue.listings.category, self.catalogue.young, habit)
        self.plan: DayPlan = plan_day(self.config, self.seed, day, shoppers)
        self._bought = {}
        if day >= 0 and not self._calibrated:
            self._calibrate()
        if self.truth is not None:
            self.truth.add("listings", self.date(day), self.catalogue.truth_rows())

    def _close(self) -> None:
        """Put the day's purchases into the homes and the popularity."""
        if not self._closed:
            parts = [self._bought[name] for name in sorted(self._bought)]
            if parts:
                shopper, category, time, quantity, slots = (
                    np.concatenate([part[column] for part in parts]) for column in range(5)
                )
                order = np.lexsort((slots, time))
                self.homes.bought(
                    shopper[order], category[order], time[order], quantity[order], self.shoppers.cycle, self.goods
                )
                self.popularity *= 0.5 ** (1 / self.config.popularity_half_life_days)
                np.add.at(self.popularity, slots, 1.0)
            if self.truth is not None:
                self.truth.close_day()
        self._closed = True

    def _calibrate(self) -> None:
        """Meet the click and purchase rates under the logging policy on its first day."""
        block = self.plan[calibration.pilot(len(self.plan))]
        slots, lists = self._lists(block)
        shown = np.take_along_axis(slots, lists.index, axis=1)
        chances = self.choice.chances(block.moments(), block.shopper, shown, self.homes)
        self.choice.click_intercept, self.choice.buy_intercept = calibration.intercepts(self.config, chances)
        self._calibrated = True

    # ---- blocks of requests

    def _keys(self, block: DayPlan) -> Keys:
        return request_keys(self.seed, self._day or 0, block.number)

    def _names(self, block: DayPlan) -> list[str]:
        return request_ids(self.date(self._day or 0), block.number)

    def _contexts(self, block: DayPlan) -> list[dict[str, Scalar]]:
        return block.contexts(self.date(self._day or 0), self.shoppers.zone[block.shopper])

    def _lists(self, block: DayPlan) -> tuple[Ints, Lists]:
        keys = self._keys(block)
        slots = self.retrieval.candidates(keys, block.shopper)
        weight = (self.popularity[slots] + self.config.popularity_prior) ** self.config.popularity_power
        return slots, log_lists(self.config, keys, weight, self.catalogue.young[slots])

    def _log(self, block: DayPlan, wanted: bool) -> tuple[list[Record], list[Record]]:
        """Rank a block by the logging policy and answer it."""
        slots, lists = self._lists(block)
        shown = np.take_along_axis(slots, lists.index, axis=1)
        chances = self.choice.chances(block.moments(), block.shopper, shown, self.homes)
        place = np.broadcast_to(np.arange(self.config.shown), shown.shape)
        names = self._names(block)
        policies = ["uniform" if one else "popularity" for one in lists.uniform.tolist()]
        outcomes = self._answer(block, shown, place, chances, names, policies, wanted)
        if not wanted:
            return [], []
        listings = self.catalogue.listings
        items = [[f"item{serial:08d}" for serial in row] for row in listings.serial[shown].tolist()]
        users = [messages.user_id(serial) for serial in self.shoppers.serial[block.shopper].tolist()]
        logged = messages.impressions(
            names, users, block.time_us, self._contexts(block), policies, items, listings.price[shown],
            lists.propensity,
        )  # fmt: skip
        return logged, outcomes

    def _answer(
        self, block: DayPlan, slots: Ints, place: Ints, chances: Chances, names: list[str], policies: list[str],
        wanted: bool = True,
    ) -> list[Record]:  # fmt: skip
        """Answer lists: the first of `slots` [B, N] were shown at `place` [B, shown]."""
        listings, shown = self.catalogue.listings, place.shape[1]
        seen, serials = slots[:, :shown], self.shoppers.serial[block.shopper]
        looked = examination(self.config, place)
        category = listings.category[seen]
        done = answer(
            self.config, self._keys(block), listings.serial[seen], category, self.shoppers.household[block.shopper],
            looked, chances.click[:, :shown], chances.buy[:, :shown], self.goods,
        )  # fmt: skip
        if self.truth is not None:
            rows = truth_rows(names, policies, serials, listings.serial[slots], place, looked, chances)
            self.truth.add("candidates", self.date(self._day or 0), rows)
        asked, columns = np.nonzero(done.purchased)
        self._bought[names[0]] = (
            block.shopper[asked], category[asked, columns],
            block.time[asked] + done.purchase_s[asked, columns] / 86_400.0,
            done.quantity[asked, columns], seen[asked, columns],
        )  # fmt: skip
        return outcome_events(self.config, listings, names, serials, block.time_us, seen, done) if wanted else []
