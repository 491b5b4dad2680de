"""NAML: attentive multi-view learning (Wu et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from trainer.runtime.models.batch import Batch, ContentBatch
from trainer.runtime.models.layers.attention import AdditiveAttention, masked_softmax
from trainer.runtime.models.layers.content import normal
from trainer.runtime.models.layers.convolution import convolve
from trainer.runtime.models.layers.memory import Memory
from trainer.runtime.models.layers.mlp import MLP, Dropout
from trainer.runtime.models.layers.modalities import ModalItems, ModalRanker, ModalRecipe
from trainer.runtime.models.ranges import Fraction, Natural, Size
from trainer.runtime.models.schema import Schema


@dataclass(frozen=True)
class NAMLRecipe(ModalRecipe):
    """Recipe.

    Args:
        history_items: Newest items of a history to read (the authors' configuration: 50); 0 for all.
        filters: Filters of the text's convolution, the width of every view (the paper: 400).
        window: Words a filter sees (the paper: 3).
        view_attention: Width of the attention over words, over views and over items (the paper: 200).
        view_dropout: Share dropped of words and of their contexts (the paper: 0.2).
        score: `mlp` puts user, item, their product and all other fields through an MLP; `dot` is the paper's inner
            product, which sees no other field.
    """

    history_items: Natural = 50
    filters: Size = 400
    window: Size = 3
    view_attention: Size = 200
    view_dropout: Fraction = 0.2
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
        self.dropout = Dropout(recipe.view_dropout)

    def forward(self, text_ITD: Tensor, mask_IT: Tensor) -> Tensor:
        """[I, filters]; zero where there is no text."""
        text_N = mask_IT.nonzero()[:, 0]
        (found_NC,) = convolve(self.dropout(normal(text_ITD[mask_IT])), mask_IT, [self.convolution])
        context_NC = self.dropout(torch.relu(found_NC))
        # attention where there are words: its scores alone are laid out as a rectangle
        scores_IT = context_NC.new_zeros(mask_IT.shape)
        scores_IT[mask_IT] = self.pool.scores(context_NC)  # [N]
        weights_N1 = masked_softmax(scores_IT, mask_IT)[mask_IT][:, None]
        empty_IC = context_NC.new_zeros(len(mask_IT), context_NC.shape[1])
        pooled_IC: Tensor = empty_IC.index_add(0, text_N, weights_N1 * context_NC)
        return pooled_IC


class NAML(ModalRanker):
    """Views of an item, IDs, text and image, pooled by attention; a user's items pooled by attention; their score."""

    Recipe = NAMLRecipe

    def __init__(self, schema: Schema, recipe: NAMLRecipe) -> None:
        super().__init__(schema, recipe)
        width = recipe.filters
        self.of_ids = nn.Linear(self.ids_width, width)
        if self.content is not None:
            self.text = TextView(self.content.text_width, recipe)
            self.memory = Memory()
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

    def encode(self, items: ModalItems, batch: Batch) -> Tensor:
        """[N, filters]."""
        views = [torch.relu(self.of_ids(items.ids_NE))]
        masks = [torch.ones_like(views[0][:, 0], dtype=torch.bool)]
        if items.rows_N is not None:
            content = batch.content
            assert content is not None
            views += [view[items.rows_N] for view in self.memory(content, self.views_of).chunk(2, 1)]
            masks += [content.text_mask_IT.any(1)[items.rows_N], content.image_mask_I[items.rows_N]]
        out: Tensor = self.views(torch.stack(views, 1), torch.stack(masks, 1))
        return out

    def views_of(self, content: ContentBatch) -> Tensor:
        """Views of text and image, side by side, [I, 2 · filters]."""
        text_IC = self.text(content.text_ITD, content.text_mask_IT)
        return torch.cat([text_IC, torch.relu(self.image(normal(content.image_global_ID)))], 1)

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
