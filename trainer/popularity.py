"""The popularity bundle of a window: smoothed conversion of each item over the training days."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import pyarrow.compute as pc
import torch

from features import atomic
from trainer.bundle import made_before, write_bundle
from trainer.data.derive import CHUNK, item_table
from trainer.data.window import LABELS, Window, chunks
from trainer.runtime.encoding import Encoding, Field
from trainer.runtime.models.popularity import PopularityRecipe
from trainer.runtime.models.recipe import plain


def make_popularity(window: Window, bundles: Path, task: str = "cvr") -> str:
    """Count a window and bundle the result.

    An item's logit is that of (positives + prior × mean) / (views + prior) over the mature requests of the training
    days; an item never shown has the mean's.

    Args:
        window: The window.
        bundles: Folder of all bundles.
        task: The label that is counted.

    Returns:
        The bundle's id.
    """
    noted = bundles / f".popularity-{window.id}-{task}.json"
    if before := made_before(noted, bundles):
        return before
    views, positives, end = _count(window, LABELS[task])
    recipe = PopularityRecipe(task=task)
    mean = (sum(positives.values()) + 1) / (sum(views.values()) + 2)
    keys = sorted(views)
    rates = [mean] + [(positives[key] + recipe.prior * mean) / (views[key] + recipe.prior) for key in keys]
    logits = torch.tensor([[math.log(rate / (1 - rate))] for rate in rates])
    encoding = Encoding(
        [Field("item_id", "cand_item", "item_id", "candidate", "category", "item")],
        {},
        {"item_id": {key: row for row, key in enumerate(keys, start=1)}},
        {},
        None,
        (task,),
    )
    info = {
        "model": "popularity",
        "window": window.id,
        "trained_until": end,
        "negatives_kept": 1.0,
        "encoder": None,
        "incumbent": None,
        "warm": False,
        "warm_start_reason": "counted",
        "seed": 0,
    }
    bundle = write_bundle(
        bundles,
        window,
        encoding,
        item_table(window.folder / "items.parquet", encoding),
        dense={},
        embeddings={"popularity": {"item_id": logits}},
        recipe=plain(recipe),
        info=info,
        metrics={"views": sum(views.values()), "positives": sum(positives.values()), "mean": mean},
        tokens=None,
        contents=(set(), set()),
    )
    atomic.write_text(noted, json.dumps({"bundle": bundle}))
    return bundle


def _count(window: Window, label: str) -> tuple[Counter[str], Counter[str], int]:
    views: Counter[str] = Counter()
    positives: Counter[str] = Counter()
    end = 0
    for chunk in chunks(window.training, ["cand_item", "event_time", "mature", label], CHUNK):
        mature = chunk.rows.filter(chunk.rows.column("mature"))
        if mature.num_rows:
            items = mature.column("cand_item").flatten()
            bought = pc.greater(mature.column(label).flatten(), 0)
            views.update(items.to_pylist())
            positives.update(items.filter(bought).to_pylist())
        end = max(end, int(chunk.column("event_time").max()) + 1)
    return views, positives, end
