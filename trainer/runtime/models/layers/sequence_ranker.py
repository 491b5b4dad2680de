"""The frame of the models of sequences: fields beside histories, and an MLP on top.

Shape suffixes: B requests, S candidates, L positions of a history, I distinct items, D width, E width of an item.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from trainer.runtime.models.batch import Batch
from trainer.runtime.models.layers.fields import Fields, FieldsRecipe, task_of
from trainer.runtime.models.layers.histories import (
    Histories,
    HistoryRecipe,
    SequenceRecipe,
    read_sequences,
    sequence_space,
)
from trainer.runtime.models.ranker import RankingModel
from trainer.runtime.models.schema import Schema, Space


def plain_fields(schema: Schema, recipe: HistoryRecipe) -> Fields:
    """The fields of requests and candidates that the recipe lets in."""
    return Fields(schema, FieldsRecipe(fields=recipe.fields, history="none"), "main", recipe.width)


def shorten(schema: Schema, recipe: HistoryRecipe) -> Schema:
    """The schema with its histories no longer than the recipe lets them be."""
    lengths = {sequence.name: sequence.length for sequence in read_sequences(schema, replace(recipe, sequences=()))}
    return replace(schema, sequences=tuple(replace(s, length=lengths[s.name]) for s in schema.sequences))


class SequenceRanker(RankingModel):
    """Fields of request, candidate and crosses, and the histories, in one space `main`.

    A subclass turns each history into vectors and concatenates them with `other`.

    Args:
        schema: What the data have; without histories the model is an MLP on its fields.
        recipe: The recipe.
        properties: Whether the properties of behaviours belong to the item vectors.
        candidate: Whether the subclass asks for the candidate in the form of an item of a history.
    """

    def __init__(
        self, schema: Schema, recipe: SequenceRecipe, *, properties: bool = True, candidate: bool = True
    ) -> None:
        super().__init__(schema, recipe)
        self.task = task_of(schema, recipe)
        self.fields = plain_fields(schema, recipe)
        self.histories = Histories(schema, recipe, properties=properties, candidate=candidate)
        self.other_width = len(self.fields.names) * recipe.width + self.histories.content_width

    @classmethod
    def spaces(cls, schema: Schema, recipe: Any) -> tuple[Space, ...]:
        """`main`."""
        return (sequence_space(schema, recipe),)

    @classmethod
    def reads(cls, schema: Schema, recipe: Any) -> Schema:
        """As for every model, and histories no longer than the recipe lets them be."""
        return shorten(super().reads(schema, recipe), recipe)

    def other(self, batch: Batch, content_SD: Tensor | None) -> Tensor:
        """All that is no history, for each candidate, [S, other_width]."""
        fields_SC: Tensor = self.fields(batch).flatten(1)
        return fields_SC if content_SD is None else torch.cat([fields_SC, content_SD], 1)
