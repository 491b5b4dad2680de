"""Behavior sequence transformer (Chen et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.runtime.models.layers.encoder import EncoderBlock
from trainer.runtime.models.layers.histories import SequenceRecipe
from trainer.runtime.models.layers.mlp import Activation
from trainer.runtime.models.layers.sequence_ranker import Past, SequenceRanker
from trainer.runtime.models.layers.tower import TowerRecipe, tower
from trainer.runtime.models.ranges import Fraction, Size
from trainer.runtime.models.recipe import RecipeError
from trainer.runtime.models.schema import Schema


@dataclass(frozen=True)
class BSTRecipe(TowerRecipe, SequenceRecipe):
    """Recipe.

    Args:
        heads: Attention heads (the paper: 8); a divisor of the item vector's width.
        blocks: Transformer blocks (the paper: 1).
        feed_forward: Hidden width of a block.
        positions: Whether items also get a learned position, the newest next to the target's.
        hidden: Widths of the MLP (the paper: 1024, 512, 256).
        activate: Its activation (the paper: LeakyReLU).
        dropout: Share dropped in blocks and after each hidden layer (the paper: 0.2).
    """

    heads: Size = 8
    blocks: Size = 1
    feed_forward: Size = 128
    positions: bool = True
    hidden: tuple[Size, ...] = (1024, 512, 256)
    activate: Activation = "leaky_relu"
    dropout: Fraction = 0.2


class BehaviorTransformer(nn.Module):
    """One history with the target at its end, through transformer blocks; the target's output (section 2.2).

    Positions are embeddings, so the order of the tensor is free: the target stands first in it. The last block computes
    the target's output alone. Of a single block, the history's keys and values depend on no candidate and are
    computed once a request.

    Args:
        width: Width E of items and target.
        length: Items of the history, at most.
        recipe: The recipe.
    """

    def __init__(self, width: int, length: int, recipe: BSTRecipe) -> None:
        super().__init__()
        if width % recipe.heads:
            raise RecipeError(
                f"item vectors are {width} wide", field="heads", value=recipe.heads, remedy=f"use a divisor of {width}"
            )
        self.blocks = nn.ModuleList(
            EncoderBlock(width, recipe.heads, recipe.feed_forward, recipe.dropout, activate=functional.leaky_relu)
            for _ in range(recipe.blocks)
        )
        self.positions = nn.Parameter(torch.randn(length + 1, width) * 0.01) if recipe.positions else None

    def forward(self, target_SE: Tensor, past_BLE: Tensor, mask_BL: Tensor, request_S: Tensor) -> Tensor:
        """[S, E]."""
        if self.positions is not None:
            target_SE = target_SE + self.positions[-1]
            # A batch may hold shorter histories than the schema allows: the newest always stands beside the target.
            past_BLE = past_BLE + self.positions[len(self.positions) - 1 - past_BLE.shape[1] : -1]
        *early, last = self.blocks
        assert isinstance(last, EncoderBlock)
        if not early:
            return last.alone(target_SE, last.keys_values(past_BLE, mask_BL), request_S)
        x_SLE = torch.cat([target_SE.unsqueeze(1), past_BLE.index_select(0, request_S)], 1)
        here_S1 = torch.ones_like(request_S, dtype=torch.bool).unsqueeze(1)
        mask_SL = torch.cat([here_S1, mask_BL.index_select(0, request_S)], 1)
        for block in early:
            x_SLE = block(x_SLE, mask_SL)
        out_S1E: Tensor = last(x_SLE, mask_SL, first=1)
        return out_S1E[:, 0]


class BST(SequenceRanker):
    """ŷ = σ(MLP([fields; the target's output of each history's transformer]))."""

    Recipe = BSTRecipe

    def __init__(self, schema: Schema, recipe: BSTRecipe) -> None:
        super().__init__(schema, recipe)
        histories = self.histories.histories()
        self.transformers = nn.ModuleList(
            BehaviorTransformer(history.width, history.length, recipe) for history in histories
        )
        self.mlp = tower(self.other_width + sum(history.width for history in histories), recipe)

    def interest(self, past: Past, other_SC: Tensor) -> Tensor:  # noqa: ARG002
        """The target's output, [S, E]."""
        transformer = self.transformers[past.place]
        out_SE: Tensor = transformer(past.candidate(), past.items_BLE, past.mask_BL, past.batch.request_S)
        return out_SE
