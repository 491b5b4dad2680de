"""Representations of items on their own, for an index that stores them (MARN's paper, section 4.9.2)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from features.errors import UsageError
from trainer.data.window import KEYS, chunks, raw, select
from trainer.runtime.encoding import HISTORY_ITEMS, newest
from trainer.runtime.scorer import Scorer

REQUESTS = 32  # encoded at once
SCHEMA = pa.schema(
    [("item_id", pa.string()), ("role", pa.string()), ("event_time", pa.int64()), ("vector", pa.list_(pa.float32()))]
)


def item_vectors(scorer: Scorer, files: Sequence[Path]) -> pa.Table:
    """The newest vector of every item of some requests, by role.

    Args:
        scorer: A bundle whose model represents items apart from requests.
        files: Requests of a window, in order of time.

    Returns:
        A row an item and role: `item_id`, `role` (`candidate` or `behaviour`), `event_time` of the request that it is
        as of, `vector`; ordered by item and role.

    Raises:
        UsageError: If the model has none.
    """
    columns = sorted({*scorer.encoding.columns(), *KEYS, "cand_item"})
    found: dict[tuple[str, str], tuple[int, list[float]]] = {}
    for chunk in chunks(files, columns, 1024):
        whole = raw(chunk, columns)
        for start in range(0, chunk.rows.num_rows, REQUESTS):
            part = select(whole, np.arange(start, min(start + REQUESTS, chunk.rows.num_rows)))
            times = np.asarray(part.columns["event_time"], np.int64)
            with torch.inference_mode():
                made = scorer.ranker.item_vectors(scorer.batch(part))
            if made is None:
                remedy = "use a model that represents items apart from requests, such as marn"
                raise UsageError("has no item vectors", field="model", value=scorer.info["model"], remedy=remedy)
            groups = [("candidate", part.columns["cand_item"], part.counts["candidate"], made.pop("candidate"))]
            for name, past_ND in made.items():
                kept, counts = newest(part.counts[name], scorer.encoding.lengths[name])
                groups.append(("behaviour", part.columns[HISTORY_ITEMS[name]][kept], counts, past_ND))
            for role, items, counts, vectors in groups:
                as_of = np.repeat(times, counts).tolist()
                for item, time, vector in zip(items.tolist(), as_of, vectors.tolist(), strict=True):
                    found[item, role] = (time, vector)
    rows = [{"item_id": i, "role": r, "event_time": t, "vector": v} for (i, r), (t, v) in sorted(found.items())]
    return pa.Table.from_pylist(rows, schema=SCHEMA)
