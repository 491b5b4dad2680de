"""The city's truth beside what rankers did: for reports alone."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from features.encoded import JsonObject
from features.layout import Layout
from simulator.city.config import CityConfig
from simulator.city.truth import Truth, expected_purchases


@dataclass(frozen=True)
class Known:
    """The truth of a lived day.

    Args:
        candidates: Rows of the day's candidates.
        dirty: Item → kinds of dirt, of dirty listings.
        relevance: Request → item → probability of purchase if looked at.
        examination: How examination falls with the place.
    """

    candidates: pa.Table
    dirty: dict[str, str]
    relevance: dict[str, dict[str, float]]
    examination: float

    def expected(self, lists: Mapping[str, Sequence[str]]) -> dict[str, float]:
        """True expected purchases of lists.

        Args:
            lists: Request → items, first place first.
        """
        return {
            request: expected_purchases(self.relevance[request], items, self.examination)
            for request, items in lists.items()
            if request in self.relevance
        }

    def paired(self, lists: Mapping[str, Mapping[str, Sequence[str]]], treatment: str, control: str) -> JsonObject:
        """Expected purchases of every arm's list for the same requests, and of the oracle's.

        Args:
            lists: Request → arm → items; requests that lack one of the two arms are passed over.
            treatment: An arm; the oracle's list is as long as its.
            control: The arm it is compared with.

        Returns:
            `requests`, `means` by arm, and `<treatment>_minus_<control>` with a 95% bootstrap interval over requests.
        """
        rows = []
        for request, arms in lists.items():
            known = self.relevance.get(request)
            if known is None or not {treatment, control} <= set(arms):
                continue
            length = len(arms[treatment])
            best = sorted(known, key=known.__getitem__, reverse=True)[:length]
            ranked = {**arms, "oracle": best}
            rows.append({arm: expected_purchases(known, items, self.examination) for arm, items in ranked.items()})
        if not rows:
            return {}
        names = sorted({name for row in rows for name in row})
        values = {name: np.array([row.get(name, np.nan) for row in rows]) for name in names}
        difference = values[treatment] - values[control]
        rng = np.random.default_rng(0)
        means = [float(rng.choice(difference, len(difference)).mean()) for _ in range(2000)]
        low, high = np.quantile(means, [0.025, 0.975])
        return {
            "requests": len(rows),
            "means": {name: float(np.nanmean(value)) for name, value in values.items()},
            f"{treatment}_minus_{control}": {"mean": float(difference.mean()), "low": float(low), "high": float(high)},
        }

    def precision(self, suspects: Sequence[tuple[str, float]]) -> dict[str, object]:
        """How many of the most suspicious listings are dirty in a way that text and photo can show.

        Args:
            suspects: Items and scores, most suspicious first.

        Returns:
            Precision among the first 5% and 10%, and the share of dirty listings among all scored.
        """
        dirty = [item in self.dirty for item, _ in suspects]
        wrong = ["wrong" in self.dirty.get(item, "") for item, _ in suspects]
        found: JsonObject = {
            "listings": len(dirty),
            "dirty_share": float(np.mean(dirty)),
            "wrong_share": float(np.mean(wrong)),
        }
        for share in (0.05, 0.10):
            first = max(1, round(share * len(dirty)))
            found[f"dirty_among_first_{round(share * 100)}_percent"] = float(np.mean(dirty[:first]))
            found[f"wrong_among_first_{round(share * 100)}_percent"] = float(np.mean(wrong[:first]))
        return found


def known_truth(layout: Layout, day: dt.date) -> Known:
    """Read the truth of a day of the city.

    Args:
        layout: Where it lies.
        day: The lived day.
    """
    truth = Truth(layout)
    candidates = truth.candidates(day)
    relevance: dict[str, dict[str, float]] = {}
    for request, item, chance in zip(
        *(candidates[name].to_pylist() for name in ("request_id", "item_id", "relevance")), strict=True
    ):
        relevance.setdefault(request, {})[item] = chance
    return Known(candidates, _dirty(truth), relevance, CityConfig().examination)


def _dirty(truth: Truth) -> dict[str, str]:
    found = {}
    for row in truth.listings().to_pylist():
        kinds = [str(row[name]) for name in ("dirt_text", "dirt_photo") if row.get(name)]
        if kinds:
            found[str(row["item_id"])] = ", ".join(kinds)
    return found
