"""A small shop from event log to window, in a process of its own: `python -m tests.lake.shop FOLDER YYYY-MM-DD`.

Prints, as JSON, what must not depend on the machine it runs on. Prices change every night before the cut, so that
features of another day's snapshot show.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from features.labels import run
from features.settings import FeatureSettings, LabelSettings
from features.store.materialize import materialize
from features.store.online import OnlineFeatures
from features.store.registry import OnlineStore
from features.times import DAY, HOUR, day_start, run_cut
from features.window.build import build
from tests.lake import Lake

FEATURES = FeatureSettings()
LABELS = LabelSettings()
DAYS = 2


def price(days_before: int) -> int:
    """What item `a` costs from the cut before a day on."""
    return 1000 - 100 * days_before


def live(root: Path, day: dt.date) -> dict[str, Any]:
    """Live through a few days and build the last one's window."""
    lake = Lake(root)
    for before in range(6, -1, -1):
        start = day_start(day) - before * DAY
        lake.item("a", start + HOUR, price_minor=price(before), category_id="k")
        lake.item("b", start + HOUR, price_minor=50)
        for hour in range(0, 24, 4):
            lake.show(f"r{before}-{hour:02}", "u", ["a", "b"], start + hour * HOUR)
        lake.buy("u", "a", start + 12 * HOUR + 1, request=f"r{before}-12")
    layout, online = lake.write(run_cut(day)), OnlineStore(sqlite=root / "online.db")
    run.label(layout, FEATURES, LABELS, day, days=DAYS)
    service = materialize(layout, FEATURES, online, day, days=DAYS).service
    window = build(layout, FEATURES, LABELS, {"content": "0" * 16}, day, days=DAYS)
    rows = pq.read_table(layout.window(window.window_id) / "eval").to_pylist()
    fetched = OnlineFeatures(layout, service, online).fetch("u", ["a", "b", "never"], {})
    return {
        "window": window.window_id,
        "snapshots": {
            str(file.relative_to(root)): hashlib.sha256(file.read_bytes()).hexdigest()
            for file in sorted((layout.feast / service).rglob("*.parquet"))
        },
        "prices": {row["request_id"]: row["i_price"][0] for row in rows},
        "ages": {row["request_id"]: row["i_age_hours"][0] for row in rows},
        "cutoff": fetched.feature_cutoff,
        "served": fetched.columns,
    }


if __name__ == "__main__":
    print(json.dumps(live(Path(sys.argv[1]), dt.date.fromisoformat(sys.argv[2]))))
