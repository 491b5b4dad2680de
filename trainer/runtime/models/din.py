"""Deep interest network (Zhou et al. 2018)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainer.runtime.models.batch import Batch
from trainer.runtime.models.layers.attention import TargetAttention
from trainer.runtime.models.layers.histories import SequenceRecipe
from trainer.runtime.models.layers.mlp import MLP, Activation
from trainer.runtime.models.layers.sequence_ranker import SequenceRanker
from trainer.runtime.models.ranges import Fraction, Size
from trainer.runtime.models.schema import Schema


@dataclass(frozen=True)
class DINRecipe(SequenceRecipe):
    """Recipe.

    Args:
        attention: Widths of the activation unit's hidden layers (the authors' code: 80 and 40).
        attention_activate: Their activation (the authors' code: sigmoid).
        attention_softmax: Whether weights are normalised (the authors' code), or raw scores (the paper).
        attention_scale: Whether scores are divided by the root of the width (the authors' code).
        hidden: Widths of the MLP (the paper: 200 and 80).
        activate: Its activation (the paper: Dice).
        dropout: Share dropped after each hidden layer.
        batch_norm: Whether to normalise before each activation.
    """

    attention: tuple[Size, ...] = (80, 40)
    attention_activate: Activation = "sigmoid"
    attention_softmax: bool = True
    attention_scale: bool = True
    hidden: tuple[Size, ...] = (200, 80)
    activate: Activation = "dice"
    dropout: Fraction = 0.0
    batch_norm: bool = False


class DIN(SequenceRanker):
    """ŷ = σ(MLP([fields; candidate; Σ_j a(e_j, candidate) e_j of each history]))  (Eq. 3)."""

    Recipe = DINRecipe

    def __init__(self, schema: Schema, recipe: DINRecipe) -> None:
        super().__init__(schema, recipe)
        histories = self.histories.histories()
        self.attention = nn.ModuleList(
            TargetAttention(
                history.width,
                recipe.attention,
                recipe.attention_activate,
                softmax=recipe.attention_softmax,
                scale=recipe.attention_scale,
            )
            for history in histories
        )
        self.mlp = MLP(
            self.other_width + sum(history.width for history in histories),
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
        for history, attention in zip(self.histories.histories(), self.attention, strict=True):
            past_BLE, mask_BL = history.past(batch, content_ID)
            query_SE = history.candidate(batch, content_SD)
            parts.append(attention(query_SE, past_BLE, mask_BL, batch.request_S))
        return {self.task: self.mlp(torch.cat(parts, 1)).squeeze(1)}
