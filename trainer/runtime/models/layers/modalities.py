"""IDs, text and image of every item of a batch, candidates and histories alike, for models that fuse them.

Shape suffixes: B requests, S candidates, L positions of a history, I distinct items, N items wherever they stand
(candidates, then the positions of the histories), D width of an embedding, E width of an item's IDs, H width of an
item.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from trainer.runtime.models.batch import Batch
from trainer.runtime.models.layers.attention import QueryAttention
from trainer.runtime.models.layers.gru import MaskedGRU
from trainer.runtime.models.layers.histories import HistoryRecipe, read_sequences
from trainer.runtime.models.layers.mlp import MLP
from trainer.runtime.models.layers.sequence_ranker import HistoryRanker
from trainer.runtime.models.ranges import Fraction, Size
from trainer.runtime.models.recipe import RecipeError
from trainer.runtime.models.schema import Schema


@dataclass(frozen=True)
class ModalRecipe(HistoryRecipe):
    """What a model that fuses modalities can be told.

    Args:
        content: `tokens` reads text and image where the data have them; `none` leaves IDs alone.
        hidden: Widths of the prediction layer (128 and 64 in Li 2020's comparison).
        dropout: Share dropped after each of its layers.
        attention: Width of the attention to the history.
    """

    content: Literal["tokens", "none"] = "tokens"
    hidden: tuple[Size, ...] = (128, 64)
    dropout: Fraction = 0.0
    attention: Size = 64


@dataclass(frozen=True)
class ModalItems:
    """All items of a batch in one row.

    Args:
        ids_NE: Their IDs' embeddings, side by side.
        rows_N: Their row in the batch's content, or None without content.
        candidates: How many of them are candidates; the rest are the histories' items, one history after the other.
        masks_BL: Masks of the histories.
    """

    ids_NE: Tensor
    rows_N: Tensor | None
    candidates: int
    masks_BL: dict[str, Tensor]

    def split(self, x_NH: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Candidates [S, H], and histories [B, L, H] by name, zero where masked."""
        past, start = {}, self.candidates
        for name, mask_BL in self.masks_BL.items():
            count = int(mask_BL.sum())
            out_BLH = x_NH.new_zeros(*mask_BL.shape, x_NH.shape[1])
            past[name] = out_BLH.masked_scatter(mask_BL.unsqueeze(2), x_NH[start : start + count])
            start += count
        return x_NH[: self.candidates], past


class ModalRanker(HistoryRanker):
    """Items fused from IDs, text and image; a GRU over each history, attended by the candidate; an MLP.

    A subclass calls `build_reader` with the width of its items and implements `encode`.

    Args:
        schema: What the data have.
        recipe: The recipe.
    """

    def __init__(self, schema: Schema, recipe: ModalRecipe) -> None:
        super().__init__(schema, recipe)
        self.sequences = read_sequences(schema, recipe)
        only = set(recipe.fields)
        own = [f.name for f in schema.group("item") if not only or f.name in only]
        past = {s.name: [f.name for f in s.features if not only or f.name in only] for s in self.sequences}
        self.ids = tuple(n for n in own if all(f"{s}.{n}" in names for s, names in past.items()))
        self.properties = {
            s: tuple(n for n in names if n.split(".", 1)[1] not in self.ids) for s, names in past.items()
        }
        if not self.ids:
            raise RecipeError(
                "items share no field with their histories", field="fields", value=recipe.fields, remedy="let one in"
            )
        self.ids_width = len(self.ids) * recipe.width
        self.content = schema.content if recipe.content == "tokens" else None

    def encode(self, items: ModalItems, batch: Batch) -> Tensor:
        """Representations of all items, [N, H]."""
        raise NotImplementedError

    def items(self, batch: Batch) -> ModalItems:
        """All items of the batch."""
        embedded, newest = batch.embedded["main"], -self.recipe.history_items
        ids = [torch.cat([embedded[name] for name in self.ids], 1)]
        rows = [] if self.content is None or batch.content is None else [batch.content.candidate_S]
        masks = {}
        for sequence in self.sequences:
            mask_BL = batch.masks_BL[sequence.name][:, newest:]
            parts = [embedded[f"{sequence.name}.{name}"][:, newest:] for name in self.ids]
            ids.append(torch.cat(parts, 2)[mask_BL])
            if self.content is not None and batch.content is not None:
                rows.append(batch.content.history_BL[sequence.name][:, newest:][mask_BL])
            masks[sequence.name] = mask_BL
        return ModalItems(torch.cat(ids), torch.cat(rows) if rows else None, batch.request_S.shape[0], masks)

    def property(self, batch: Batch, sequence: str) -> list[Tensor]:
        """Properties of the behaviours of a history, [B, L, D] each."""
        newest = -self.recipe.history_items
        return [batch.embedded["main"][name][:, newest:] for name in self.properties[sequence]]

    def build_reader(self, width: int) -> None:
        """Make the layers above the items.

        Args:
            width: Width H of an item's representation.
        """
        recipe: ModalRecipe = self.recipe
        inputs = {name: width + len(properties) * recipe.width for name, properties in self.properties.items()}
        self.gru = nn.ModuleDict({name: MaskedGRU(size, width) for name, size in inputs.items()})
        self.attend = nn.ModuleDict({name: QueryAttention(width, width, recipe.attention) for name in inputs})
        other = len(self.fields.names) * recipe.width
        self.mlp = MLP(other + width * (1 + len(inputs)), recipe.hidden, output=1, dropout=recipe.dropout)

    def read(self, items: ModalItems, x_NH: Tensor, batch: Batch) -> Tensor:
        """Candidates and what they find in each history, [S, H · (1 + histories)]."""
        target_SH, past = items.split(x_NH)
        parts = [target_SH]
        for name, past_BLH in past.items():
            mask_BL = items.masks_BL[name]
            states_BLH, _ = self.gru[name](torch.cat([past_BLH, *self.property(batch, name)], 2), mask_BL)
            parts.append(self.attend[name](target_SH, states_BLH, mask_BL, batch.request_S))
        return torch.cat(parts, 1)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Logits of the one task."""
        items = self.items(batch)
        read_SC = self.read(items, self.encode(items, batch), batch)
        fields_SC = self.fields(batch).flatten(1)
        return {self.task: self.mlp(torch.cat([fields_SC, read_SC], 1)).squeeze(1)}
