"""Who visits when on a day, and under what sky."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.events import Scalar
from features.times import day_start
from simulator.city.choice import Moments
from simulator.city.config import CityConfig
from simulator.city.draws import Floats, Ints, generator
from simulator.city.tables import WEATHER
from simulator.city.world import Shoppers

OPENS_S = 600.0  # requests begin ten minutes after midnight, when the day's catalogue is out
WEEKDAY = (0.95, 0.92, 0.95, 1.0, 1.1, 1.12, 0.96)  # requests, Monday first
PAY_PERIOD, PAY_DAYS = 14, 3  # everyone is paid every other week, on a day of their own


@dataclass(frozen=True)
class DayPlan:
    """Requests of a day in order of time; all [n]."""

    number: Ints
    shopper: Ints
    time_us: Ints
    time: Floats
    daypart: Ints
    weather: Ints
    payday: NDArray[np.bool_]
    visit: Ints
    visits: Ints

    def __len__(self) -> int:
        return len(self.number)

    def __getitem__(self, rows: slice | Ints) -> DayPlan:
        return DayPlan(**{name: column[rows] for name, column in vars(self).items()})

    def moments(self) -> Moments:
        """When and how they come in."""
        return Moments(self.time, self.daypart, self.weather, self.payday, self.visit, self.visits)

    def contexts(self, day: dt.date, zone: Ints) -> list[dict[str, Scalar]]:
        """Context of each request, as the events carry it."""
        hours = ((self.time % 1.0) * 24).astype(np.int64).tolist()
        weekday = day.weekday()
        return [
            {"zone": f"zone{place}", "hour": hour, "weekday": weekday, "weather": WEATHER[sky], "payday": paid}
            for place, hour, sky, paid in zip(
                zone.tolist(), hours, self.weather.tolist(), self.payday.tolist(), strict=True
            )
        ]


def plan_day(config: CityConfig, seed: int, day: int, shoppers: Shoppers) -> DayPlan:
    """Draw the day's requests; in the weeks before the log, visits."""
    rng = generator(seed, "plan", day)
    date = config.start + dt.timedelta(days=day)
    mean = config.requests_per_day if day >= 0 else config.warm_up_visits * config.shoppers
    count = max(1, round(mean * WEEKDAY[date.weekday()] * float(np.exp(rng.normal(0, 0.03)))))
    who = rng.choice(len(shoppers.serial), count, p=shoppers.activity / shoppers.activity.sum())
    usual = rng.random(count) < 0.65
    hour = np.where(
        usual, rng.normal(shoppers.peak_hour[who], 1.4),
        rng.choice([9.0, 13.0, 18.5, 21.0], count) + rng.normal(0, 2.5, count),
    ) % 24.0  # fmt: skip
    seconds = np.sort(OPENS_S + hour / 24.0 * (86_400.0 - OPENS_S - 1.0))
    who = who[np.argsort(hour, kind="stable")]
    start = day_start(date)
    time_us = start + (seconds * 1e6).astype(np.int64)
    daypart = np.searchsorted([6.0, 12.0, 17.0], seconds / 3600.0, side="right")
    skies = weather(config, seed, day)
    order = np.argsort(who, kind="stable")
    ordered = who[order]
    first = np.searchsorted(ordered, ordered)
    visit = np.empty(count, dtype=np.int64)
    visit[order] = np.arange(count) - first
    visits = np.bincount(who, minlength=len(shoppers.serial))[who]
    payday = (date.toordinal() + shoppers.serial[who] * 5) % PAY_PERIOD < PAY_DAYS
    return DayPlan(
        np.arange(count), who, time_us, day + seconds / 86_400.0, daypart,
        skies[shoppers.zone[who], daypart], payday, visit, visits,
    )  # fmt: skip


def weather(config: CityConfig, seed: int, day: int) -> Ints:
    """Weather by zone and part of the day, [zones, 4]: mostly the city's of that day."""
    rng = generator(seed, "weather", day // 2)
    spell = rng.choice(len(WEATHER), p=[0.35, 0.3, 0.22, 0.13])
    rng = generator(seed, "weather", "day", day)
    own = rng.choice(len(WEATHER), (config.zones, 4), p=[0.35, 0.3, 0.22, 0.13])
    return np.asarray(np.where(rng.random((config.zones, 4)) < 0.55, spell, own))
