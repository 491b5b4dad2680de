"""The shoppers through the days: a share of them leaves each morning and others come; what is at home runs out."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from features.record import Record
from simulator.city import messages
from simulator.city.choice import Homes
from simulator.city.config import CityConfig
from simulator.city.draws import generator
from simulator.city.world import Goods, new_shoppers


class Population:
    """Shoppers, their homes, and who of them changed as the open day began."""

    def __init__(self, config: CityConfig, seed: int, goods: Goods) -> None:
        self.config, self.seed, self.goods = config, seed, goods
        self.shoppers = new_shoppers(config, seed, np.arange(config.shoppers), goods)
        rng = generator(seed, "homes")
        shape = self.shoppers.uses.shape
        first = float(-config.warm_up_days)
        self.homes = Homes(first + self.shoppers.cycle * rng.uniform(-0.3, 1.0, shape), np.full(shape, -1e9))
        self._next = config.shoppers
        self._gone: list[str] = []
        self._new: list[int] = []

    def open_day(self, day: int, first: bool) -> None:
        """Replace shoppers, and let goods be bought elsewhere."""
        self._gone, self._new = [], list(range(self.config.shoppers)) if first else []
        if not first:
            self._turnover(day)
            self._elsewhere(day)

    def events(self, moment: int) -> Iterator[Record]:
        """The morning's changes, a millisecond apart."""
        for place, slot in enumerate(self._new):
            if self._gone:
                moment += 1_000
                yield messages.gone("users", self._gone[place], moment)
            moment += 1_000
            yield messages.user(self.shoppers, slot, moment)

    def _turnover(self, day: int) -> None:
        rng = generator(self.seed, "turnover", day)
        leaving = np.flatnonzero(rng.random(self.config.shoppers) < self.config.turnover)
        if not len(leaving):
            return
        serials = self._next + np.arange(len(leaving))
        self._next += len(leaving)
        self._gone = [messages.user_id(serial) for serial in self.shoppers.serial[leaving].tolist()]
        self._new = leaving.tolist()
        arriving = new_shoppers(self.config, self.seed, serials, self.goods)
        for name, column in vars(arriving).items():
            getattr(self.shoppers, name)[leaving] = column
        self.homes.due[leaving] = day + arriving.cycle * rng.uniform(-0.3, 1.0, arriving.cycle.shape)
        self.homes.wish[leaving] = -1e9

    def _elsewhere(self, day: int) -> None:
        """Goods that ran out are now and then bought where the city cannot see it."""
        rng = generator(self.seed, "elsewhere", day)
        out = (self.homes.due < day - 0.15 * self.shoppers.cycle) & self.shoppers.uses
        found = out & (rng.random(out.shape, dtype=np.float32) < self.config.elsewhere)
        self.homes.due[found] = day + self.shoppers.cycle[found]
