"""Deep interest network (Zhou et al. 2018)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from trainer.runtime.models.layers.attention import TargetAttention
from trainer.runtime.models.layers.histories import SequenceRecipe
from trainer.runtime.models.layers.mlp import Activation
from trainer.runtime.models.layers.sequence_ranker import Past, SequenceRanker
from trainer.runtime.models.layers.tower import TowerRecipe, tower
from trainer.runtime.models.ranges import Size
from trainer.runtime.models.schema import Schema


@dataclass(frozen=True)
class DINRecipe(TowerRecipe, SequenceRecipe):
    """Recipe.

    Args:
        attention: Widths of the activation unit's hidden layers (the authors' code: 80 and 40).
        attention_activate: Their activation (the authors' code: sigmoid).
        attention_softmax: Whether weights are normalised (the authors' code), or raw scores (the paper).
        attention_scale: Whether scores are divided by the root of the width (the authors' code).
        hidden: Widths of the MLP (the paper: 200 and 80).
        activate: Its activation (the paper: Dice).
    """

    attention: tuple[Size, ...] = (80, 40)
    attention_activate: Activation = "sigmoid"
    attention_softmax: bool = True
    attention_scale: bool = True
    hidden: tuple[Size, ...] = (200, 80)
    activate: Activation = "dice"


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
        self.mlp = tower(self.other_width + sum(history.width for history in histories), recipe)

    def interest(self, past: Past, other_SC: Tensor) -> Tensor:  # noqa: ARG002
        """Its items, weighed by the candidate, [S, E]."""
        attention = self.attention[past.place]
        interest_SE: Tensor = attention(past.candidate(), past.items_BLE, past.mask_BL, past.batch.request_S)
        return interest_SE
