"""Score parity: what impressions log as served, against what their bundle itself says of the same columns."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from features.database import literal
from features.errors import UsageError
from features.layout import Layout
from freshrank.analysis import impressions
from freshrank.analysis.impressions import Logged, Span
from serving.gateway.scores import ServedBundle
from serving.inputs import ServedInput, request_inputs
from trainer.tokens import TokenStore

if TYPE_CHECKING:
    from trainer.runtime.scorer import Scorer


@dataclass(frozen=True)
class Exceeding:
    """A request whose served scores are not the bundle's.

    Args:
        request_id: The request.
        scores: How many of its scores differ by more than the tolerance.
        difference: The largest difference, logits; None where the two cannot be subtracted.
        why: Why they cannot; empty where they can.
    """

    request_id: str
    scores: int
    difference: float | None
    why: str = ""


@dataclass(frozen=True)
class BundleScores:
    """Served scores of one bundle.

    Args:
        bundle: Its id.
        impressions: Impressions of the span that it scored.
        requests: Those of them that were scored again.
        compared: Scores compared.
        max_abs: Their largest difference, logits; None of none.
        exceeding: Requests beyond the tolerance, worst first.
        unchecked: Why nothing was compared; empty where something was.
    """

    bundle: str
    impressions: int
    requests: int
    compared: int
    max_abs: float | None
    exceeding: tuple[Exceeding, ...]
    unchecked: str = ""


@dataclass(frozen=True)
class ScoreParity:
    """Score parity of a span.

    Args:
        tolerance: Largest difference that counts as equal, logits.
        bundles: Each bundle that scored impressions of the span, by id.
    """

    tolerance: float
    bundles: tuple[BundleScores, ...]

    @property
    def compared(self) -> int:
        """Scores compared."""
        return sum(row.compared for row in self.bundles)

    @property
    def max_abs(self) -> float | None:
        """The largest difference, logits; None of none."""
        return max((row.max_abs for row in self.bundles if row.max_abs is not None), default=None)

    @property
    def exceeding(self) -> int:
        """Scores beyond the tolerance."""
        return sum(one.scores for row in self.bundles for one in row.exceeding)


def score_parity(layout: Layout, span: Span, *, tolerance: float, requests: int) -> ScoreParity:
    """Score logged requests again with the bundle that served them.

    Requests are chosen by a hash of their id, so that every hour has its share.

    Args:
        layout: Where log, bundles and tokens lie.
        span: Which impressions.
        tolerance: Largest difference that counts as equal, logits.
        requests: Requests of each bundle that are scored again, at most.

    Raises:
        NotReadyError: If the event log is not complete for the span.
    """
    with impressions.reading(layout, span) as con:
        served = con.execute(
            "SELECT bundle_id, count(*), count(features_seen) FROM impressions "
            "WHERE bundle_id IS NOT NULL GROUP BY 1 ORDER BY 1"
        ).fetchall()
        found = []
        for bundle, shown, with_features in served:
            where = f"bundle_id = {literal(bundle)}"
            rows = impressions.logged(con, where, f"md5(request_id), request_id LIMIT {requests}")
            found.append(_of_bundle(layout, bundle, shown, with_features, rows, tolerance))
    return ScoreParity(tolerance, tuple(found))


def _of_bundle(
    layout: Layout, bundle: str, shown: int, with_features: int, rows: Iterator[Logged], tolerance: float
) -> BundleScores:
    if not with_features:
        return BundleScores(
            bundle, shown, 0, 0, None, (), "no impression logs the features seen (gateway.log_features)"
        )
    if not _here(layout, bundle):
        return BundleScores(bundle, shown, 0, 0, None, (), "the bundle is not in bundles/")
    output, scorer = ServedBundle.read(layout, bundle).output, open_bundle(layout, bundle)
    requests, compared, worst, exceeding = 0, 0, None, []
    for row in rows:
        difference = _difference(scorer, output, row)
        requests += 1
        if isinstance(difference, str):
            exceeding.append(Exceeding(row.request_id, len(row.scores), None, difference))
            compared += len(row.scores)
            continue
        compared += len(difference)
        largest = float(difference.max(initial=0.0))
        worst = max(worst or 0.0, largest)
        if largest > tolerance:
            exceeding.append(Exceeding(row.request_id, int((difference > tolerance).sum()), largest))
    exceeding.sort(key=lambda one: (one.difference is not None, -(one.difference or 0.0), one.request_id))
    return BundleScores(bundle, shown, requests, compared, worst, tuple(exceeding))


def _here(layout: Layout, bundle: str) -> bool:
    try:
        return (layout.bundle(bundle) / "bundle.json").exists()
    except UsageError:  # an id that can be no folder's name: another ranker's
        return False


def _difference(scorer: Scorer, output: str, row: Logged) -> npt.NDArray[np.float64] | str:
    """Absolute differences of a request's scores, [n]; or why there are none."""
    specs = [ServedInput(spec.name, spec.kind, spec.column, spec.level) for spec in scorer.inputs]
    try:
        ours = scorer.score(request_inputs(specs, row.features_seen, len(row.scores)))[output]
    except ValueError as error:  # columns of different lengths
        return str(error)
    difference: npt.NDArray[np.float64] = np.abs(ours.astype(np.float64) - np.array(row.scores, np.float64))
    return difference if np.isfinite(difference).all() else "a score is missing or not finite"


def open_bundle(layout: Layout, bundle: str) -> Scorer:
    """A bundle's scorer on the token store as it is, as the serving runtime sees it.

    Args:
        layout: Where bundles and tokens lie.
        bundle: Its id.
    """
    from trainer.bundle import load_scorer

    folder = layout.bundle(bundle)
    encoder = json.loads((folder / "bundle.json").read_text(encoding="utf-8")).get("encoder")
    tokens = layout.tokens(encoder) if encoder else None
    return load_scorer(folder, TokenStore(tokens) if tokens and (tokens / "index.parquet").exists() else None)
