"""What a bundle thinks of the catalogue: which listings' text and photo disagree, and how alike the two look to it."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from features.content.store import TokenStore
from trainer.data.window import chunks, raw, select
from trainer.scoring.encoding import Raw
from trainer.scoring.scorer import Scorer

ALIGNMENT = ("ita_logit", "tia_logit")


@dataclass(frozen=True)
class Similarity:
    """Cosines of photos (rows) and texts (columns).

    Args:
        items: The listings.
        before: Of the same network as its training began.
        after: Of the model.
    """

    items: list[str]
    before: list[list[float]]
    after: list[list[float]]

    def contrast(self, values: Sequence[Sequence[float]]) -> float:
        """Mean of the diagonal less the mean of the rest."""
        from trainer.models.layers.alignment import diagonal_contrast

        return diagonal_contrast(torch.tensor(values))


def load(bundle: Path, tokens: TokenStore | None) -> Scorer:
    """A bundle's scorer on the token store as it is, as the serving runtime sees it."""
    scorer = Scorer(bundle)
    if tokens is not None and scorer.info["encoder"] == tokens.folder.name:
        return Scorer(bundle, tokens)
    return scorer


def alignment_scores(files: Sequence[Path], scorer: Scorer) -> dict[str, float]:
    """How well the bundle thinks that text and photo of each listing of a day belong together.

    Args:
        files: The day's requests.
        scorer: The bundle.

    Returns:
        Item → mean of its ITA and TIA logits, for listings that have both text and photo; empty where the model has
        no such tasks.
    """
    if scorer.content is None or not set(ALIGNMENT) <= set(scorer.outputs):
        return {}
    found: dict[str, float] = {}
    for listing in _listings(files, scorer, set()):
        logits = scorer.score_raw(listing)
        mean = np.mean([logits[name] for name in ALIGNMENT], axis=0)
        found |= {str(item): float(value) for item, value in zip(listing.columns["cand_item"], mean, strict=True)}
    return found


def similarity(files: Sequence[Path], scorer: Scorer, seed: int, chosen: Sequence[str]) -> Similarity | None:
    """Each modality alone through the shared bottom, mean-pooled, as the paper's Figures 4 and 5.

    "Before" is before any training; the paper's is a second model, trained without alignment.

    Args:
        files: The day's requests.
        scorer: The bundle.
        seed: The seed of its training.
        chosen: The listings to show.

    Returns:
        The cosines, or None where the model has no such vectors.
    """
    if not hasattr(scorer.ranker, "modality_vectors") or scorer.content is None:
        return None
    parts = list(_listings(files, scorer, set(), only=set(chosen)))
    if not parts:
        return None
    items = [str(item) for part in parts for item in part.columns["cand_item"]]
    return Similarity(items, _cosines(_untrained(scorer, seed), parts), _cosines(scorer, parts))


def _untrained(scorer: Scorer, seed: int) -> Scorer:
    """The scorer with the weights that its network began with."""
    begun = copy.copy(scorer)
    torch.manual_seed(seed)
    begun.ranker = type(scorer.ranker)(scorer.ranker.schema, scorer.ranker.recipe).eval()
    return begun


@torch.inference_mode()
def _cosines(scorer: Scorer, parts: Sequence[Raw]) -> list[list[float]]:
    from trainer.models.layers.alignment import similarity as cosines

    texts, images = [], []
    for part in parts:
        content = scorer.batch(part).content
        assert content is not None
        text_ID, image_ID = scorer.ranker.modality_vectors(content)  # type: ignore[operator]
        texts.append(text_ID[content.candidate_S])
        images.append(image_ID[content.candidate_S])
    found: list[list[float]] = cosines(torch.cat(texts), torch.cat(images)).tolist()
    return found


def _listings(files: Sequence[Path], scorer: Scorer, have: set[str], only: set[str] | None = None) -> Iterator[Raw]:
    """Each listing with text and photo once, in the request that showed it first."""
    assert scorer.content is not None
    tokens, columns = scorer.content.tokens, sorted({*scorer.encoding.columns(), "cand_item"})
    for chunk in chunks(files, columns, 256):
        found = raw(chunk, columns)
        ok = (tokens.rows(found.columns["cand_text_sha"]) >= 0) & (tokens.rows(found.columns["cand_image_sha"]) >= 0)
        kept: npt.NDArray[np.bool_] = np.zeros(len(ok), bool)
        for at, item in enumerate(found.columns["cand_item"].tolist()):
            if ok[at] and item not in have and (only is None or item in only):
                have.add(item)
                kept[at] = True
        if kept.any():
            yield select(found, np.arange(chunk.rows.num_rows), kept)
