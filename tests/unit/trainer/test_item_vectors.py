"""Vectors of items on their own: what an index stores is what the score reads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from features.content.store import Widths
from features.errors import UsageError
from tests.trainer.run import make_job, one_worker
from tests.trainer.windows import make_window
from trainer.bundle import make_bundle
from trainer.data.window import Window, chunks, raw, select
from trainer.item_vectors import item_vectors
from trainer.runtime.models.marn import MARN
from trainer.runtime.scorer import Scorer
from trainer.train import train

pytestmark = pytest.mark.slow

WIDTHS = Widths(text_tokens=16, text_width=6, image_width=8)


def test_stored_vectors_score_as_the_items_do(tmp_path: Path) -> None:
    """The last request's candidates and behaviours, looked up in the export, give the request's own scores; nothing of
    the batch's items is read then; another model says that it has none."""
    made = make_window(tmp_path / "window", requests_a_day=12, days=3, items=30, candidates=5, widths=WIDTHS)
    recipe = {"width": 8, "title_filters": 4, "hidden": [8], "history_items": 3}
    bundles = {}
    with one_worker(tmp_path):
        for name in ("marn", "lr"):
            job = make_job(made, tmp_path, name, recipe if name == "marn" else None, epochs=1, validations_per_epoch=1)
            train(job)
            bundles[name] = tmp_path / "bundles" / make_bundle(job, tmp_path / "bundles")
    scorer, files = Scorer(bundles["marn"]), Window(made.window).evaluation
    model = scorer.ranker
    assert isinstance(model, MARN)
    table = item_vectors(scorer, files).to_pylist()
    stored = {(row["item_id"], row["role"]): torch.tensor(row["vector"]) for row in table}
    assert {role for _, role in stored} == {"candidate", "behaviour"}
    assert [(r["item_id"], r["role"]) for r in table] == sorted(stored)

    columns = sorted({*scorer.encoding.columns(), "request_id", "event_time", "cand_item"})
    *_, chunk = chunks(files, columns, 1024)
    whole = raw(chunk, columns)
    last = select(whole, np.array([chunk.rows.num_rows - 1]))
    batch = scorer.batch(last)
    past = last.columns["beh_item"][-min(3, int(last.counts["behaviours"][0])) :].tolist()
    assert past
    candidate_SD = torch.stack([stored[item, "candidate"] for item in last.columns["cand_item"].tolist()])
    past_ND = torch.stack([stored[item, "behaviour"] for item in past])
    blind = replace(batch, content=None, embedded={k: v for k, v in batch.embedded.items() if not k.startswith("id")})
    with torch.inference_mode():
        found_S = model.score_items(blind, candidate_SD, past_ND)
        torch.testing.assert_close(found_S, model(batch)["cvr"], rtol=1e-5, atol=1e-5)
    with pytest.raises(UsageError, match="model = 'lr'"):
        item_vectors(Scorer(bundles["lr"]), files)
