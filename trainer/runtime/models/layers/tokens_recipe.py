"""What CameNN and FashionBERT, transformers of a history's and a candidate's tokens, can both be told."""

from __future__ import annotations

from dataclasses import dataclass, field

from trainer.runtime.models.ranges import Fraction, Natural, Size, Weight
from trainer.runtime.models.recipe import ModelRecipe, Optimizer, RecipeError


@dataclass(frozen=True)
class TokensRecipe(ModelRecipe):
    """Width, blocks, history and training.

    Args:
        task: Ranking task to learn; empty for the first that the data have.
        width: Width of tokens.
        heads: Attention heads.
        feed_forward: Hidden width of an encoder block.
        dropout: Share dropped after each sub-layer.
        sequence: The history to read.
        history_items: Newest items of it to read.
        init_std: Standard deviation of initial embeddings.
        optimizer: Adam as CameNN's paper sets it for all models that it compares, and the rate of the tables' own.
    """

    task: str = ""
    width: Size = 64
    heads: Size = 8
    feed_forward: Size = 256
    dropout: Fraction = 0.1
    sequence: str = "buys"
    history_items: Natural = 10
    init_std: Weight = 0.01
    optimizer: Optimizer = field(default_factory=lambda: Optimizer(lr=4e-4, beta1=0.95, beta2=0.999, weight_decay=1e-4))

    def __post_init__(self) -> None:
        """Check ranges, and what goes together."""
        super().__post_init__()
        if self.width % self.heads:
            remedy = f"use a divisor of width {self.width}"
            raise RecipeError("does not divide the width", field="heads", value=self.heads, remedy=remedy)
