"""How well a bundle tells a listing's own text and photo from another's, on products it was never trained on.

Positive: the listing as it is. ITA's negative: its photo with another listing's text; TIA's: its text with another's
photo. The other one is drawn at random, or from the same category. Everything goes through the served interface: only
the content hashes of a candidate are exchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trainer.data.window import chunks, raw, select
from trainer.evaluate.figures import Alignment, Matching
from trainer.evaluate.metrics import finite
from trainer.runtime.encoding import Raw
from trainer.runtime.scorer import Scorer

TASKS = {"ita": "cand_text_sha", "tia": "cand_image_sha"}


def accuracy(files: Sequence[Path], scorer: Scorer, seen: set[str], limit: int = 1000) -> Alignment | None:
    """ITA and TIA accuracy of a bundle, half of the pairs positive.

    Args:
        files: A day's requests.
        scorer: The bundle.
        seen: Items shown on training days; they are left out.
        limit: Products to look at, at most.

    Returns:
        What was found; None for a model without these tasks. ITA and TIA share their positives: they are not
        independent evidence.

    Raises:
        DataError: If a logit is not finite: as a comparison it would count as a miss.
    """
    tasks = [task for task in TASKS if f"{task}_logit" in scorer.outputs]
    if not tasks or scorer.content is None:
        return None
    listings, categories = _listings(files, scorer, seen, limit)
    negatives = [_others(listings, categories, same) for same in (False, True)]
    found = {}
    positive = {task: _logits(scorer, listings, task) for task in tasks}
    for task in tasks:
        shares: list[float | None] = []
        for pairs in negatives:
            changed = [_exchanged(listings[place], listings[other], TASKS[task]) for place, other in pairs]
            own = positive[task][np.array([place for place, _ in pairs], dtype=np.int64)] > 0
            right = np.concatenate([own, _logits(scorer, changed, task) < 0])
            shares.append(float(right.mean()) if len(right) else None)
        random, same_category = shares
        found[task] = Matching(random, 2 * len(negatives[0]), same_category, 2 * len(negatives[1]))
    return Alignment(len(listings), found)


def _logits(scorer: Scorer, listings: list[Raw], task: str, size: int = 64) -> npt.NDArray[np.float32]:
    """Logits of listings, [n], scored together in parts."""
    parts = [np.empty(0, np.float32)]
    for start in range(0, len(listings), size):
        some = listings[start : start + size]
        columns = {name: np.concatenate([one.columns[name] for one in some]) for name in some[0].columns}
        counts = {name: np.concatenate([one.counts[name] for one in some]) for name in some[0].counts}
        scored = scorer.score_raw(Raw(columns, counts, some[0].levels))[f"{task}_logit"]
        finite(f"{task}_logit", scored)
        parts.append(scored)
    return np.concatenate(parts)


def _listings(files: Sequence[Path], scorer: Scorer, seen: set[str], limit: int) -> tuple[list[Raw], list[str]]:
    """Products with text and photo, never shown in training, each in the request that showed it first."""
    assert scorer.content is not None
    tokens, columns = scorer.content.tokens, list(scorer.encoding.columns())
    listings: list[Raw] = []
    categories: list[str] = []
    have: set[str] = set()
    for chunk in chunks(files, sorted({*columns, "i_category"}), 512):
        found = raw(chunk, sorted({*columns, "i_category"}))
        items, counts = found.columns["cand_item"], found.counts["candidate"]
        owner = np.repeat(np.arange(len(counts)), counts)
        ok = (tokens.rows(found.columns["cand_text_sha"]) >= 0) & (tokens.rows(found.columns["cand_image_sha"]) >= 0)
        for at in np.flatnonzero(ok).tolist():
            if items[at] in seen or items[at] in have or len(listings) >= limit:
                continue
            have.add(items[at])
            kept = np.zeros(len(items), bool)
            kept[at] = True
            listings.append(select(found, np.array([owner[at]]), kept))
            category = found.columns["i_category"][at] if "i_category" in found.columns else None
            categories.append(category or "")
    return listings, categories


def _others(listings: list[Raw], categories: list[str], same: bool) -> list[tuple[int, int]]:
    """A listing and another whose text and photo both differ, drawn by a fixed seed."""
    rng = np.random.default_rng(0)
    pairs = []
    for place, listing in enumerate(listings):
        for other in rng.permutation(len(listings)).tolist():
            alike = not same or (categories[place] and categories[place] == categories[other])
            if alike and all(_sha(listing, c) != _sha(listings[other], c) for c in TASKS.values()):
                pairs.append((place, other))
                break
    return pairs


def _sha(listing: Raw, column: str) -> object:
    return listing.columns[column][0]


def _exchanged(listing: Raw, other: Raw, column: str) -> Raw:
    changed: npt.NDArray[np.generic] = other.columns[column]
    return replace(listing, columns={**listing.columns, column: changed})
