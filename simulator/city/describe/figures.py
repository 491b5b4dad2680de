"""Everything the report says of one seed, as one JSON object."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from features.encoded import JsonObject
from features.settings import ContentSettings
from simulator.city.catalogue import PhotoStore
from simulator.city.choice import examination
from simulator.city.config import CityConfig
from simulator.city.describe import content as contents
from simulator.city.describe.learn import compare, expected_auc, listings_of
from simulator.city.describe.record import Recorder, run


def measure(
    config: CityConfig, seed: int, settings: ContentSettings | None, cache: Path, threads: int = 1,
    photos: PhotoStore | None = None,
) -> tuple[JsonObject, Recorder]:  # fmt: skip
    """Live the city and measure it.

    Args:
        config: The city.
        seed: Its seed.
        settings: The content encoders; None leaves out all that needs text or image.
        cache: Folder for vectors of the content.
        threads: For the trees.
        photos: See `City`.
    """
    recorder = Recorder(config, seed, photos=photos)
    run(recorder)
    test = recorder.test.joined()
    figures: dict[str, object] = {"seed": seed, "daily": recorder.daily, "new_rows": int(test["young"].sum())}
    figures["new_positives"] = float(test["purchase"][test["young"]].sum())
    figures |= _behaviour(recorder) | _catalogue(recorder)
    best = expected_auc(test["relevance"], test["purchase"])
    figures["without"] = {
        name: best - expected_auc(np.concatenate(parts), test["purchase"]) for name, parts in recorder.without.items()
    }
    vectors = None
    if settings is not None:
        vectors = contents.encode(recorder.seen, listings_of(recorder), settings, cache)
        figures["probes"] = contents.probes(vectors, recorder.seen, seed)
    learnt = compare(recorder, vectors, seed, threads)
    figures |= {"auc": learnt.auc, "purchases": learnt.purchases, "paired": learnt.paired}
    return figures, recorder


def _behaviour(recorder: Recorder) -> JsonObject:
    config = recorder.config
    delays = np.concatenate(recorder.delays)
    looks, clicks, bought = recorder.places
    total = {name: sum(day[name] for day in recorder.daily) for name in recorder.daily[0]}
    gaps: dict[str, list[float]] = {}
    last: dict[tuple[int, int], int] = {}
    for day, who, serials, _ in sorted(recorder.sales, key=lambda sale: sale[0]):
        for shopper, serial in zip(who.tolist(), serials.tolist(), strict=True):
            category = recorder.seen[serial].category
            before = last.get((shopper, category))
            if before is not None and day > before:
                gaps.setdefault(str(int(recorder.goods.cycle[category])), []).append(day - before)
            last[shopper, category] = day
    sold = np.sort(recorder.product_sold)[::-1]
    return {
        "click_rate": total["clicks"] / total["shown"], "purchase_rate": total["purchases"] / total["clicks"],
        "position": {
            "clicks": (clicks / looks).tolist(), "purchases": (bought / looks).tolist(),
            "examination": examination(config, np.arange(config.shown)).tolist(),
        },
        "delay_minutes": np.quantile(delays / 60, np.linspace(0, 1, 201)).tolist(),
        "under_30_minutes": float((delays < 1800).mean()), "under_24_hours": float((delays < 86_400).mean()),
        "gaps": {cycle: np.bincount(values, minlength=36)[:36].tolist() for cycle, values in gaps.items()},
        "within_half_cycle": {
            cycle: float((np.array(values) < float(cycle) / 2).mean()) for cycle, values in gaps.items()
        },
        "tail": (np.cumsum(sold) / sold.sum()).tolist(),
        "bought_before": float((recorder.uc_bought[recorder.uc_bought > 0] > 1).mean()),
    }  # fmt: skip


def _catalogue(recorder: Recorder) -> JsonObject:
    seen = list(recorder.seen.values())
    kinds = Counter(one.dirt_text or "" for one in seen) + Counter(one.dirt_photo or "" for one in seen)
    kinds.pop("", None)
    return {
        "listings": len(seen),
        "dirty": float(np.mean([bool(one.dirt_text or one.dirt_photo) for one in seen])),
        "dirt": {name: count / len(seen) for name, count in sorted(kinds.items())},
        "age_days": np.quantile(recorder.ages, np.linspace(0, 1, 101)).tolist(),
    }
