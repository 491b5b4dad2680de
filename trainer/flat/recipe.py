"""How to train on a flat set: data, optimisation, regularisation, stopping. The model's own fields are its recipe's."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

from features.configuration import read
from features.errors import UsageError
from trainer.flat.dataset import read_toml
from trainer.recipes import checked_recipe, usage
from trainer.runtime.models.ranges import LARGEST, Fraction, Natural, Range, Rate, Share, Size, Weight
from trainer.runtime.models.recipe import BaseRecipe, ModelRecipe, RecipeError


@dataclass(frozen=True)
class DataRecipe(BaseRecipe):
    """How columns become indices and numbers; all of it is learned from the train split alone.

    Args:
        min_count: Times a value must be seen in the train split to get a row of its own; others share row 0.
        numerical: `embed` multiplies one learned vector with the number; `bucket` makes it a category.
        scale: What is done to a number that is embedded: nothing, (x − mean) / std, (x − min) / (max − min), or
            sign(x) · ln(1 + |x|).
        bucketing: `quantile`: equal-frequency buckets; `squared_log`: the integer ⌊ln(x)²⌋ above 2 and x without its
            fraction below becomes a category like any other, `min_count` included, as is usual for Criteo.
        buckets: How many, for `quantile`.
        missing: What becomes of a missing number: `row` gives it row 0; `zero` puts 0 in its place before anything
            else, and sends the category 0 of `squared_log` to row 0, as FuxiCTR does.
    """

    min_count: Size = 1
    numerical: Literal["embed", "bucket"] = "embed"
    scale: Literal["none", "standard", "minmax", "log"] = "none"
    bucketing: Literal["quantile", "squared_log"] = "quantile"
    buckets: Annotated[int, Range(ge=2)] = 10
    missing: Literal["row", "zero"] = "row"


@dataclass(frozen=True)
class TrainRecipe(BaseRecipe):
    """How the model is fitted.

    Args:
        batch_size: Rows a step.
        drop_last: Whether the rows that fill no batch are left out of an epoch.
        epochs: Epochs at most.
        patience: Epochs in a row without gain after which training ends.
        min_delta: How much better the watched metric must be to count as a gain.
        watch: Metric of the valid split that decides: `auc`, `logloss`, or their difference.
        learning_rate: Learning rate at the start.
        reduce_factor: What the learning rate is multiplied with after each epoch without gain; 1 leaves it.
        min_learning_rate: Where that ends.
        optimizer: Optimiser of everything. `adam` keeps moments of whole tables; `lazy_adam` moves the rows of a table
            that a batch touched alone, which is faster where tables are large, and another algorithm.
        beta1: First decay of Adam.
        beta2: Second decay of Adam.
        epsilon: Term in the denominator.
        clip_norm: Norm that the gradient of all parameters together is clipped to; 0 does not clip.
        loss: `mean` or `sum` over the rows of a batch.
        l2_embedding: λ of (λ/2) Σ w² over the embedding tables, linear weights included, added to the loss.
        l1_embedding: λ of λ Σ |w| over the same.
        l2_rows: Whether these count the whole tables at each step, or the rows that the batch touched, once each.
        l2_linear: The same over first-order weights (the space `linear`) in place of `l2_embedding`; none: the same.
        l2_net: λ of (λ/2) Σ w² over all other parameters.
        l1_net: λ of λ Σ |w| over the same.
        l2_net_of: Whether biases and normalisations belong to them, or matrices alone.
        embedding_dropout: Share dropped of the looked-up vectors; linear weights are spared.
        initialiser: `xavier_normal` for matrices with zero biases, or each layer's own.
        cin_initialiser: The same for the CIN of xDeepFM alone: `own` is torch's, as in FuxiCTR before version 2.
        number_initialiser: The vector of an embedded number: as the tables, or `xavier_normal` of a 1 → width layer.
        seed: Seed of initial weights, order and dropout.
        threads: CPU threads; 0 leaves torch's choice.
        device: `cpu` or `cuda`.
    """

    batch_size: Size = 4096
    drop_last: bool = False
    epochs: Size = 100
    patience: Size = 2
    min_delta: Annotated[float, Range(ge=-LARGEST, le=LARGEST)] = 1e-6
    watch: Literal["auc", "logloss", "auc-logloss"] = "auc"
    learning_rate: Rate = 1e-3
    reduce_factor: Share = 0.1
    min_learning_rate: Weight = 1e-6
    optimizer: Literal["adam", "lazy_adam", "adagrad", "sgd"] = "adam"
    beta1: Fraction = 0.9
    beta2: Fraction = 0.999
    epsilon: Rate = 1e-8
    clip_norm: Weight = 10.0
    loss: Literal["mean", "sum"] = "mean"
    l2_embedding: Weight = 0.0
    l1_embedding: Weight = 0.0
    l2_rows: Literal["table", "touched"] = "table"
    l2_linear: Weight | None = None
    l2_net: Weight = 0.0
    l1_net: Weight = 0.0
    l2_net_of: Literal["all", "matrices"] = "all"
    embedding_dropout: Fraction = 0.0
    initialiser: Literal["xavier_normal", "own"] = "xavier_normal"
    cin_initialiser: Literal["xavier_normal", "own"] = "xavier_normal"
    number_initialiser: Literal["table", "xavier_normal"] = "table"
    seed: Annotated[int, Range(ge=0, le=10**18)] = 0
    threads: Natural = 0
    device: Literal["cpu", "cuda"] = "cpu"

    def __post_init__(self) -> None:
        """Check ranges, and what goes together."""
        super().__post_init__()
        if (
            self.optimizer == "lazy_adam"
            and self.l2_rows == "table"
            and (self.l2_embedding or self.l1_embedding or self.l2_linear)
        ):
            raise RecipeError(
                "lazy_adam moves touched rows alone", field="l2_rows", value="table", remedy="use 'touched', or adam"
            )


@dataclass(frozen=True)
class FlatRecipe(BaseRecipe):
    """The three tables of `recipe.toml`.

    Args:
        data: Table `[data]`.
        train: Table `[train]`.
        model: Table `[model]`: fields of the model's own recipe.
    """

    data: DataRecipe = field(default_factory=DataRecipe)
    train: TrainRecipe = field(default_factory=TrainRecipe)
    model: dict[str, object] = field(default_factory=dict)


def read_recipe(path: Path | None, model: str, seed: int | None = None) -> tuple[FlatRecipe, ModelRecipe]:
    """Read and check `recipe.toml`.

    Args:
        path: The file; None for the defaults.
        model: Name of the model.
        seed: Seed in place of the file's.

    Returns:
        The recipe, and the model's own, typed.

    Raises:
        UsageError: If a field or a value is wrong, or the model's name.
    """
    values = read_toml(path) if path is not None else {}
    recipe = read(FlatRecipe, values)
    if "optimizer" in recipe.model:
        raise UsageError(
            "a flat set has one optimiser, that of [train]",
            field="model.optimizer",
            value=recipe.model["optimizer"],
            remedy="set train.learning_rate and train.optimizer",
        )
    typed = checked_recipe(model, recipe.model, "model.")
    if seed is None:
        return recipe, typed
    try:
        return replace(recipe, train=replace(recipe.train, seed=seed)), typed
    except RecipeError as error:
        raise usage(error, "train.") from None
