"""What a model sees: B requests with S = ΣC candidates in all, embedded.

Shape suffixes: B requests, S candidates of all requests in order, L positions of a history, I distinct items of the
batch, T text tokens, P image patches, D widths.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class ContentBatch:
    """Frozen tokens of the distinct items of a batch, and which candidate or history position is which item.

    Args:
        text_ITD: Text tokens, zero where masked.
        text_mask_IT: True where there is a token; all False where the item has no text.
        image_IPD: Patch tokens, zero where masked.
        image_mask_I: True where the item has an image.
        image_global_ID: Vector of the whole image.
        text_key_I: Integer that differs where texts differ (from the content hash).
        image_key_I: Integer that differs where images differ.
        candidate_S: Item of each candidate.
        history_BL: Item of each position, by sequence name (any value where the sequence's mask is False).
        category_I: Category index of each item, for negatives of the same category; 0 = unknown.
    """

    text_ITD: Tensor
    text_mask_IT: Tensor
    image_IPD: Tensor
    image_mask_I: Tensor
    image_global_ID: Tensor
    text_key_I: Tensor
    image_key_I: Tensor
    candidate_S: Tensor
    history_BL: dict[str, Tensor]
    category_I: Tensor

    def take(self, rows: Tensor) -> ContentBatch:
        """Some of the items alone, by their rows; candidates and histories point nowhere any more."""
        of_batch = ("candidate_S", "history_BL")
        own = {f.name: getattr(self, f.name)[rows] for f in fields(self) if f.name not in of_batch}
        return replace(self, **own, candidate_S=self.candidate_S[:0], history_BL={})


@dataclass(frozen=True)
class Batch:
    """A batch of requests.

    Args:
        embedded: Space name → field name → vectors: [B, D] for user and context fields, [S, D] for item and cross
            fields, [B, L, D] for fields of histories.
        request_S: Request of each candidate, ascending.
        masks_BL: Sequence name → True where the history has an item. Newest last, padding in front.
        content: Text and image tokens, or None.
        labels_S: Task name → 0 or 1 of each candidate; empty at serving.
        ids: Field name → the indices behind `embedded` (same leading shape), for tasks that need identities.
        progress: Share of the training done, 0 to 1, for schedules.
        request_fields: Names of the fields that have one value a request.

    Example:
        Two requests. The first has three candidates and a user who bought two items; the second has two candidates and
        a user who bought nothing. B = 2, S = 5, L = 3, D = 4::

            request                0                 1
            user_id                u0                u1           [B, D]     embedded["main"]["user_id"]
            item_id                i0    i1    i2    i3    i4     [S, D]     embedded["main"]["item_id"]
            request_S              0     0     0     1     1      [S]
            buys.item_id           –     b0    b1    –  –  –      [B, L, D]  embedded["main"]["buys.item_id"]
            masks_BL["buys"]       F     T     T     F  F  F      [B, L]
            labels_S["cvr"]        0     1     0     0     0      [S]

        >>> vectors = {"user_id": torch.ones(2, 4), "item_id": torch.ones(5, 4), "buys.item_id": torch.ones(2, 3, 4)}
        >>> batch = Batch(
        ...     embedded={"main": vectors},
        ...     request_S=torch.tensor([0, 0, 0, 1, 1]),
        ...     masks_BL={"buys": torch.tensor([[False, True, True], [False, False, False]])},
        ...     labels_S={"cvr": torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0])},
        ...     request_fields=frozenset({"user_id"}),
        ... )
        >>> batch.requests, batch.of("main", "user_id").shape, batch.of("main", "item_id").shape
        (2, torch.Size([5, 4]), torch.Size([5, 4]))
        >>> batch.to_candidates(batch.masks_BL["buys"].sum(dim=1)).tolist()  # items bought, for each candidate
        [2, 2, 2, 0, 0]
    """

    embedded: dict[str, dict[str, Tensor]]
    request_S: Tensor
    masks_BL: dict[str, Tensor] = field(default_factory=dict)
    content: ContentBatch | None = None
    labels_S: dict[str, Tensor] = field(default_factory=dict)
    ids: dict[str, Tensor] = field(default_factory=dict)
    progress: float = 0.0
    request_fields: frozenset[str] = frozenset()

    def to_candidates(self, x_B: Tensor) -> Tensor:
        """Repeat a per-request tensor for each candidate of the request: [B, …] → [S, …]."""
        return x_B.index_select(0, self.request_S)

    def of(self, space: str, name: str) -> Tensor:
        """Vectors of one field for every candidate, [S, D], whichever group it belongs to.

        Fields of histories are not repeated: take them from `embedded`.
        """
        x = self.embedded[space][name]
        return self.to_candidates(x) if name in self.request_fields else x

    @property
    def requests(self) -> int:
        """Requests of the batch (B), those without candidates included where a history or a field tells of them."""
        for mask_BL in self.masks_BL.values():
            return len(mask_BL)
        for vectors in self.embedded.values():
            for name in self.request_fields & vectors.keys():
                return len(vectors[name])
        return int(self.request_S[-1]) + 1 if len(self.request_S) else 0

    def to(self, device: torch.device | str) -> Batch:
        """The batch on another device."""
        return replace(self, **{f.name: _move(getattr(self, f.name), device) for f in fields(self)})


def _move(value: Any, device: torch.device | str) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {key: _move(item, device) for key, item in value.items()}
    if isinstance(value, ContentBatch):
        return replace(value, **{f.name: _move(getattr(value, f.name), device) for f in fields(value)})
    return value
