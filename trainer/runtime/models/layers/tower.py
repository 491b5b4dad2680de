"""The perceptron at the top of a model, as its recipe describes it."""

from __future__ import annotations

from dataclasses import dataclass

from trainer.runtime.models.layers.mlp import MLP, Activation
from trainer.runtime.models.ranges import Fraction, Size
from trainer.runtime.models.recipe import BaseRecipe


@dataclass(frozen=True)
class TowerRecipe(BaseRecipe):
    """What a model with a perceptron can be told of it; a model's own defaults are its paper's.

    Args:
        hidden: Widths of its hidden layers.
        activate: Their activation.
        dropout: Share dropped after each hidden layer.
        batch_norm: Whether to normalise before each activation.
    """

    hidden: tuple[Size, ...] = (200, 80)
    activate: Activation = "relu"
    dropout: Fraction = 0.0
    batch_norm: bool = False


def tower(inputs: int, recipe: TowerRecipe) -> MLP:
    """A new perceptron with one output.

    Args:
        inputs: Width of the input.
        recipe: Its layers.

    Example:
        >>> tower(4, TowerRecipe(hidden=(8,))).width
        1
    """
    return MLP(
        inputs,
        recipe.hidden,
        output=1,
        activate=recipe.activate,
        dropout=recipe.dropout,
        batch_norm=recipe.batch_norm,
    )
