"""The report's pictures."""

from __future__ import annotations

import io
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from features import atomic
from features.encoded import JsonObject
from simulator.city.describe.record import Recorder
from simulator.city.painter import paint

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MODELS = ("popularity", "ids", "ids+text", "ids+image", "ids+text+image", "true attributes",
          "true attributes, 10x data", "oracle")  # fmt: skip
BLUE, ORANGE, GREY = "#2b6cb0", "#dd6b20", "#a0aec0"


def _figure(rows: int, columns: int, width: float, height: float) -> tuple[Figure, Any]:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    pyplot.rcParams.update({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False})
    return pyplot.subplots(rows, columns, figsize=(width, height), layout="constrained")


def _save(figure: Figure, path: Path) -> None:
    from matplotlib import pyplot

    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110, metadata={"Software": None})
    pyplot.close(figure)
    atomic.write_bytes(path, out.getvalue())


def behaviour(figures: JsonObject, path: Path) -> None:
    """Position, rates, repeat purchases, tail, delays, ages of one seed."""
    figure, axes = _figure(2, 3, 10, 5.4)
    position = figures["position"]
    places = np.arange(1, len(position["clicks"]) + 1)
    looked = np.array(position["examination"])
    clicks, bought = np.array(position["clicks"]), np.array(position["purchases"])
    axes[0, 0].plot(places, clicks, "o-", color=BLUE, ms=3, label="clicks")
    axes[0, 0].plot(places, looked * clicks.sum() / looked.sum(), "--", color=GREY, label="examination, scaled")
    axes[0, 0].plot(places, bought, "o-", color=ORANGE, ms=3, label="purchases")
    axes[0, 0].set(
        title="By position, uniformly ranked requests", xlabel="position", ylabel="share of shown", ylim=(0, None)
    )
    axes[0, 0].legend(frameon=False)
    days = [one["day"] + 1 for one in figures["daily"]]
    for name, under, colour in (("clicks", "shown", BLUE), ("purchases", "clicks", ORANGE)):
        rates = [one[name] / one[under] for one in figures["daily"]]
        axes[0, 1].plot(days, rates, "o-", color=colour, ms=3, label=f"{name} / {under}")
    axes[0, 1].set(title="Rates by day", xlabel="logged day", ylim=(0, 0.5))
    axes[0, 1].legend(frameon=False)
    for cycle, colour in (("3", BLUE), ("7", ORANGE), ("14", "#38a169"), ("28", GREY)):
        counts = np.array(figures["gaps"].get(cycle, [0] * 36), dtype=float)
        axes[0, 2].plot(np.arange(36), counts / max(counts.sum(), 1), color=colour, label=f"cycle {cycle} days")
    axes[0, 2].set(title="Days to the next purchase of a category", xlabel="days", ylabel="share")
    axes[0, 2].legend(frameon=False)
    tail = np.array(figures["tail"])
    axes[1, 0].plot(100 * np.arange(1, len(tail) + 1) / len(tail), 100 * tail, color=BLUE)
    axes[1, 0].plot([0, 100], [0, 100], "--", color=GREY)
    axes[1, 0].set(title="Long tail: purchases by products", xlabel="% of products", ylabel="% of purchases")
    share = np.linspace(0, 100, len(figures["delay_minutes"]))
    axes[1, 1].semilogx(np.maximum(figures["delay_minutes"], 0.1), share, color=BLUE)
    for minutes, name in ((30, "30 min"), (1440, "24 h")):
        axes[1, 1].axvline(minutes, color=GREY, ls="--")
        axes[1, 1].text(minutes, 3, f" {name}", color="#4a5568")
    axes[1, 1].set(title="From impression to purchase", xlabel="minutes", ylabel="% of purchases")
    axes[1, 2].plot(figures["age_days"], np.linspace(0, 100, len(figures["age_days"])), color=BLUE)
    axes[1, 2].set(title="Ages of live listings", xlabel="days", ylabel="% of listings")
    _save(figure, path)


def learnable(seeds: list[JsonObject], path: Path) -> None:
    """AUC by information, and purchases a request by ranking, means over seeds with their range."""
    figure, axes = _figure(1, 2, 10, 3.6)
    names = [name for name in MODELS if all(name in one["auc"] for one in seeds)]
    height = np.arange(len(names))[::-1]
    for shift, population, colour in ((0.18, "all", BLUE), (-0.18, "new", ORANGE)):
        values = np.array([[one["auc"][name][population] for name in names] for one in seeds])
        spread = [values.mean(0) - values.min(0), values.max(0) - values.mean(0)]
        axes[0].barh(height + shift, values.mean(0), 0.34, xerr=spread, color=colour, label=f"{population} listings",
                     error_kw={"lw": 1})  # fmt: skip
        for y, value in zip(height + shift, values.mean(0), strict=True):
            axes[0].text(0.503, y, f"{value:.3f}", va="center", color="white", fontsize=7)
    axes[0].set(title="Expected AUC on the day after the window", xlim=(0.5, 1.0), yticks=height, yticklabels=names)
    axes[0].legend(frameon=False, loc="upper right")
    names = ["random", *names]
    height = np.arange(len(names))[::-1]
    values = np.array([[one["purchases"][name] for name in names] for one in seeds])
    spread = [values.mean(0) - values.min(0), values.max(0) - values.mean(0)]
    axes[1].barh(height, values.mean(0), 0.6, xerr=spread, color=BLUE, error_kw={"lw": 1})
    for y, value in zip(height, values.mean(0), strict=True):
        axes[1].text(0.02, y, f"{value:.2f}", va="center", color="white", fontsize=7)
    axes[1].set(title="True expected purchases a request, 20 shown", yticks=height, yticklabels=names)
    _save(figure, path)


def mechanisms(seeds: list[JsonObject], path: Path) -> None:
    """How much of the oracle's AUC hangs on each mechanism."""
    names = list(seeds[0]["without"])
    values = np.array([[one["without"][name] for name in names] for one in seeds])
    order = np.argsort(values.mean(0))
    figure, axis = _figure(1, 1, 7, 4)
    spread = np.array([values.mean(0) - values.min(0), values.max(0) - values.mean(0)])[:, order]
    axis.barh(np.arange(len(names)), values.mean(0)[order], xerr=spread, color=BLUE, error_kw={"lw": 1})
    axis.set(title="Loss of the oracle's AUC where it ignores a mechanism", yticks=np.arange(len(names)),
             yticklabels=[names[place] for place in order])  # fmt: skip
    _save(figure, path)


def listings(recorder: Recorder, path: Path, count: int = 32) -> None:
    """Listings as shoppers see them: photo, title, price; dirty ones framed and named."""
    catalogue = recorder.catalogue.listings
    rng = np.random.default_rng(recorder.seed)
    dirty = [
        slot for slot, kinds in enumerate(zip(catalogue.dirt_text, catalogue.dirt_photo, strict=True)) if any(kinds)
    ]
    clean = np.setdiff1d(np.arange(len(catalogue.title)), dirty)
    slots = [*rng.choice(clean, count * 5 // 8, replace=False), *rng.choice(dirty, count * 3 // 8, replace=False)]
    figure, axes = _figure(count // 8, 8, 12, 1.95 * count / 8)
    for axis, slot in zip(axes.ravel(), slots, strict=True):
        spec = catalogue.photo[slot]
        axis.imshow(paint(spec) if spec else np.full((8, 8, 3), 240, dtype=np.uint8))
        if spec is None:
            axis.text(3.5, 3.5, "no photo", ha="center", color="#718096")
        kinds = " + ".join(kind for kind in (catalogue.dirt_text[slot], catalogue.dirt_photo[slot]) if kind)
        price = f"{catalogue.price[slot] / 100:.2f} €"
        title = "\n".join(textwrap.wrap(catalogue.title[slot], 26)[:2])
        axis.set_title(f"{title}\n{price}" + (f" [{kinds}]" if kinds else ""), fontsize=6.5,
                       color="#c53030" if kinds else "black")  # fmt: skip
        axis.set(xticks=[], yticks=[])
        for spine in axis.spines.values():
            spine.set(visible=bool(kinds), color="#c53030", linewidth=2)
    _save(figure, path)
