"""A day that a small bundle served, with what the gateway would have logged, and the window that rebuilds it."""

from __future__ import annotations

import copy
import datetime as dt
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from features.atomic import write_text
from features.dictionary import save
from features.events import impression_id
from features.layout import Layout
from features.settings import FeatureSettings
from features.store.columns import request_columns
from features.store.definitions import define
from freshrank.pipeline.window import WindowBuilt
from tests.lake import Lake, us
from tests.serving.bundles import CATEGORIES, ITEMS, make_bundle, raw_request, score
from trainer.runtime.scorer import Scorer

DAY = dt.date(2026, 1, 9)
WINDOW = "w" * 64


@dataclass
class Lived:
    """Requests of `DAY` that one bundle ranked.

    Args:
        root: Folder of the stack.
        requests: Raw columns of each request, as the gateway saw them.
        scores: Logits that its impression logs.
        rebuilt: The same columns, as the window holds them.
        bundle: The bundle that ranked them.
    """

    root: Path
    requests: dict[str, dict[str, Any]] = field(default_factory=dict)
    scores: dict[str, list[float]] = field(default_factory=dict)
    rebuilt: dict[str, dict[str, Any]] = field(default_factory=dict)
    bundle: str = ""

    @property
    def layout(self) -> Layout:
        return Layout(self.root)

    def rank(self, count: int, model: str = "fm") -> None:
        """Make a bundle and let it rank some requests, faultlessly."""
        self.layout.bundles.mkdir(parents=True)
        self.bundle = make_bundle(self.layout.bundles, "one", seed=1, probes=1, model=model)
        scorer = Scorer(self.layout.bundle(self.bundle))
        for seed in range(count):
            request = f"r{seed}"
            row = raw_request(seed) | {"event_time": us(f"01-09 {3 + seed % 20:02}:{seed // 20:02}")}
            self.requests[request], self.rebuilt[request] = row, copy.deepcopy(row)
            self.scores[request] = score(scorer, row)["cvr_logit"].tolist()

    def write(self, **fields: Any) -> Layout:
        """Write event log and window. `fields` are of each impression, beside or instead of what it has."""
        lake = Lake(self.root)
        for number, item in enumerate(ITEMS):
            category: dict[str, Any] = {"category_id": name} if (name := CATEGORIES[number % 3]) else {}
            lake.item(item, us("01-02 05:00"), image_uri=f"blob:{number:064x}", **category)
        self.show(lake, **fields)
        layout = lake.write()
        self._write_window(layout)
        return layout

    def show(self, lake: Lake, **fields: Any) -> None:
        """Add the impressions to an event log; `fields` are as those of `write`."""
        for request, seen in self.requests.items():
            shown = [
                {"item_id": item, "position": at, "score": value}
                for at, (item, value) in enumerate(zip(seen["cand_item"], self.scores[request], strict=True))
            ]
            values = {"policy": "model", "bundle_id": self.bundle, "features_seen": seen, **fields}
            lake.add(
                "impressions", seen["user_id"], seen["event_time"], event_id=impression_id(request),
                request_id=request, user_id=seen["user_id"], items=shown,
                **{name: value for name, value in values.items() if value is not None},
            )  # fmt: skip

    def _write_window(self, layout: Layout) -> None:
        rows = [{"request_id": request, **row} for request, row in self.rebuilt.items()]
        table = pa.Table.from_pylist(sorted(rows, key=lambda row: (row["event_time"], row["request_id"])))
        folder = layout.window(WINDOW)
        (folder / "eval").mkdir(parents=True)
        pq.write_table(table, folder / "eval" / f"{DAY}.parquet")
        write_text(folder / "manifest.json", json.dumps({"window_id": WINDOW}))
        known = request_columns(define(FeatureSettings()))
        save(folder, [column for column in known if column.name in table.schema.names])
        built = WindowBuilt(
            window_id=WINDOW, date=DAY.isoformat(), days=[], rows=0, eval_rows=len(rows), candidates=0, purchases=0,
            items=len(ITEMS), new=True,
        )  # fmt: skip
        built.leave(layout, DAY)
