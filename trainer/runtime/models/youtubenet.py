"""YoutubeNet: the ranking network of Covington et al. 2016, section 4, with a mean of the watched items."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.runtime.models.batch import Batch
from trainer.runtime.models.layers.histories import SequenceRecipe
from trainer.runtime.models.layers.masked import masked_mean
from trainer.runtime.models.layers.mlp import MLP, Activation
from trainer.runtime.models.layers.sequence_ranker import SequenceRanker
from trainer.runtime.models.ranges import Fraction, Size
from trainer.runtime.models.schema import Schema


@dataclass(frozen=True)
class YoutubeNetRecipe(SequenceRecipe):
    """Recipe.

    Args:
        hidden: Widths of the tower (the paper's Table 1, best row).
        activate: Its activation (the paper: ReLU).
        dropout: Share dropped after each hidden layer.
        batch_norm: Whether to normalise before each activation.
    """

    hidden: tuple[Size, ...] = (1024, 512, 256)
    activate: Activation = "relu"
    dropout: Fraction = 0.0
    batch_norm: bool = False


class YoutubeNet(SequenceRanker):
    """ŷ = σ(MLP([fields; candidate; mean of each history]))."""

    Recipe = YoutubeNetRecipe

    def __init__(self, schema: Schema, recipe: YoutubeNetRecipe) -> None:
        super().__init__(schema, recipe, candidate=False)
        self.mlp = MLP(
            self.other_width + sum(history.width for history in self.histories.histories()),
            recipe.hidden,
            output=1,
            activate=recipe.activate,
            dropout=recipe.dropout,
            batch_norm=recipe.batch_norm,
        )

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Logits of the one task."""
        content_ID, content_SD = self.histories.contents(batch)
        parts = [self.other(batch, content_SD)]
        for history in self.histories.histories():
            past_BLE, mask_BL = history.past(batch, content_ID)
            parts.append(batch.to_candidates(masked_mean(past_BLE, mask_BL)))
        return {self.task: self.mlp(torch.cat(parts, 1)).squeeze(1)}
