"""The report in Markdown, from the figures of one or more seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from features.encoded import JsonObject
from simulator.city.config import CityConfig
from simulator.city.describe.plots import MODELS

Seeds = list[JsonObject]


def spread(values: list[float], digits: int = 3) -> str:
    """Mean and standard deviation over seeds.

    Example:
        >>> spread([0.5, 0.7]), spread([0.5])
        ('0.600 ± 0.141', '0.500')
    """
    mean = f"{float(np.mean(values)):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {float(np.std(values, ddof=1)):.{digits}f}"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _each(seeds: Seeds, pick: Callable[[JsonObject], float], digits: int = 3) -> str:
    return spread([pick(one) for one in seeds], digits)


def markdown(seeds: Seeds, config: CityConfig, pictures: str, log: str = "") -> str:
    """The report.

    Args:
        seeds: Figures (`figures.measure`), one a seed.
        config: The city's settings.
        pictures: Folder of the pictures, as links name it.
        log: What was tuned and why.
    """
    names = ", ".join(str(one["seed"]) for one in seeds)
    parts = [
        "# The city: is it fair?",
        f"Seeds {names}; means ± standard deviation over seeds. {config.shoppers:,} shoppers, {config.shops} shops, "
        f"{config.categories} categories, {config.products} products, {config.listings:,} live listings, about "
        f"{config.requests_per_day:,} requests a day. Made by `freshrank source describe city` from "
        "`simulator/city/`. Models learn from seven logged days and "
        "are judged on the eighth. The expected AUC counts each shown item as a positive with its true probability; "
        "*new* are listings younger than a day.",
        "## What can be learnt", _learnable(seeds), f"![What can be learnt]({pictures}/learnable.png)",
        "True expected purchases a request, paired by request, with the mean of the seeds' 95% intervals:",
        _paired(seeds),
        "## What frozen tokens tell, by linear probes", _probes(seeds),
        "## Behaviour", _behaviour(seeds), f"![Behaviour]({pictures}/behaviour.png)",
        "## Dirt", _dirt(seeds, config), f"![Listings, dirty ones framed]({pictures}/listings.png)",
        "## Mechanisms", "How much of the oracle's expected AUC is lost where it ignores a mechanism. Each has a "
        "strength in `CityConfig.strengths`; at 0 it is gone.",
        f"![Mechanisms]({pictures}/mechanisms.png)", _mechanisms(seeds),
        log,
    ]  # fmt: skip
    return "\n\n".join(part for part in parts if part) + "\n"


def _learnable(seeds: Seeds) -> str:
    rows = []
    for name in ("random", *MODELS):
        if not all(name in one["purchases"] for one in seeds):
            continue
        if name == "random":
            aucs = ["0.500", "0.500", "0.500"]
        else:
            aucs = [spread([one["auc"][name][kind] for one in seeds]) for kind in ("all", "new", "realised")]
        rows.append((name, *aucs, spread([one["purchases"][name] for one in seeds])))
    head = ("ranked by", "expected AUC, all", "expected AUC, new", "realised AUC, all", "purchases a request")
    return _table(head, rows)


def _paired(seeds: Seeds) -> str:
    rows = []
    for name in seeds[0]["paired"]:
        middle, low, high = (float(np.mean([one["paired"][name][part] for one in seeds])) for part in range(3))
        better = sum(one["paired"][name][1] > 0 for one in seeds)
        rows.append((name, f"{middle:+.3f}", f"{low:+.3f} … {high:+.3f}", f"{better} of {len(seeds)}"))
    return _table(("difference", "mean", "95% interval", "seeds with interval above 0"), rows)


def _probes(seeds: Seeds) -> str:
    if not all("probes" in one for one in seeds):
        return "Not measured."
    rows = []
    targets = (("category, accuracy", "category"), ("variety, accuracy", "variety"), ("freshness, R²", "freshness_r2"))
    for label, name in targets:
        rows.append(
            (label, *(spread([one["probes"][f"{kind}_{name}"] for one in seeds]) for kind in ("text", "image")))
        )
    return _table(("held-out clean listings", "text", "image"), rows)


def _behaviour(seeds: Seeds) -> str:
    gmv = [float(np.mean([day["gmv"] for day in one["daily"]])) / 100 for one in seeds]
    rows = [
        ("clicks on shown items", _each(seeds, lambda one: one["click_rate"])),
        ("purchases on clicks", _each(seeds, lambda one: one["purchase_rate"])),
        ("requests a day", _each(seeds, lambda one: float(np.mean([day["requests"] for day in one["daily"]])), 0)),
        ("GMV a day, EUR", spread(gmv, 0)),
        ("purchases within 30 minutes", _each(seeds, lambda one: one["under_30_minutes"])),
        ("purchases within 24 hours", _each(seeds, lambda one: one["under_24_hours"], 4)),
        ("shopper-category pairs bought more than once", _each(seeds, lambda one: one["bought_before"])),
        ("purchases of the top tenth of products", _each(seeds, lambda one: one["tail"][len(one["tail"]) // 10])),
        *(_half_cycle(seeds, cycle) for cycle in ("3", "7", "14", "28")),
        ("median age of a live listing, days", _each(seeds, lambda one: one["age_days"][50], 1)),
        ("new listings' rows on the test day", _each(seeds, lambda one: one["new_rows"], 0)),
        ("expected purchases among them", _each(seeds, lambda one: one["new_positives"], 0)),
    ]  # fmt: skip
    return _table(("", ""), rows)


def _half_cycle(seeds: Seeds, cycle: str) -> tuple[str, str]:
    values = [one["within_half_cycle"].get(cycle, float("nan")) for one in seeds]
    return f"bought again within half a cycle of {cycle} days", spread(values)


def _dirt(seeds: Seeds, config: CityConfig) -> str:
    rows = [("dirty in all", f"{config.dirt.rate:.3f}", _each(seeds, lambda one: one["dirty"]))]
    dirt = config.dirt
    for group, share in ((dirt.text, dirt.text_share), (dirt.photo, 1 - dirt.text_share)):
        for name, part in group:
            asked = dirt.rate * part * (dirt.both + (1 - dirt.both) * share)
            found = spread([one["dirt"].get(name, 0.0) for one in seeds])
            rows.append((name.replace("_", " "), f"{asked:.3f}", found))
    return _table(("share of listings", "as set", "found"), rows)


def _mechanisms(seeds: Seeds) -> str:
    order = sorted(seeds[0]["without"], key=lambda name: -float(np.mean([one["without"][name] for one in seeds])))
    rows = [(name, spread([one["without"][name] for one in seeds], 4)) for name in order]
    return _table(("mechanism", "loss of AUC"), rows)
