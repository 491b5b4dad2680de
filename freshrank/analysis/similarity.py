"""How alike texts and photos look to a bundle, each modality alone: the paper's Figures 4 and 5."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from freshrank.analysis.catalogue import each_listing
from trainer.runtime.encoding import Raw
from trainer.runtime.scorer import Scorer


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
        from trainer.runtime.models.layers.alignment import diagonal_contrast

        return diagonal_contrast(torch.tensor(values))


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
    parts = list(each_listing(files, scorer, set(chosen)))
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
    from trainer.runtime.models.layers.alignment import similarity as cosines

    texts, images = [], []
    for part in parts:
        content = scorer.batch(part).content
        assert content is not None
        text_ID, image_ID = scorer.ranker.modality_vectors(content)  # type: ignore[operator]
        texts.append(text_ID[content.candidate_S])
        images.append(image_ID[content.candidate_S])
    found: list[list[float]] = cosines(torch.cat(texts), torch.cat(images)).tolist()
    return found
