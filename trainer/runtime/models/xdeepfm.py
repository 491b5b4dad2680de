"""xDeepFM (Lian et al. 2018): a compressed interaction network beside a deep and a linear part."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from trainer.runtime.models.batch import Batch
from trainer.runtime.models.layers.factor_ranker import FactorRanker
from trainer.runtime.models.layers.fields import FieldsRecipe, count_fields
from trainer.runtime.models.layers.interaction import CIN
from trainer.runtime.models.layers.mlp import Activation
from trainer.runtime.models.layers.tower import TowerRecipe, tower
from trainer.runtime.models.ranges import Size
from trainer.runtime.models.recipe import RecipeError
from trainer.runtime.models.schema import Schema


@dataclass(frozen=True)
class XDeepFMRecipe(TowerRecipe, FieldsRecipe):
    """Recipe.

    Args:
        cin: Feature maps of each layer of the compressed interaction network.
        cin_activate: Its activation; the paper settles on the identity (section 4.4).
        cin_split_half: Whether half of the maps of a layer go to the output and half to the next layer.
        hidden: Widths of the deep part (the paper: 400 and 400); empty leaves it out.
    """

    cin: tuple[Size, ...] = (100, 100)
    cin_activate: Activation = "none"
    cin_split_half: bool = False
    hidden: tuple[Size, ...] = (400, 400)

    def __post_init__(self) -> None:
        """Check ranges, and that there is an interaction network."""
        super().__post_init__()
        if not self.cin:
            raise RecipeError("out of range", field="cin", value=(), remedy="name the maps of a layer, or use deepfm")


class XDeepFM(FactorRanker):
    """ŷ = σ(w_linearᵀ a + w_dnnᵀ x_dnn + w_cinᵀ p⁺ + b)  (Eq. 10)."""

    Recipe = XDeepFMRecipe

    def __init__(self, schema: Schema, recipe: XDeepFMRecipe) -> None:
        super().__init__(schema, recipe)
        fields = count_fields(schema, recipe)
        self.cin = CIN(fields, recipe.cin, activate=recipe.cin_activate, split_half=recipe.cin_split_half)
        self.cin_output = nn.Linear(self.cin.width, 1)
        self.deep = tower(fields * recipe.width, recipe) if recipe.hidden else None

    def product_layers(self) -> Iterator[nn.Module]:
        """The CIN."""
        yield self.cin

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Logits of the one task."""
        x_SFD = self.fields(batch)
        logits_S = self.linear(batch) + self.cin_output(self.cin(x_SFD)).squeeze(1)
        if self.deep is not None:
            logits_S = logits_S + self.deep(x_SFD.flatten(1)).squeeze(1)
        return {self.task: logits_S}
