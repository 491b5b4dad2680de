"""All models by name. A model is registered by its line here."""

from __future__ import annotations

from collections.abc import Mapping

from trainer.runtime.models.afm import AFM
from trainer.runtime.models.bst import BST
from trainer.runtime.models.camenn import CameNN
from trainer.runtime.models.deepfm import DeepFM
from trainer.runtime.models.dien import DIEN
from trainer.runtime.models.din import DIN
from trainer.runtime.models.dmf import DMF
from trainer.runtime.models.dupn import DUPN
from trainer.runtime.models.fashionbert import FashionBERT
from trainer.runtime.models.ffm import FFM
from trainer.runtime.models.fm import FM
from trainer.runtime.models.lr import LR
from trainer.runtime.models.marn import MARN
from trainer.runtime.models.mmoe import MMoE
from trainer.runtime.models.mmss import MMSS
from trainer.runtime.models.naml import NAML
from trainer.runtime.models.popularity import Popularity
from trainer.runtime.models.ranker import RankingModel
from trainer.runtime.models.recipe import ModelRecipe, RecipeError, load
from trainer.runtime.models.schema import Schema
from trainer.runtime.models.wide_deep import WideDeep
from trainer.runtime.models.xdeepfm import XDeepFM
from trainer.runtime.models.youtubenet import YoutubeNet

REGISTRY: dict[str, type[RankingModel]] = {
    "camenn": CameNN,
    "fashionbert": FashionBERT,
    "marn": MARN,
    "afm": AFM,
    "bst": BST,
    "deepfm": DeepFM,
    "dien": DIEN,
    "din": DIN,
    "dmf": DMF,
    "dupn": DUPN,
    "ffm": FFM,
    "fm": FM,
    "lr": LR,
    "mmoe": MMoE,
    "mmss": MMSS,
    "naml": NAML,
    "wide_deep": WideDeep,
    "xdeepfm": XDeepFM,
    "youtubenet": YoutubeNet,
}

# Not trained but counted over a window (`trainer/popularity.py`): a bundle holds it all the same.
COUNTED: dict[str, type[RankingModel]] = {"popularity": Popularity}


def model_class(name: str) -> type[RankingModel]:
    """The class of a registered model.

    Raises:
        RecipeError: If no model has that name.
    """
    if name not in REGISTRY:
        raise RecipeError(
            "unknown model", field="model", value=name, remedy=f"use one of: {', '.join(sorted(REGISTRY))}"
        )
    return REGISTRY[name]


def bundled_class(name: str) -> type[RankingModel]:
    """The class of a model that a bundle holds: a registered one, or one that is counted.

    Raises:
        RecipeError: If no model has that name.
    """
    return COUNTED[name] if name in COUNTED else model_class(name)


def parse_recipe(name: str, recipe: Mapping[str, object] | None = None) -> ModelRecipe:
    """The typed recipe of a model from plain values; what they leave out keeps its default.

    What people wrote goes through `trainer.recipes.checked_recipe` first, which checks types and choices too.

    Args:
        name: The model's name.
        recipe: Field → value.

    Raises:
        RecipeError: If the model or a field is unknown, or a number out of range.
    """
    return load(model_class(name).Recipe, recipe)


def build(name: str, schema: Schema, recipe: Mapping[str, object] | None = None) -> RankingModel:
    """A new model with random weights.

    Args:
        name: The model's name.
        schema: What the data have.
        recipe: Field → value; what it leaves out keeps its default.

    Returns:
        The model, in training mode.

    Raises:
        RecipeError: If the model or a field is unknown, a number out of range, or the data lack what the recipe names.
    """
    kind = model_class(name)
    return kind(schema, load(kind.Recipe, recipe))
