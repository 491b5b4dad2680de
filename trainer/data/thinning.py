"""Thinning of negatives: one share for a window, chosen by hash, made up for in the served logit."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from features.errors import UsageError
from trainer.settings import TrainSettings


def uniform(*key: str) -> float:
    """A number in [0, 1) that depends on the key alone.

    Example:
        >>> uniform("r1", "i1") == uniform("r1", "i1")
        True
    """
    digest = hashlib.blake2b("\0".join(key).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def kept(
    requests: npt.NDArray[np.object_], items: npt.NDArray[np.object_], positive: npt.NDArray[np.bool_], share: float
) -> npt.NDArray[np.bool_]:
    """Which candidates training sees: every positive, and the negatives with hash(request, item) < share.

    Args:
        requests: Request id of each candidate, [S].
        items: Item id of each candidate, [S].
        positive: Whether it is a positive, [S].
        share: Share of negatives kept.

    Returns:
        True where kept, [S].
    """
    if share >= 1:
        return np.ones(len(items), dtype=bool)
    drawn = np.fromiter(
        (uniform(r, i) < share for r, i in zip(requests.tolist(), items.tolist(), strict=True)), bool, len(items)
    )
    found: npt.NDArray[np.bool_] = np.logical_or(positive, drawn)
    return found


def share_of_negatives(positives: int, negatives: int, settings: TrainSettings) -> float:
    """The share of negatives that a window's training keeps, from the settings and the window's base rate.

    Args:
        positives: Positives of the training part.
        negatives: Negatives of it.
        settings: Settings of training.

    Returns:
        The share w: `negatives_kept`, lowered to `negatives_per_positive` and to `max_candidates` where those are set.

    Raises:
        UsageError: If negatives shall be thinned with more than one task: their negatives differ.
    """
    share = settings.negatives_kept
    if settings.negatives_per_positive and positives:
        share = min(share, settings.negatives_per_positive * positives / max(negatives, 1))
    if settings.max_candidates:
        share = min(share, max(settings.max_candidates - positives, positives, 1) / max(negatives, 1))
    if share < 1 and len(settings.tasks) > 1:
        raise UsageError(
            "negatives can be thinned for one task only",
            field="train.tasks",
            value=settings.tasks,
            remedy="train one task, or set train.negatives_kept = 1 and no other limit",
        )
    return share
