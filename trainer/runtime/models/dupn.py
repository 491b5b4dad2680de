"""DUPN, deep user perception network (Ni et al. 2018): property-gated LSTM and attention, for one task."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainer.runtime.models.batch import Batch
from trainer.runtime.models.layers.attention import QueryAttention
from trainer.runtime.models.layers.gru import PropertyLSTM
from trainer.runtime.models.layers.histories import SequenceRecipe
from trainer.runtime.models.layers.mlp import MLP, Activation
from trainer.runtime.models.layers.sequence_ranker import SequenceRanker
from trainer.runtime.models.ranges import Fraction, Size
from trainer.runtime.models.schema import Schema


@dataclass(frozen=True)
class DUPNRecipe(SequenceRecipe):
    """Recipe.

    Args:
        state: Width of the LSTM's state.
        attention: Width of the attention network.
        hidden: Widths of the final MLP.
        activate: Its activation.
        dropout: Share dropped after each hidden layer.
        batch_norm: Whether to normalise before each activation.
    """

    state: Size = 64
    attention: Size = 64
    hidden: tuple[Size, ...] = (128, 64)
    activate: Activation = "relu"
    dropout: Fraction = 0.0
    batch_norm: bool = False


class Perception(nn.Module):
    """One history: LSTM states, attended by what is asked and by whom.

    Args:
        inputs: Width of an item.
        properties: Width of a behaviour's properties.
        query: Width of the query: candidate and the request's fields.
        recipe: The recipe.
    """

    def __init__(self, inputs: int, properties: int, query: int, recipe: DUPNRecipe) -> None:
        super().__init__()
        self.lstm = PropertyLSTM(inputs, properties, recipe.state)
        # The property stands beside the state where the attention is computed, and in what is summed (Figure 3).
        self.attention = QueryAttention(query, recipe.state + properties, recipe.attention)
        self.width = recipe.state + properties

    def forward(
        self, query_SQ: Tensor, past_BLE: Tensor, property_BLP: Tensor, mask_BL: Tensor, request_S: Tensor
    ) -> Tensor:
        """[S, width]; zero where the history is empty."""
        states_BLH = self.lstm(past_BLE, property_BLP, mask_BL)
        out: Tensor = self.attention(query_SQ, torch.cat([states_BLH, property_BLP], 2), mask_BL, request_S)
        return out


class DUPN(SequenceRanker):
    """ŷ = σ(MLP([fields; candidate; attended states of each history]))."""

    Recipe = DUPNRecipe

    def __init__(self, schema: Schema, recipe: DUPNRecipe) -> None:
        super().__init__(schema, recipe, properties=False, candidate=False)
        histories = self.histories.histories()
        self.perception = nn.ModuleList(
            Perception(history.width, history.property_width, self.other_width, recipe) for history in histories
        )
        widths = [history.property_width + recipe.state for history in histories]
        self.mlp = MLP(
            self.other_width + sum(widths),
            recipe.hidden,
            output=1,
            activate=recipe.activate,
            dropout=recipe.dropout,
            batch_norm=recipe.batch_norm,
        )

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Logits of the one task."""
        content_ID, content_SD = self.histories.contents(batch)
        other_SC = self.other(batch, content_SD)
        parts = [other_SC]
        for history, perception in zip(self.histories.histories(), self.perception, strict=True):
            past_BLE, mask_BL = history.past(batch, content_ID)
            parts.append(perception(other_SC, past_BLE, history.property(batch), mask_BL, batch.request_S))
        return {self.task: self.mlp(torch.cat(parts, 1)).squeeze(1)}
