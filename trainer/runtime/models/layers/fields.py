"""Fields of a candidate side by side, as factorisation machines and their deep kin want them.

Shape suffixes: B requests, S candidates, F fields, L positions of a history, D width of an embedding.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from trainer.runtime.models.batch import Batch
from trainer.runtime.models.layers.content import PooledContent
from trainer.runtime.models.layers.masked import masked_mean
from trainer.runtime.models.ranges import Size, Weight
from trainer.runtime.models.recipe import ModelRecipe, Optimizer, RecipeError
from trainer.runtime.models.schema import ModelFeature, Schema, Space


@dataclass(frozen=True)
class InputRecipe(ModelRecipe):
    """What every model on embedded fields can be told.

    Args:
        width: Width of the embeddings.
        fields: Names of the fields to use (`<sequence>.<field>` for a history's); empty for all.
        task: Task to learn; empty for the first that the data have.
        init_std: Standard deviation of the initial embeddings.
    """

    width: Size = 16
    fields: tuple[str, ...] = ()
    task: str = ""
    init_std: Weight = 0.01


@dataclass(frozen=True)
class FieldsRecipe(InputRecipe):
    """What a model that knows nothing of sequences and content can be told besides.

    Args:
        content: `pooled` adds one field made of the item's text and image.
        history: `mean` adds a field for each field of each history: the mean over its items. `none` leaves them out.
    """

    content: Literal["none", "pooled"] = "none"
    history: Literal["none", "mean"] = "mean"
    # First-order weights of IDs learn by heart at the 0.05 that suits vectors behind a network.
    optimizer: Optimizer = field(default_factory=lambda: Optimizer(table_lr=0.01))


def check_fields(schema: Schema, recipe: InputRecipe) -> None:
    """Raise if the recipe names a field that the data lack.

    Raises:
        RecipeError: If it does.
    """
    names = [feature.name for feature in schema.all_features()]
    unknown = sorted(set(recipe.fields) - set(names))
    if unknown:
        raise RecipeError("no such field", field="fields", value=unknown, remedy=f"use some of: {', '.join(names)}")


def chosen(schema: Schema, recipe: FieldsRecipe) -> tuple[tuple[ModelFeature, ...], tuple[ModelFeature, ...]]:
    """Fields of request and candidate, and fields of histories, that the recipe lets in.

    Raises:
        RecipeError: If the recipe names a field that the data lack, or leaves none.
    """
    check_fields(schema, recipe)
    only = set(recipe.fields)
    direct = tuple(feature for feature in schema.features if not only or feature.name in only)
    past = tuple(
        feature
        for sequence in schema.sequences
        for feature in sequence.features
        if recipe.history == "mean" and (not only or feature.name in only)
    )
    if not direct and not past:
        raise RecipeError("no field is left", field="fields", value=recipe.fields, remedy="name fields of the data")
    return direct, past


def fields_space(schema: Schema, recipe: FieldsRecipe, name: str, width: int) -> Space:
    """The embeddings behind `Fields` of that name and width."""
    direct, past = chosen(schema, recipe)
    return Space(name, width, tuple(feature.name for feature in direct + past), recipe.init_std)


def count_fields(schema: Schema, recipe: FieldsRecipe) -> int:
    """How many fields `Fields` puts side by side."""
    direct, past = chosen(schema, recipe)
    return len(direct) + len(past) + int(recipe.content == "pooled")


def task_of(schema: Schema, asked: str) -> str:
    """The task of a model that ranks for one: what its recipe asks for, or the first of the data.

    Raises:
        RecipeError: If the data lack it.
    """
    task = asked or schema.tasks[0]
    if task not in schema.tasks:
        raise RecipeError("no such task", field="task", value=task, remedy=f"use one of: {', '.join(schema.tasks)}")
    return task


def pooled_content(schema: Schema, content: Literal["none", "pooled"], width: int) -> PooledContent | None:
    """The layer that pools content, where the recipe asks for it.

    Raises:
        RecipeError: If it asks for it and the data have none.
    """
    if content == "none":
        return None
    if schema.content is None:
        raise RecipeError("the data have no text and image", field="content", value="pooled", remedy="use 'none'")
    return PooledContent(schema.content, width)


class Fields(nn.Module):
    """Looks up all fields of all candidates: fields of the request, means of histories, fields of the item, content.

    Args:
        schema: What the data have.
        recipe: Which of it to use.
        space: Name of the embeddings.
        width: Their width D.
    """

    def __init__(self, schema: Schema, recipe: FieldsRecipe, space: str, width: int) -> None:
        super().__init__()
        direct, past = chosen(schema, recipe)
        self.space = space
        self.request = tuple(feature.name for feature in direct if feature.group in ("user", "context"))
        self.candidate = tuple(feature.name for feature in direct if feature.group in ("item", "cross"))
        self.past = tuple(feature.name for feature in past)
        self.content = pooled_content(schema, recipe.content, width)
        self.names = self.request + self.past + self.candidate + (("content",) if self.content is not None else ())

    def forward(self, batch: Batch) -> Tensor:
        """All fields of the candidates, [S, F, D], in the order of `names`."""
        embedded = batch.embedded[self.space]
        parts: list[Tensor] = []
        per_request = [embedded[name] for name in self.request]
        per_request += [masked_mean(embedded[name], batch.masks_BL[name.split(".", 1)[0]]) for name in self.past]
        if per_request:
            parts.append(batch.to_candidates(torch.stack(per_request, 1)))
        if self.candidate:
            parts.append(torch.stack([embedded[name] for name in self.candidate], 1))
        if self.content is not None:
            assert batch.content is not None
            content_ID = self.content(batch.content)
            parts.append(content_ID.index_select(0, batch.content.candidate_S).unsqueeze(1))
        return torch.cat(parts, 1) if len(parts) > 1 else parts[0]


class LinearTerm(nn.Module):
    """First-order part: a weight for each value of each field, summed, plus a bias; the `linear` space of width 1."""

    def __init__(self, schema: Schema, recipe: FieldsRecipe) -> None:
        super().__init__()
        self.fields = Fields(schema, recipe, "linear", 1)
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, batch: Batch) -> Tensor:
        """[S]."""
        weights_SF1: Tensor = self.fields(batch)
        return weights_SF1.sum((1, 2)) + self.bias
