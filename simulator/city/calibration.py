"""The intercepts of the utilities, set so that the logging policy meets the wanted click and purchase rates."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from simulator.city.choice import Chances, examination
from simulator.city.config import CityConfig
from simulator.city.draws import Floats, Ints

PILOT = 768  # requests of the first logged day that set the intercepts


def pilot(requests: int) -> Ints:
    """Numbers of the requests to calibrate on, spread over the day."""
    return np.unique(np.linspace(0, requests - 1, min(PILOT, requests)).astype(np.int64))


def intercepts(config: CityConfig, chances: Chances) -> tuple[float, float]:
    """Intercepts of the click and of the purchase.

    Args:
        config: The city, with `click_rate` and `purchase_rate`.
        chances: Of lists as the logging policy shows them, [B, shown], first place first, without intercepts.
    """
    looked = examination(config, np.arange(config.shown))[None, :]

    def clicks(shift: float) -> Floats:
        return np.asarray(looked / (1 + np.exp(-chances.click_utility - shift)))

    # where examination alone is below the wanted rate, half of what is looked at is the most that can be had
    target = min(config.click_rate, 0.5 * float(looked.mean()))
    click = _bisect(lambda shift: float(clicks(shift).mean()), target)
    weights = clicks(click)
    buy = _bisect(
        lambda shift: float(np.average(1 / (1 + np.exp(-chances.buy_utility - shift)), weights=weights)),
        config.purchase_rate,
    )
    return click, buy


def _bisect(rate: Callable[[float], float], target: float) -> float:
    """Where a rising rate meets its target."""
    low, high = -15.0, 15.0
    for _ in range(50):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if rate(middle) < target else (low, middle)
    return 0.5 * (low + high)
