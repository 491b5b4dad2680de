"""DUPN, deep user perception network (Ni et al. 2018): property-gated LSTM and attention, for one task."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainer.runtime.models.layers.attention import QueryAttention
from trainer.runtime.models.layers.gru import PropertyLSTM
from trainer.runtime.models.layers.histories import SequenceRecipe
from trainer.runtime.models.layers.sequence_ranker import Past, SequenceRanker
from trainer.runtime.models.layers.tower import TowerRecipe, tower
from trainer.runtime.models.ranges import Size
from trainer.runtime.models.schema import Schema


@dataclass(frozen=True)
class DUPNRecipe(TowerRecipe, SequenceRecipe):
    """Recipe.

    Args:
        state: Width of the LSTM's state.
        attention: Width of the attention network.
        hidden: Widths of the final MLP.
    """

    state: Size = 64
    attention: Size = 64
    hidden: tuple[Size, ...] = (128, 64)


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
        self.mlp = tower(self.other_width + sum(widths), recipe)

    def interest(self, past: Past, other_SC: Tensor) -> Tensor:
        """Its states, attended by candidate and request, [S, width]."""
        properties_BLP = past.history.property(past.batch)
        perception = self.perception[past.place]
        out: Tensor = perception(other_SC, past.items_BLE, properties_BLP, past.mask_BL, past.batch.request_S)
        return out
