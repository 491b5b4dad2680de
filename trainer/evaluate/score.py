"""The requests of a day, scored by bundles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from features import atomic
from features.errors import DataError
from trainer.data.window import KEYS, LABELS, Window, chunks, raw, select
from trainer.runtime.encoding import Raw
from trainer.runtime.scorer import Scorer

REQUESTS = 32  # scored at once


@dataclass(frozen=True)
class Day:
    """What was shown on a day, a row a candidate, and the logits of the bundles.

    Args:
        request: Number of the request, from 0 on.
        user: Number of the user.
        request_id: Its id.
        item: The item.
        label: 0 or 1.
        mature: The label cannot change any more.
        uniform: The list was ordered uniformly at random.
        new: The item was not shown on any training day.
        logits: Role → logit of the task.
    """

    request: npt.NDArray[np.int64]
    user: npt.NDArray[np.int64]
    request_id: npt.NDArray[np.generic]
    item: npt.NDArray[np.generic]
    label: npt.NDArray[np.int8]
    mature: npt.NDArray[np.bool_]
    uniform: npt.NDArray[np.bool_]
    new: npt.NDArray[np.bool_]
    logits: dict[str, npt.NDArray[np.float32]]

    def write(self, path: Path) -> None:
        """Write the rows as Parquet."""
        columns = {
            "request_id": pa.array(self.request_id, pa.string()),
            "item_id": pa.array(self.item, pa.string()),
            "label": pa.array(self.label),
            "mature": pa.array(self.mature),
            "uniform": pa.array(self.uniform),
            "new": pa.array(self.new),
        }
        logits = {f"{role}_logit": pa.array(values) for role, values in self.logits.items()}
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table({**columns, **logits}), sink)
        atomic.write_bytes(path, sink.getvalue().to_pybytes())


def score_day(files: Sequence[Path], scorers: dict[str, Scorer], task: str, seen: set[str]) -> Day:
    """Score every candidate of a day; nothing is thinned.

    Args:
        files: The day's requests.
        scorers: Role → scorer.
        task: The label, and the logit that counts.
        seen: Items shown on training days.

    Raises:
        DataError: If a bundle does not score the task, or gives a logit that is not finite.
    """
    for role, scorer in scorers.items():
        if f"{task}_logit" not in scorer.outputs:
            raise DataError(
                f"the {role}'s bundle does not score the task",
                field="train.tasks",
                value=task,
                remedy=f"bundle {scorer.folder.name} scores {', '.join(scorer.outputs)}: judge by one of these",
            )
    wanted = {column for scorer in scorers.values() for column in scorer.encoding.columns()}
    columns = sorted({*wanted, *KEYS, "user_id", "cand_item", LABELS[task]})
    parts: list[dict[str, npt.NDArray[np.generic]]] = []
    logits: dict[str, list[npt.NDArray[np.float32]]] = {role: [] for role in scorers}
    users: dict[str, int] = {}
    requests = 0
    for chunk in chunks(files, columns, 1024):
        found = raw(chunk, columns)
        counts, size = found.counts["candidate"], chunk.rows.num_rows
        for start in range(0, size, REQUESTS):
            part = select(found, np.arange(start, min(start + REQUESTS, size)))
            for role, scorer in scorers.items():
                scored = scorer.score_raw(part)[f"{task}_logit"]
                _refuse_what_is_not_finite(role, scorer, scored, part, found.columns["request_id"][start:])
                logits[role].append(scored)
        user = np.array([users.setdefault(name, len(users)) for name in found.columns["user_id"].tolist()], np.int64)
        uniform = np.array([name == "uniform" for name in found.columns["policy"].tolist()], bool)
        items = found.columns["cand_item"]
        parts.append(
            {
                "request": np.repeat(np.arange(requests, requests + size), counts),
                "user": np.repeat(user, counts),
                "request_id": np.repeat(found.columns["request_id"], counts),
                "item": items,
                "label": (found.columns[LABELS[task]] > 0).astype(np.int8),
                "mature": np.repeat(found.columns["mature"], counts),
                "uniform": np.repeat(uniform, counts),
                "new": np.array([item not in seen for item in items.tolist()], bool),
            }
        )
        requests += size
    kinds: dict[str, object] = {"request": np.int64, "user": np.int64, "label": np.int8, "request_id": object}
    kinds |= {"item": object, "mature": bool, "uniform": bool, "new": bool}
    merged = {n: np.concatenate([p[n] for p in parts]) if parts else np.empty(0, kind) for n, kind in kinds.items()}
    made = {role: np.concatenate(found) if found else np.empty(0, np.float32) for role, found in logits.items()}
    return Day(**merged, logits=made)


def _refuse_what_is_not_finite(
    role: str, scorer: Scorer, logits: npt.NDArray[np.float32], part: Raw, names: npt.NDArray[np.generic]
) -> None:
    bad = ~np.isfinite(logits)
    if not bad.any():
        return
    counts = part.counts["candidate"]
    owner = np.repeat(np.arange(len(counts)), counts)
    remedy = "train it again" if role == "candidate" else "roll back or deploy another, then evaluate again"
    raise DataError(
        f"the {role}'s bundle {scorer.folder.name} gives scores that are not finite",
        field="requests",
        value=[names[at] for at in np.unique(owner[bad]).tolist()],
        remedy=remedy,
    )


def shown(window: Window) -> set[str]:
    """Items that the training days showed."""
    found: set[str] = set()
    for chunk in chunks(window.training, ["cand_item"], 2048):
        found.update(chunk.column("cand_item").tolist())
    return found
