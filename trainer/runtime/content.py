"""The content of batches: tokens of the distinct items that a batch names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from trainer.runtime.encoding import Encoded, Items
from trainer.runtime.models.batch import ContentBatch
from trainer.runtime.tokens import F16, I64, U8

SHORTEST = 8  # text tokens that a batch has at least, for windows of convolutions


class TokenSource(Protocol):
    """Where tokens come from: a folder of them, or a bundle's own before those of a store."""

    def rows(self, shas: Iterable[str | None]) -> I64:
        """Row of each content hash, -1 where there is none."""

    def gather_text(self, rows: I64) -> tuple[F16, U8]:
        """Text tokens [n, T, width] and lengths [n]; zero for row -1."""

    def gather_image(self, rows: I64) -> tuple[F16, F16]:
        """Patch tokens [n, P, width] and whole-photo vectors [n, width]; zero for row -1."""


class ContentSource:
    """The content of batches.

    Args:
        tokens: Where tokens come from.
        items: The item table, for histories.
    """

    def __init__(self, tokens: TokenSource, items: Items) -> None:
        self.tokens, self.items = tokens, items
        self._text_rows = tokens.rows(items.text_sha)
        self._image_rows = tokens.rows(items.image_sha)

    def batch(self, encoded: Encoded, category_S: Tensor | None, category_history: dict[str, Tensor]) -> ContentBatch:
        """Tokens of the distinct items of a batch.

        Args:
            encoded: The batch's indices.
            category_S: Category index of each candidate, or None.
            category_history: History → category index of each entry, flat.

        Returns:
            The tokens, an item once, and which candidate or position is which item.
        """
        parts = [
            _triples(self.tokens.rows(encoded.candidate_text), self.tokens.rows(encoded.candidate_image), category_S)
        ]
        for name, rows in encoded.history_items.items():
            parts.append(_triples(self._text_rows[rows], self._image_rows[rows], category_history.get(name)))
        distinct, which = np.unique(np.concatenate(parts), axis=0, return_inverse=True)
        which = which.reshape(-1)
        text_rows, image_rows, category = distinct.T
        text, text_len = self.tokens.gather_text(text_rows)
        longest = max(int(text_len.max(initial=0)), min(SHORTEST, text.shape[1]))
        text = text[:, :longest]  # beyond it every token is masked
        image, whole = self.tokens.gather_image(image_rows)
        ends = np.cumsum([len(part) for part in parts])
        history = {
            name: pad(torch.from_numpy(which[start:end]), encoded.counts[name])
            for name, start, end in zip(encoded.history_items, ends[:-1], ends[1:], strict=True)
        }
        return ContentBatch(
            text_ITD=torch.from_numpy(text).float(),
            text_mask_IT=torch.from_numpy(np.arange(text.shape[1]) < text_len[:, None]),
            image_IPD=torch.from_numpy(image).float(),
            image_mask_I=torch.from_numpy(image_rows >= 0),
            image_global_ID=torch.from_numpy(whole).float(),
            text_key_I=torch.from_numpy(text_rows + 1),
            image_key_I=torch.from_numpy(image_rows + 1),
            candidate_S=torch.from_numpy(which[: ends[0]]),
            history_BL=history,
            category_I=torch.from_numpy(category.copy()),
        )


def pad(flat: Tensor, counts_B: Tensor) -> Tensor:
    """Histories as a rectangle, [N, …] → [B, L, …]: newest last, zeros in front, L the longest but at least 1."""
    mask_BL = mask(counts_B)
    padded = flat.new_zeros((*mask_BL.shape, *flat.shape[1:]))
    return padded.masked_scatter(mask_BL.reshape(*mask_BL.shape, *[1] * (flat.dim() - 1)).expand_as(padded), flat)


def mask(counts_B: Tensor) -> Tensor:
    """True where a padded history has an entry, [B, L]."""
    length = max(1, int(counts_B.max())) if len(counts_B) else 1
    return torch.arange(length) >= (length - counts_B)[:, None]


def _triples(text_rows: I64, image_rows: I64, category: Tensor | None) -> I64:
    kind = np.zeros(len(text_rows), np.int64) if category is None else category.numpy()
    return np.stack([text_rows, image_rows, kind], axis=1)
