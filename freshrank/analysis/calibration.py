"""Calibration of what was served: predicted against observed rates, by arm and bundle."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from features.errors import UsageError
from features.facts import CLICK, PURCHASE
from features.layout import Layout
from freshrank.analysis.impressions import Span
from freshrank.analysis.outcomes import outcomes
from serving.gateway.scores import ServedBundle

_KINDS = {"cvr": PURCHASE, "ctr": CLICK}


@dataclass(frozen=True)
class Bucket:
    """Shown items of like prediction.

    Args:
        predicted: Mean predicted probability.
        observed: Share that came true.
        candidates: How many.
    """

    predicted: float
    observed: float
    candidates: int


@dataclass(frozen=True)
class Calibration:
    """Calibration of one bundle's scores in one arm.

    Args:
        experiment: The experiment; empty for requests that were part of none.
        arm: The arm; empty there.
        bundle: The bundle that scored.
        task: What it predicts: `cvr` or `ctr`.
        mature: Whether no label can change any more.
        positives: Shown items of which it came true.
        buckets: Buckets of equal size, by prediction.
    """

    experiment: str
    arm: str
    bundle: str
    task: str
    mature: bool
    positives: int
    buckets: tuple[Bucket, ...]

    @property
    def candidates(self) -> int:
        """Shown items."""
        return sum(bucket.candidates for bucket in self.buckets)

    @property
    def ratio(self) -> float | None:
        """Predicted positives over actual ones; None where there are none."""
        predicted = sum(bucket.predicted * bucket.candidates for bucket in self.buckets)
        return predicted / self.positives if self.positives else None


def calibrations(layout: Layout, span: Span, horizon_us: int, *, buckets: int = 10) -> tuple[Calibration, ...]:
    """Calibration of served scores, for each arm and bundle of a span.

    Args:
        layout: Where log and bundles lie.
        span: Which requests, and when what followed must have been known.
        horizon_us: What comes later after a request is not credited to it, µs.
        buckets: Buckets of each.

    Returns:
        By experiment, arm and bundle. Bundles that are not in `bundles/` are left out: nobody knows what they predict.

    Raises:
        NotReadyError: If the event log does not hold every fact known by then.
    """
    with outcomes(layout, span, horizon_us) as con:
        named = con.execute("SELECT DISTINCT bundle_id FROM requests WHERE bundle_id IS NOT NULL ORDER BY 1").fetchall()
        tasks = {bundle: task for (bundle,) in named if (task := _task(layout, bundle)) in _KINDS}
        kinds = pa.array([_KINDS[task] for task in tasks.values()], pa.int8())
        con.register("tasks", pa.table({"bundle_id": pa.array(list(tasks), pa.string()), "kind": kinds}))
        rows = con.execute(
            f"""WITH scored AS (
                SELECT coalesce(experiment, '') AS experiment, coalesce(arm, '') AS arm, bundle_id, request_id, kind,
                    shown.item_id AS item_id, 1 / (1 + exp(-shown.score)) AS predicted
                FROM (SELECT request_id, bundle_id, unnest(items) AS shown FROM requests) JOIN tasks USING (bundle_id)
                LEFT JOIN assigned USING (request_id) WHERE shown.score IS NOT NULL),
            bucketed AS (
                SELECT s.*, c.item_id IS NOT NULL AS happened,
                    ntile({buckets}) OVER (PARTITION BY experiment, arm, bundle_id
                                           ORDER BY predicted, s.request_id, s.item_id) AS bucket
                FROM scored s LEFT JOIN credited c
                  ON c.request_id = s.request_id AND c.item_id = s.item_id AND c.kind = s.kind)
            SELECT experiment, arm, bundle_id, avg(predicted), avg(happened::DOUBLE), count(*),
                count(*) FILTER (happened)
            FROM bucketed GROUP BY experiment, arm, bundle_id, bucket
            ORDER BY experiment, arm, bundle_id, bucket"""
        ).fetchall()
    mature = span.known_before - span.to_us >= horizon_us
    found: dict[tuple[str, str, str], list[tuple[Bucket, int]]] = {}
    for experiment, arm, bundle, predicted, observed, candidates, positives in rows:
        bucket = Bucket(float(predicted), float(observed), int(candidates))
        found.setdefault((experiment, arm, bundle), []).append((bucket, int(positives)))
    return tuple(
        Calibration(
            *key, tasks[key[2]], mature, sum(positives for _, positives in parts), tuple(bucket for bucket, _ in parts)
        )
        for key, parts in found.items()
    )


def _task(layout: Layout, bundle: str) -> str:
    """The task whose logit a bundle ranks by; empty where the bundle is not here."""
    try:
        return ServedBundle.read(layout, bundle).output.removesuffix("_logit")
    except (FileNotFoundError, UsageError):
        return ""
