"""Two parities of the lived day: served scores against the trainer's, and features seen against the rebuild."""

from __future__ import annotations

import datetime as dt
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Set
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from features.database import connect
from features.eventlog.read import EventLog
from features.layout import Layout
from features.times import DAY, day_start, run_cut
from freshrank.report import catalogue
from serving.inputs import to_array
from trainer.data.window import Window
from trainer.tokens import TokenStore

TOLERANCE = 1e-9


def impressions(layout: Layout, day: dt.date) -> Iterator[dict[str, Any]]:
    """The day's impressions that log the features seen, as known at the day's cut.

    Args:
        layout: Where the log lies.
        day: The day.

    Yields:
        `request_id, bundle_id, policy, scores, features_seen`.
    """

    con = connect()
    start = day_start(day)
    view = EventLog(layout).relation(con, "impressions", run_cut(day), from_us=start, to_us=start + DAY)
    rows = con.execute(
        f"SELECT request_id, bundle_id, policy, list_transform(items, lambda x: x.score) AS scores, features_seen "  # noqa: S608
        f"FROM {view} WHERE features_seen IS NOT NULL ORDER BY request_id"
    )
    while batch := rows.fetchmany(200):
        for request, bundle, policy, scores, seen in batch:
            yield {
                "request_id": request,
                "bundle_id": bundle,
                "policy": policy,
                "scores": scores,
                "features_seen": json.loads(seen),
            }


def scores(layout: Layout, day: dt.date, limit: int = 400) -> dict[str, Any]:
    """The largest difference of a served score to the trainer's for the same features.

    Args:
        layout: Where log, bundles and tokens lie.
        day: The lived day.
        limit: Requests to score again, at most, by bundle.

    Returns:
        `parity_max_abs` (logits), and over how many scores.
    """
    scorers: dict[str, Any] = {}
    done: Counter[str] = Counter()
    worst, compared = 0.0, 0
    for row in impressions(layout, day):
        bundle = row["bundle_id"]
        if bundle is None or row["policy"] not in ("model", "popularity") or done[bundle] >= limit:
            continue
        if bundle not in scorers:
            scorers[bundle] = _scorer(layout, bundle)
        done[bundle] += 1
        scorer = scorers[bundle]
        seen = row["features_seen"]
        found = scorer.score({spec.name: to_array(seen[spec.column], spec.kind) for spec in scorer.inputs})["cvr_logit"]
        difference = np.abs(found - np.array(row["scores"], np.float64))
        worst, compared = max(worst, float(difference.max(initial=0.0))), compared + len(found)
    return {"parity_max_abs": worst if compared else None, "parity_scores": compared}


def features(layout: Layout, day: dt.date, window: str) -> dict[str, Any]:
    """The share of features seen that equal the point-in-time rebuild.

    Args:
        layout: Where log and windows lie.
        day: The lived day.
        window: The window that holds the day's rebuild as its evaluation day.

    Returns:
        `features_equal_share`, over how many values, and the columns that differ with their shares.
    """
    seen = {row["request_id"]: row["features_seen"] for row in impressions(layout, day)}
    equal, compared, differing = 0, 0, Counter[str]()
    rebuilt = Window(layout.window(window))
    names = {c.name for c in rebuilt.columns if c.group and (c.level == "history" or c.kind != "id")}
    for file in rebuilt.evaluation:
        for batch in pq.ParquetFile(file).iter_batches(batch_size=256):
            for row in batch.to_pylist():
                served = seen.get(row["request_id"])
                if served is None:
                    continue
                for name, good, number in _compare(served, row, names):
                    equal, compared = equal + good, compared + number
                    if good < number:
                        differing[name] += number - good
    return {
        "features_equal_share": equal / compared if compared else None,
        "features_compared": compared,
        "features_differing": {name: count / compared for name, count in differing.most_common()},
    }


def _compare(served: Mapping[str, Any], rebuilt: Mapping[str, Any], names: Set[str]) -> Iterator[tuple[str, int, int]]:
    for name, value in served.items():
        if name in names and name in rebuilt:
            ours, theirs = _values(value), _values(rebuilt[name])
            if len(ours) != len(theirs):
                yield name, 0, max(len(ours), len(theirs))
            else:
                yield name, sum(map(_same, ours, theirs)), len(ours)


def _values(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, int | float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return bool(one == other)


def _scorer(layout: Layout, bundle: str) -> Any:
    encoder = json.loads((layout.bundle(bundle) / "bundle.json").read_text(encoding="utf-8")).get("encoder")
    folder = layout.tokens(encoder) if encoder else None
    return catalogue.load(layout.bundle(bundle), TokenStore(folder) if folder and folder.exists() else None)
