"""Figures of a ranking: AUC, AUC averaged over users, log loss, calibration, and intervals by resampling requests.

All of them refuse numbers that are not finite: a sort ranks NaN above all, and positives scored NaN would raise the
AUC.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from features.errors import DataError

if TYPE_CHECKING:
    from trainer.runtime.encoding import Array

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def finite(what: str, numbers: npt.NDArray[np.generic]) -> None:
    """Refuse numbers of which one is not finite.

    Args:
        what: What they are, for the error.
        numbers: The numbers, [n].

    Raises:
        DataError: If one is NaN or infinite.
    """
    bad = np.flatnonzero(~np.isfinite(numbers))
    if len(bad):
        raise DataError(
            "a number is not finite",
            field=what,
            value=f"{numbers[bad[0]]} at place {bad[0]}, {len(bad)} of {len(numbers)} are not finite",
            remedy="a model that gives such scores is not to be judged: train it again",
        )


def auc(score: npt.NDArray[np.generic], label: npt.NDArray[np.generic], weight: F64 | None = None) -> float | None:
    """Area under the ROC curve; ties count half.

    Args:
        score: Scores, [n].
        label: 0 or 1, [n].
        weight: Weights, [n]; 1 by default.

    Returns:
        The area, or None where there is one class only.

    Raises:
        DataError: If a score or a label is not finite.

    Example:
        >>> auc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1]))
        0.75
    """
    prepared = _Auc(score, label)
    return prepared(np.ones(len(score)) if weight is None else weight)


class _Auc:
    """AUC of fixed scores under changing weights: sorted once, then linear."""

    def __init__(self, score: Array, label: Array) -> None:
        finite("score", score)
        finite("label", label)
        self.order = np.argsort(score, kind="stable")
        self.positive = label[self.order] > 0
        ordered = score[self.order]
        self.starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])) if len(score) else None

    def __call__(self, weight: F64) -> float | None:
        if self.starts is None:
            return None
        w = weight[self.order]
        positive = np.add.reduceat(np.where(self.positive, w, 0.0), self.starts)
        negative = np.add.reduceat(np.where(self.positive, 0.0, w), self.starts)
        pairs = positive.sum() * negative.sum()
        if pairs == 0:
            return None
        below = np.cumsum(negative) - negative
        return float((positive * (below + negative / 2)).sum() / pairs)


def user_auc(score: npt.NDArray[np.generic], label: npt.NDArray[np.generic], user: I64) -> float | None:
    """AUC within each user that has both classes, averaged with the users' candidates as weights.

    Args:
        score: Scores, [n].
        label: 0 or 1, [n].
        user: Number of the user, [n].

    Returns:
        The average, or None where no user has both classes.

    Raises:
        DataError: If a score or a label is not finite.
    """
    finite("score", score)
    finite("label", label)
    order = np.argsort(user, kind="stable")
    cuts = np.flatnonzero(np.diff(user[order])) + 1
    total, weight = 0.0, 0
    for part in np.split(order, cuts):
        found = auc(score[part], label[part]) if len(part) else None
        if found is not None:
            total, weight = total + found * len(part), weight + len(part)
    return total / weight if weight else None


def log_loss(logit: npt.NDArray[np.generic], label: npt.NDArray[np.generic]) -> float | None:
    """Mean binary cross-entropy of logits, [n]; None of none. A number that is not finite is a `DataError`."""
    return float(np.mean(_cross_entropy(logit, label))) if len(logit) else None


def _cross_entropy(logit: Array, label: Array) -> F64:
    """Binary cross-entropy of each logit, [n]."""
    finite("logit", logit)
    finite("label", label)
    x = np.asarray(logit, np.float64)
    found: F64 = np.logaddexp(0, x) - x * (label > 0)
    return found


def calibration(
    logit: npt.NDArray[np.floating | np.integer], label: npt.NDArray[np.floating | np.integer]
) -> float | None:
    """Predicted positives over actual ones; None where there are none. A number that is not finite is a `DataError`."""
    finite("logit", logit)
    finite("label", label)
    actual = float((label > 0).sum())
    return float((1 / (1 + np.exp(-np.asarray(logit, np.float64)))).sum() / actual) if actual else None


@dataclass(frozen=True)
class Interval:
    """An estimate with its bootstrap interval.

    Args:
        value: The estimate on the data themselves.
        low: Lower end.
        high: Upper end.
    """

    value: float
    low: float
    high: float


Statistic = Callable[[F64], float | None]
"""From weights of candidates, [n], to a number; None where they have none."""
Numbers = npt.NDArray[np.floating | np.integer | np.bool_]


def auc_gap(first: Numbers, second: Numbers, label: Numbers) -> Statistic:
    """AUC of one model's scores minus another's, [n] each; None where there is one class only."""
    one, other = _Auc(first, label), _Auc(second, label)

    def gap(weight: F64) -> float | None:
        a, b = one(weight), other(weight)
        return None if a is None or b is None else a - b

    return gap


def log_loss_gap(first: Numbers, second: Numbers, label: Numbers) -> Statistic:
    """Log loss of one model's logits minus another's, [n] each.

    None where there are no candidates or one class only: a constant has no log loss to beat.
    """
    gap = _cross_entropy(first, label) - _cross_entropy(second, label)
    both = 0 < int((label > 0).sum()) < len(label)
    return lambda weight: float(gap @ weight / weight.sum()) if both and weight.any() else None


def paired_difference(
    measure: Callable[[Numbers, Numbers, Numbers], Statistic],
    first: Numbers,
    second: Numbers,
    label: Numbers,
    request: I64,
    *,
    resamples: int,
    confidence: float,
    seed: int = 0,
) -> Interval | None:
    """One model's figure minus another's on the same candidates, with a paired bootstrap by request.

    Args:
        measure: `auc_gap` or `log_loss_gap`.
        first: Scores of one model, [n]; logits for a log loss.
        second: Those of the other, [n].
        label: 0 or 1, [n].
        request: Number of the request, [n], from 0 on.
        resamples: Resamples of requests.
        confidence: Confidence of the interval.
        seed: Seed of the resamples.

    Returns:
        The difference, or None where the candidates have none.

    Raises:
        DataError: If a score or a label is not finite.
    """
    statistic = measure(first, second, label)
    value = statistic(np.ones(len(request)))
    if value is None:
        return None
    found = bootstrap(statistic, request, resamples, seed)
    low, high = np.quantile(found, [(1 - confidence) / 2, (1 + confidence) / 2]) if len(found) else (value, value)
    return Interval(value, float(low), float(high))


def bootstrap(statistic: Statistic, request: I64, resamples: int, seed: int) -> F64:
    """A statistic of candidates under resampled requests.

    Args:
        statistic: From weights of candidates to a number.
        request: Number of the request of each candidate.
        resamples: How many.
        seed: Seed.

    Returns:
        The numbers; resamples where there is none are left out.
    """
    rng = np.random.default_rng(seed)
    n = int(request.max()) + 1 if len(request) else 0
    found = []
    for _ in range(resamples if n else 0):
        times = np.bincount(rng.integers(n, size=n), minlength=n).astype(np.float64)
        value = statistic(times[request])
        if value is not None:
            found.append(value)
    return np.array(found)
