"""MMSS: modality attention with image filters (Li et al. 2018), as the item encoder of a sequence model."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainer.runtime.models.batch import Batch, ContentBatch
from trainer.runtime.models.layers.attention import AdditiveAttention, masked_softmax
from trainer.runtime.models.layers.content import normal
from trainer.runtime.models.layers.memory import Memory
from trainer.runtime.models.layers.modalities import ModalItems, ModalRanker, ModalRecipe
from trainer.runtime.models.ranges import Size
from trainer.runtime.models.schema import ContentWidths, Schema


@dataclass(frozen=True)
class MMSSRecipe(ModalRecipe):
    """Recipe.

    Args:
        item_width: Width of each modality's vector and of the item.
        token_attention: Width of the attention to words and to patches.
    """

    item_width: Size = 64
    token_attention: Size = 64


class FilteredContent(nn.Module):
    """Vectors of text and image: attended words, and attended patches behind an image filter (sections 3.2-3.4).

    The filter is a gate on the image, α = σ(W_g [whole image; text]): a photo that does not fit its text is let
    through less.

    Args:
        content: Widths of the tokens.
        width: Width of the vectors.
        attention: Width of the attention networks.
    """

    def __init__(self, content: ContentWidths, width: int, attention: int) -> None:
        super().__init__()
        self.word = nn.Linear(content.text_width, width)
        self.patch = nn.Linear(content.image_width, width)
        self.words = AdditiveAttention(width, attention)
        self.patches = AdditiveAttention(width, attention)
        self.filter = nn.Linear(content.image_width + width, width)

    def forward(self, content: ContentBatch) -> tuple[Tensor, Tensor]:
        """Text and image of the distinct items, [I, width] each."""
        text_IH = self.words(torch.tanh(self.word(normal(content.text_ITD))), content.text_mask_IT)
        mask_IP = content.image_mask_I.unsqueeze(1).expand(-1, content.image_IPD.shape[1])
        image_IH = self.patches(torch.tanh(self.patch(normal(content.image_IPD))), mask_IP)
        gate_IH = torch.sigmoid(self.filter(torch.cat([normal(content.image_global_ID), text_IH], 1)))
        return text_IH, gate_IH * image_IH


class MMSS(ModalRanker):
    """Items as Σ_m a_m x_m over IDs, text and filtered image, a by attention of the IDs; GRU, attention, MLP."""

    Recipe = MMSSRecipe

    def __init__(self, schema: Schema, recipe: MMSSRecipe) -> None:
        super().__init__(schema, recipe)
        self.of_ids = nn.Linear(self.ids_width, recipe.item_width)
        self.tokens: FilteredContent | None = None
        if self.content is not None:
            self.tokens = FilteredContent(self.content, recipe.item_width, recipe.token_attention)
            self.memory = Memory()
            self.query = nn.Linear(recipe.item_width, recipe.token_attention, bias=False)
            self.key = nn.Linear(recipe.item_width, recipe.token_attention)
            self.score = nn.Linear(recipe.token_attention, 1, bias=False)
        self.build_reader(recipe.item_width)

    def encode(self, items: ModalItems, batch: Batch) -> Tensor:
        """[N, item_width]."""
        ids_NH = torch.tanh(self.of_ids(items.ids_NE))
        if self.tokens is None or items.rows_N is None:
            return ids_NH
        content = batch.content
        assert content is not None
        text_IH, image_IH = self.memory(content, self._content).chunk(2, 1)
        views_NMH = torch.stack([ids_NH, text_IH[items.rows_N], image_IH[items.rows_N]], 1)
        has_text_N, has_image_N = content.text_mask_IT.any(1)[items.rows_N], content.image_mask_I[items.rows_N]
        mask_NM = torch.stack([torch.ones_like(has_text_N), has_text_N, has_image_N], 1)
        scores_NM = self.score(torch.tanh(self.key(views_NMH) + self.query(ids_NH).unsqueeze(1))).squeeze(2)
        return torch.einsum("nm,nmh->nh", masked_softmax(scores_NM, mask_NM), views_NMH)

    def _content(self, content: ContentBatch) -> Tensor:
        """Text and filtered image side by side, [I, 2 · item_width]."""
        assert self.tokens is not None
        return torch.cat(self.tokens(content), 1)
