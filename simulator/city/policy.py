"""Which listings are candidates, and the logging policy with its exact propensities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.city import draws
from simulator.city.config import CityConfig
from simulator.city.draws import Floats, Ints, Keys

YOUNG, HABIT, ANY = 6, 28, 64  # picks of each kind a request; repeated ones fall away


class Retrieval:
    """Candidates of a day: a few young listings, some of categories the shopper uses, the rest anything."""

    def __init__(self, config: CityConfig, category: Ints, young: NDArray[np.bool_], habit_UC: Floats) -> None:
        self.config, self._young = config, young
        self._order = np.argsort(category, kind="stable")
        self._start = np.searchsorted(category[self._order], np.arange(config.categories))
        self._count = np.bincount(category, minlength=config.categories)
        self._young_slots = np.flatnonzero(young)
        self._live = len(category)
        self._habit = np.cumsum(habit_UC, axis=1)
        self._habit /= self._habit[:, -1:]

    def candidates(self, keys: Keys, shopper: Ints) -> Ints:
        """Slots [B, candidates], in an order that tells nothing."""
        rows, wanted = len(keys), self.config.candidates
        young = min(YOUNG, len(self._young_slots))
        width = young + HABIT + ANY
        random = draws.uniform(draws.combine(keys[:, None], np.arange(width + HABIT)[None, :] + 1000))
        picks = np.empty((rows, width), dtype=np.int64)
        if young:
            start = (random[:, :1] * len(self._young_slots)).astype(np.int64)
            picks[:, :young] = self._young_slots[(start + np.arange(young)) % len(self._young_slots)]
        places = random[:, young : young + HABIT]
        category = (self._habit[shopper][:, None, :] > places[:, :, None]).argmax(axis=2)
        offset = (random[:, width:] * self._count[category]).astype(np.int64)
        picks[:, young : young + HABIT] = self._order[(self._start[category] + offset).clip(0, self._live - 1)]
        picks[:, young + HABIT :] = (random[:, young + HABIT : width] * self._live).astype(np.int64)
        order = np.argsort(picks, axis=1, kind="stable")
        ordered = np.take_along_axis(picks, order, axis=1)
        again = np.zeros(picks.shape, dtype=bool)
        np.put_along_axis(again, order[:, 1:], ordered[:, 1:] == ordered[:, :-1], axis=1)
        again[:, young:] |= self._young[picks[:, young:]]
        for row in np.flatnonzero((~again).sum(axis=1) < wanted).tolist():  # only in tiny cities
            kept = picks[row][~again[row]]
            pool = np.setdiff1d(np.flatnonzero(~self._young), kept)
            if len(kept) + len(pool) < wanted:  # hardly any but young ones are left
                pool = np.setdiff1d(np.arange(self._live), kept)
            picks[row, :wanted] = np.concatenate([kept, pool])[:wanted]
            again[row, :wanted], again[row, wanted:] = False, True
        chosen = np.argsort(again, axis=1, kind="stable")[:, :wanted]
        slots = np.take_along_axis(picks, chosen, axis=1)
        shuffle = np.argsort(draws.combine(keys[:, None], slots + 7_000_000), axis=1)
        return np.asarray(np.take_along_axis(slots, shuffle, axis=1))


@dataclass(frozen=True)
class Lists:
    """Logged lists: indices into the candidates and propensities, both [B, shown]; uniform [B]."""

    index: Ints
    propensity: Floats
    uniform: NDArray[np.bool_]


def log_lists(config: CityConfig, keys: Keys, weight: Floats, young: NDArray[np.bool_]) -> Lists:
    """Rank by the logging policy.

    A request is ranked uniformly with probability `uniform_share`, else by Plackett–Luce on the weights. Three or four
    places, drawn uniformly, are reserved for young listings and taken from these alone; all other places are taken from
    the others. The propensity of a place is the probability of its item given the policy, the reserved places and
    the items above it: weight over the weights left in its pool. The product over places is that of the whole list.

    Args:
        config: The city.
        keys: Keys of the requests, [B].
        weight: Popularity weights of the candidates, [B, N].
        young: Which candidates are younger than a day, [B, N].
    """
    rows, count = weight.shape
    uniform = draws.uniform(draws.combine(keys, 11)) < config.uniform_share
    weight = np.where(uniform[:, None], 1.0, weight)
    least, most = config.young_slots
    reserved = least + (draws.combine(keys, 12) % np.uint64(most - least + 1)).astype(np.int64)
    reserved = np.minimum(reserved, young.sum(axis=1))
    reserved = np.maximum(reserved, config.shown - (~young).sum(axis=1))  # where too few others exist
    places = np.argsort(draws.combine(keys[:, None], np.arange(config.shown)[None, :] + 20), axis=1)
    is_reserved = np.zeros((rows, config.shown), dtype=bool)
    np.put_along_axis(is_reserved, places, np.arange(config.shown)[None, :] < reserved[:, None], axis=1)
    score = np.log(weight) + draws.gumbel(draws.combine(keys[:, None], np.arange(count)[None, :] + 100))
    index = np.zeros((rows, config.shown), dtype=np.int64)
    propensity = np.zeros((rows, config.shown))
    for pool, slots in ((young, is_reserved), (~young, ~is_reserved)):
        order = np.argsort(np.where(pool, -score, np.inf), axis=1, kind="stable")
        masses = np.where(np.take_along_axis(pool, order, axis=1), np.take_along_axis(weight, order, axis=1), 0.0)
        left = np.cumsum(masses[:, ::-1], axis=1)[:, ::-1]
        turn = np.cumsum(slots, axis=1) - 1
        turn = np.where(slots, turn, 0)
        index = np.where(slots, np.take_along_axis(order, turn, axis=1), index)
        with np.errstate(invalid="ignore", divide="ignore"):
            chance = np.take_along_axis(masses, turn, axis=1) / np.take_along_axis(left, turn, axis=1)
        propensity = np.where(slots, chance, propensity)
    return Lists(index, np.minimum(propensity, 1.0), uniform)
