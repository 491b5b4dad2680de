"""How the day's models were judged, each by its role, and beside them the oracle, who knows the truth."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from features.encoded import JsonObject
from trainer.evaluate.metrics import auc, calibration, log_loss

if TYPE_CHECKING:
    from trainer.runtime.encoding import Array

_LOGIT = "_logit"


def with_oracle(scores: Path, truth: pa.Table | None) -> dict[str, npt.NDArray[np.generic]]:
    """The scored day, and beside it what the oracle says of the same candidates.

    Args:
        scores: What `evaluate` wrote: a row a candidate.
        truth: `request_id, item_id, relevance, purchase` of the day's candidates; None where nobody knows.

    Returns:
        Columns; `oracle` is the true probability of purchase at the place shown, `relevance` the same if looked at.
    """
    table = pq.read_table(scores)
    if truth is not None:
        shown = truth.filter(pa.compute.is_valid(truth["purchase"]))
        shown = shown.select(["request_id", "item_id", "relevance", "purchase"])
        order = pa.array(np.arange(table.num_rows))
        table = table.append_column("_row", order).join(shown, ["request_id", "item_id"]).sort_by("_row")
        table = table.drop_columns(["_row"]).rename_columns(
            ["oracle" if name == "purchase" else name for name in table.drop_columns(["_row"]).column_names]
        )
    return {name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names}


def figures(day: Mapping[str, Array]) -> dict[str, JsonObject]:
    """AUC, log loss and calibration of everyone on all and new listings.

    Args:
        day: Columns of `with_oracle`.

    Returns:
        Slice → who → figures; slices are `all`, `new`, `uniform`, with their positives.
    """
    everything = np.ones(len(day["label"]), bool)
    slices = {"all": everything, "new": day["new"].astype(bool), "uniform": day["uniform"].astype(bool)}
    found: dict[str, JsonObject] = {}
    for name, rows in slices.items():
        label = day["label"][rows]
        found[name] = {"candidates": int(rows.sum()), "positives": int(label.sum())}
        for who, logit in _logits(day).items():
            known = rows & np.isfinite(logit)
            if not known.any():
                continue
            found[name][who] = {
                "auc": auc(logit[known], day["label"][known]),
                "log_loss": log_loss(logit[known], day["label"][known]),
                "calibration": calibration(logit[known], day["label"][known]),
            }
    return found


def curves(day: Mapping[str, npt.NDArray[np.generic]], bins: int = 10) -> dict[str, list[tuple[float, float, int]]]:
    """Calibration curves: equal-frequency bins of the prediction.

    Args:
        day: Columns of `with_oracle`.
        bins: Number of bins.

    Returns:
        Who → (mean prediction, observed rate, candidates) of each bin.
    """
    found = {}
    for who, logit in _logits(day).items():
        known = np.isfinite(logit)
        chance, label = 1 / (1 + np.exp(-logit[known])), day["label"][known]
        parts = np.array_split(np.argsort(chance, kind="stable"), bins)
        found[who] = [(float(chance[p].mean()), float(label[p].mean()), len(p)) for p in parts if len(p)]
    return found


def _logits(day: Mapping[str, npt.NDArray[np.generic]]) -> dict[str, npt.NDArray[np.float64]]:
    roles = [name.removesuffix(_LOGIT) for name in day if name.endswith(_LOGIT)]
    found = {role: day[f"{role}{_LOGIT}"].astype(np.float64) for role in roles}
    for name in ("oracle", "relevance"):
        if name in day:
            chance = np.clip(day[name].astype(np.float64), 1e-9, 1 - 1e-9)
            found[name] = np.log(chance) - np.log1p(-chance)
    return found
