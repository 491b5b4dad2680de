"""The frame of the models of sequences: fields beside histories, and an MLP on top.

Shape suffixes: B requests, S candidates, L positions of a history, I distinct items, D width, E width of an item.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from trainer.runtime.models.batch import Batch
from trainer.runtime.models.layers.fields import Fields, FieldsRecipe, task_of
from trainer.runtime.models.layers.histories import (
    Histories,
    History,
    HistoryRecipe,
    SequenceRecipe,
    read_sequences,
    sequence_space,
)
from trainer.runtime.models.layers.mlp import MLP
from trainer.runtime.models.ranker import RankingModel
from trainer.runtime.models.schema import Schema, Space


def plain_fields(schema: Schema, recipe: HistoryRecipe) -> Fields:
    """The fields of requests and candidates that the recipe lets in."""
    return Fields(schema, FieldsRecipe(fields=recipe.fields, history="none"), "main", recipe.width)


def shorten(schema: Schema, recipe: HistoryRecipe) -> Schema:
    """The schema with its histories no longer than the recipe lets them be."""
    lengths = {sequence.name: sequence.length for sequence in read_sequences(schema, replace(recipe, sequences=()))}
    return replace(schema, sequences=tuple(replace(s, length=lengths[s.name]) for s in schema.sequences))


class HistoryRanker(RankingModel):
    """Fields of request, candidate and crosses, and histories, in one space `main`.

    Args:
        schema: What the data have.
        recipe: The recipe.
    """

    def __init__(self, schema: Schema, recipe: HistoryRecipe) -> None:
        super().__init__(schema, recipe)
        self.task = task_of(schema, recipe.task)
        self.fields = plain_fields(schema, recipe)

    @classmethod
    def spaces(cls, schema: Schema, recipe: Any) -> tuple[Space, ...]:
        """`main`."""
        return (sequence_space(schema, recipe),)

    @classmethod
    def reads(cls, schema: Schema, recipe: Any) -> Schema:
        """As for every model, and histories no longer than the recipe lets them be."""
        return shorten(super().reads(schema, recipe), recipe)


@dataclass(frozen=True)
class Past:
    """One history of a batch, as a model reads it.

    Args:
        place: Its number among the model's histories.
        history: How it is laid out.
        batch: The batch.
        content_SD: Pooled content of the candidates; None without content.
        items_BLE: Its items, zero where masked.
        mask_BL: True where there is an item.
    """

    place: int
    history: History
    batch: Batch
    content_SD: Tensor | None
    items_BLE: Tensor
    mask_BL: Tensor

    def candidate(self) -> Tensor:
        """The candidates in the form of its items, [S, E]."""
        return self.history.candidate(self.batch, self.content_SD)


class SequenceRanker(HistoryRanker):
    """An MLP on the fields and on what each history says of the candidate.

    A subclass makes `mlp`, for `other_width` and the widths of its interests, and implements `interest`.

    Args:
        schema: What the data have; without histories the model is an MLP on its fields.
        recipe: The recipe.
        properties: Whether the properties of behaviours belong to the item vectors.
        candidate: Whether the subclass asks for the candidate in the form of an item of a history.
    """

    mlp: MLP

    def __init__(
        self, schema: Schema, recipe: SequenceRecipe, *, properties: bool = True, candidate: bool = True
    ) -> None:
        super().__init__(schema, recipe)
        self.histories = Histories(schema, recipe, properties=properties, candidate=candidate)
        self.other_width = len(self.fields.names) * recipe.width + self.histories.content_width

    def interest(self, past: Past, other_SC: Tensor) -> Tensor:
        """What one history says of each candidate, [S, its width].

        Args:
            past: The history.
            other_SC: The candidates' fields and content.
        """
        raise NotImplementedError

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Logits of the one task."""
        other_SC, pasts = self.gather(batch)
        return {self.task: self.score([other_SC, *(self.interest(past, other_SC) for past in pasts)])}

    def gather(self, batch: Batch) -> tuple[Tensor, Iterator[Past]]:
        """All that is no history, for each candidate, [S, other_width]; and each history, made when its turn comes."""
        content_ID, content_SD = self.histories.contents(batch)
        other_SC: Tensor = self.fields(batch).flatten(1)
        if content_SD is not None:
            other_SC = torch.cat([other_SC, content_SD], 1)
        pasts = (
            Past(place, history, batch, content_SD, *history.past(batch, content_ID))
            for place, history in enumerate(self.histories.histories())
        )
        return other_SC, pasts

    def score(self, parts: list[Tensor]) -> Tensor:
        """Logits, [S], from fields and interests."""
        logits_S: Tensor = self.mlp(torch.cat(parts, 1)).squeeze(1)
        return logits_S
