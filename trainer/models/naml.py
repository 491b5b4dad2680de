"""NAML: attentive multi-view learning (Wu et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from trainer.models.batch import Batch
from trainer.models.layers.attention import AdditiveAttention
from trainer.models.layers.mlp import MLP
from trainer.models.layers.modalities import Items, ModalRanker, ModalRecipe
from trainer.models.schema import Schema


@dataclass(frozen=True)
class NAMLRecipe(ModalRecipe):
    """Recipe.

    Args:
        filters: Filters of the text's convolution, the width of every view (the paper: 400).
        window: Words a filter sees (the paper: 3).
        view_attention: Width of the attention over words, over views and over items (the paper: 200).
        view_dropout: Share dropped of words and of their contexts (the paper: 0.2).
        score: `mlp` puts user, item, their product and all other fields through an MLP; `dot` is the paper's inner
            product, which sees no other field.
    """

    filters: int = 400
    window: int = 3
    view_attention: int = 200
    view_dropout: float = 0.2
    score: Literal["mlp", "dot"] = "mlp"


class TextView(nn.Module):
    """Words through a convolution and ReLU, pooled by attention (Eqs. 1-3).

    Args:
        words: Width of a word.
        recipe: The recipe.
    """

    def __init__(self, words: int, recipe: NAMLRecipe) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(words, recipe.filters, recipe.window, padding="same")
        self.pool = AdditiveAttention(recipe.filters, recipe.view_attention)
        self.dropout = nn.Dropout(recipe.view_dropout)

    def forward(self, text_ITD: Tensor, mask_IT: Tensor) -> Tensor:
        """[I, filters]; zero where there is no text."""
        words_IDT = self.dropout(text_ITD * mask_IT.unsqueeze(2)).transpose(1, 2)
        context_ITC = self.dropout(torch.relu(self.convolution(words_IDT)).transpose(1, 2))
        out: Tensor = self.pool(context_ITC, mask_IT)
        return out


class NAML(ModalRanker):
    """Views of an item, IDs, text and image, pooled by attention; a user's items pooled by attention; their score."""

    Recipe = NAMLRecipe

    def __init__(self, schema: Schema, recipe: NAMLRecipe) -> None:
        super().__init__(schema, recipe)
        width = recipe.filters
        self.of_ids = nn.Linear(self.ids_width, width)
        if self.content is not None:
            self.text = TextView(self.content.text_width, recipe)
            self.image = nn.Linear(self.content.image_width, width)
        self.views = AdditiveAttention(width, recipe.view_attention)
        properties = {name: len(names) * recipe.width for name, names in self.properties.items()}
        self.of_property = nn.ModuleDict({name: nn.Linear(size, width) for name, size in properties.items() if size})
        self.users = nn.ModuleDict(
            {sequence.name: AdditiveAttention(width, recipe.view_attention) for sequence in self.sequences}
        )
        if recipe.score == "mlp":
            inputs = len(self.fields.names) * recipe.width + width * (1 + 2 * len(self.sequences))
            self.mlp = MLP(inputs, recipe.hidden, output=1, dropout=recipe.dropout)
        else:
            self.bias = nn.Parameter(torch.zeros(()))

    def encode(self, items: Items, batch: Batch) -> Tensor:
        """[N, filters]."""
        views = [torch.relu(self.of_ids(items.ids_NE))]
        masks = [torch.ones_like(views[0][:, 0], dtype=torch.bool)]
        if items.rows_N is not None:
            content = batch.content
            assert content is not None
            views.append(self.text(content.text_ITD, content.text_mask_IT)[items.rows_N])
            views.append(torch.relu(self.image(content.image_global_ID))[items.rows_N])
            masks += [content.text_mask_IT.any(1)[items.rows_N], content.image_mask_I[items.rows_N]]
        out: Tensor = self.views(torch.stack(views, 1), torch.stack(masks, 1))
        return out

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Logits of the one task."""
        items = self.items(batch)
        target_SH, past = items.split(self.encode(items, batch))
        users = []
        for name, past_BLH in past.items():
            if name in self.of_property:
                past_BLH = past_BLH + self.of_property[name](torch.cat(self.property(batch, name), 2))
            users.append(batch.to_candidates(self.users[name](past_BLH, items.masks_BL[name])))
        if self.recipe.score == "dot":
            logits_S = self.bias + torch.stack([(user * target_SH).sum(1) for user in users] or [target_SH.sum(1)]).sum(
                0
            )
            return {self.task: logits_S}
        parts = [self.fields(batch).flatten(1), target_SH, *users, *(user * target_SH for user in users)]
        return {self.task: self.mlp(torch.cat(parts, 1)).squeeze(1)}
