"""Lists out of scores: best first, at random, reserved places for young listings; and what a policy's chances were."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from features.encoded import JsonObject

YOUNG_HOURS = 24.0


@dataclass(frozen=True)
class Placed:
    """One place of a list.

    Args:
        index: Which candidate.
        score: Its score, or None.
        propensity: Probability with which the policy put it at this place.
    """

    index: int
    score: float | None
    propensity: float


def uniform(request_id: str, candidates: int, length: int) -> list[Placed]:
    """A list at random: each order is as likely as any other, so each candidate has 1 / C at each place.

    Args:
        request_id: Seeds the draw, so that a repeated request gets the same list.
        candidates: How many there are (C).
        length: Places of the list.
    """
    draw = random.Random(hashlib.sha256(request_id.encode()).digest())
    order = draw.sample(range(candidates), candidates)
    return [Placed(index, None, 1.0 / candidates) for index in order[:length]]


def best(scores: Sequence[float], length: int, young: Sequence[bool], slots: int) -> list[Placed]:
    """A list by score, with at least `slots` young listings where there are so many.

    Where the best `length` hold fewer, the best of the other young ones take the last places that the old ones have.
    Nothing is drawn, so the propensity is 1.

    Args:
        scores: Score of each candidate; NaN comes last.
        length: Places of the list.
        young: Whether each candidate is a young listing.
        slots: Places reserved for young listings.
    """
    key = [-math.inf if math.isnan(score) else score for score in scores]
    order = sorted(range(len(scores)), key=lambda index: (-key[index], index))
    shown = order[:length]
    missing = min(slots, length) - sum(young[index] for index in shown)
    if missing > 0:
        others = [index for index in order[length:] if young[index]][:missing]
        old = [place for place, index in enumerate(shown) if not young[index]]
        for place, index in zip(old[len(old) - len(others) :], others, strict=True):
            shown[place] = index
    return [Placed(index, scores[index], 1.0) for index in shown]


def popularity(columns: JsonObject, candidates: int) -> list[float]:
    """Scores where no model can answer: purchases of the last seven days; ties keep the order of the request."""
    purchases = columns.get("i_purchases_7d") or [None] * candidates
    return [float(count or 0.0) for count in purchases]


def young_listings(columns: JsonObject, candidates: int, unknown: Sequence[bool], since_cut_h: float) -> list[bool]:
    """Which candidates were first listed within a day of the request.

    Args:
        columns: Features; `i_age_hours` is as of the cut.
        candidates: How many there are.
        unknown: Candidates that the feature store does not know: listed after its cut.
        since_cut_h: Hours from the cut to the request.
    """
    ages = columns.get("i_age_hours") or [None] * candidates
    return [
        new or (age is not None and age + max(since_cut_h, 0.0) < YOUNG_HOURS)
        for age, new in zip(ages, unknown, strict=True)
    ]
