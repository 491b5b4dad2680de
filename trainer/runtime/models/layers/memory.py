"""What depends on an item's content alone, computed once where weights stay.

A model in service scores the same listings in request after request. MARN's paper stores the representations of items
when the model is deployed (section 4.9.2); here each is computed when a request first shows it, and kept.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from trainer.runtime.models.batch import ContentBatch

KEPT = 200_000  # contents of which vectors are kept, at most


class Memory(nn.Module):
    """Vectors of contents, cached by the keys of text and image once `begin` was called; before, nothing is.

    It has no weights and no state that a checkpoint would hold. In training mode nothing is cached.

    Args:
        limit: Contents kept, at most; beyond it all are forgotten.
    """

    def __init__(self, limit: int = KEPT) -> None:
        super().__init__()
        self._limit = limit
        self._place: dict[tuple[int, int], int] | None = None
        self._known: Tensor | None = None

    def begin(self) -> None:
        """Remember from now on: for weights that stay, and content keys that stay with their content."""
        self._place, self._known = {}, None

    def end(self) -> None:
        """Drop the cache, and cache no more: the weights will change."""
        self._place, self._known = None, None

    def forward(
        self, content: ContentBatch, compute: Callable[[ContentBatch], Tensor], rows_N: Tensor | None = None
    ) -> Tensor:
        """Vectors of a batch's contents.

        Args:
            content: The contents.
            compute: Contents → [I, …], each row from its own content alone.
            rows_N: The contents that are asked for; all by default.

        Returns:
            [N, …], a row for each that was asked for.
        """
        if self._place is None or self.training:
            return compute(content if rows_N is None else content.take(rows_N))
        keys_NK = torch.stack([content.text_key_I, content.image_key_I], dim=1)
        keys = [(text, image) for text, image in (keys_NK if rows_N is None else keys_NK[rows_N]).tolist()]
        new = {key: at for at, key in enumerate(keys) if key not in self._place}
        if len(self._place) + len(new) > self._limit:
            self._place, self._known = {}, None
            new = {key: at for at, key in enumerate(keys)}
        if new or self._known is None:
            at_N = torch.tensor(list(new.values()), dtype=torch.long, device=keys_NK.device)
            found = compute(content.take(at_N if rows_N is None else rows_N[at_N])).detach()
            self._known = _room(self._known, found, len(self._place))
            self._known[len(self._place) : len(self._place) + len(new)] = found
            self._place |= {key: len(self._place) + at for at, key in enumerate(new)}
        place_N = torch.tensor([self._place[key] for key in keys], dtype=torch.long, device=keys_NK.device)
        return self._known[place_N]


def _room(known: Tensor | None, found: Tensor, used: int) -> Tensor:
    """The store with room for what was found: twice as large where it was full, so that it is seldom copied."""
    if known is not None and used + len(found) <= len(known):
        return known
    larger = found.new_empty(2 * (used + len(found)), *found.shape[1:])
    if known is not None:
        larger[:used] = known[:used]
    return larger
