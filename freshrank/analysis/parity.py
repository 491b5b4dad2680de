"""Whether serving agrees with training on a day that was lived: its scores, and the features they rest on."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from features.errors import DataError, NotReadyError
from features.layout import Layout
from freshrank.analysis.features import FeatureParity, feature_parity
from freshrank.analysis.impressions import Span
from freshrank.analysis.scores import ScoreParity, score_parity
from freshrank.pipeline.window import window_of
from freshrank.sections import ParitySettings


@dataclass(frozen=True)
class Parity:
    """Both parities of a day.

    Args:
        date: The day.
        scores: Served scores against the bundles' own.
        features: Features seen against the rebuild.
    """

    date: str
    scores: ScoreParity
    features: FeatureParity


def measure(layout: Layout, day: dt.date, settings: ParitySettings) -> Parity:
    """Measure both parities of a day.

    Args:
        layout: Where log, bundles, tokens and windows lie.
        day: The day.
        settings: How many requests are scored again, and what counts as equal.

    Raises:
        NotReadyError: If the log is not complete up to the day's cut, or the day has no window.
    """
    span, window = Span.of_day(day), window_of(layout, day).window_id
    tolerance, requests = settings.max_score_difference, settings.requests
    scores = score_parity(layout, span, tolerance=tolerance, requests=requests)
    return Parity(day.isoformat(), scores, feature_parity(layout, span, window))


def judge(parity: Parity, settings: ParitySettings) -> None:
    """Refuse a day on which serving and training differ, or on which that cannot be told.

    Args:
        parity: What was measured.
        settings: What is allowed.

    Raises:
        DataError: If scores or features lie beyond what is allowed.
        NotReadyError: If something could not be compared; what cannot be checked has not passed.
    """
    scores, features = parity.scores, parity.features
    if scores.exceeding:
        worst = next(one for row in scores.bundles for one in row.exceeding)
        raise DataError(
            f"{scores.exceeding} of {scores.compared} served scores are not the bundle's",
            field="request_id", value=worst.request_id,
            remedy="see the rows above; deploy the bundle again if its model or tokens in Triton are others",
        )  # fmt: skip
    share = features.equal_share
    if features.missing or (share is not None and share < settings.min_equal_share):
        column = (*features.differing, *features.missing)[0]
        raise DataError(
            f"features served are not those rebuilt (equal: {_share(share)})",
            field=column.column, value=column.served,
            remedy=f"request {column.example} has {column.rebuilt or 'none'} in the window; "
            "see whether features were materialized after the day's ingest",
        )  # fmt: skip
    for row in scores.bundles:
        if row.unchecked:
            raise NotReadyError(
                "scores cannot be compared", field="bundle", value=row.bundle, remedy=f"{row.unchecked}; mend that"
            )
    if not scores.compared:
        raise NotReadyError(
            "no score can be compared",
            field="date",
            value=parity.date,
            remedy="no bundle scored an impression that day",
        )
    if not features.compared:
        raise NotReadyError(
            "no feature can be compared", field="date", value=parity.date,
            remedy="set gateway.log_features, and build the window from the day's impressions",
        )  # fmt: skip
    if features.not_rebuilt:
        raise NotReadyError(
            f"the window lacks {features.not_rebuilt} requests of the day", field="window", value=features.window,
            remedy=f"run `freshrank labels --date {parity.date}` and `freshrank window build --date {parity.date}`",
        )  # fmt: skip


def _share(share: float | None) -> str:
    return "nothing to compare" if share is None else f"{share:.4%}"
