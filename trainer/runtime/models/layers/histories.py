"""Histories and the candidate as vectors of one make-up, as models of sequences want them.

Shape suffixes: B requests, S candidates, L positions of a history, E width of an item, D width of an embedding.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from trainer.runtime.models.batch import Batch
from trainer.runtime.models.layers.fields import InputRecipe, check_fields, pooled_content
from trainer.runtime.models.ranges import Natural
from trainer.runtime.models.recipe import RecipeError
from trainer.runtime.models.schema import Schema, Sequence, Space


@dataclass(frozen=True)
class HistoryRecipe(InputRecipe):
    """Which histories a model reads.

    Args:
        sequences: Names of the histories; empty for all.
        history_items: Newest items of a history to read; 0 for all.
    """

    sequences: tuple[str, ...] = ()
    history_items: Natural = 0


@dataclass(frozen=True)
class SequenceRecipe(HistoryRecipe):
    """What a model of sequences that knows nothing of content can be told besides.

    Args:
        content: `pooled` adds text and image to the item vectors, of candidates and histories alike.
    """

    content: Literal["none", "pooled"] = "none"


def read_sequences(schema: Schema, recipe: HistoryRecipe) -> tuple[Sequence, ...]:
    """The histories that the recipe lets in, no longer than it lets them be.

    Raises:
        RecipeError: If the recipe names a history that the data lack.
    """
    known = [sequence.name for sequence in schema.sequences]
    unknown = sorted(set(recipe.sequences) - set(known))
    if unknown:
        raise RecipeError(
            "no such history", field="sequences", value=unknown, remedy=f"use some of: {', '.join(known)}"
        )
    return tuple(
        replace(s, length=min(s.length, recipe.history_items or s.length))
        for s in schema.sequences
        if not recipe.sequences or s.name in recipe.sequences
    )


def sequence_space(schema: Schema, recipe: HistoryRecipe, name: str = "main") -> Space:
    """One space for the fields of requests, candidates and histories."""
    check_fields(schema, recipe)
    only = set(recipe.fields)
    names = [feature.name for feature in schema.features]
    names += [feature.name for sequence in read_sequences(schema, recipe) for feature in sequence.features]
    return Space(name, recipe.width, tuple(n for n in names if not only or n in only), recipe.init_std)


class History(nn.Module):
    """One history and the candidate, as vectors with the same fields in the same order.

    A field of the history that the candidate has too (item, shop, category, …) is shared. One that it lacks (the gap in
    time, the kind of behaviour: a property of the behaviour) is a learned vector on the candidate's side.

    Args:
        schema: What the data have.
        recipe: Which of it to use.
        sequence: The history.
        properties: Whether the properties of behaviours belong to the item vector; if not, `property` gives them.
        content: Whether one slot is left for content.
        candidate: Whether `candidate` will be asked for.
    """

    def __init__(
        self,
        schema: Schema,
        recipe: HistoryRecipe,
        sequence: Sequence,
        *,
        properties: bool,
        content: bool,
        candidate: bool,
    ) -> None:
        super().__init__()
        candidate_fields = {feature.name for feature in schema.group("item")}
        only = set(recipe.fields)
        names = [f.name for f in sequence.features if not only or f.name in only]
        self.name, self.items, self.length = sequence.name, recipe.history_items, sequence.length
        self.shared = tuple(n for n in names if _bare(n) in candidate_fields and (not only or _bare(n) in only))
        self.properties = tuple(n for n in names if n not in self.shared)
        self.with_properties = properties
        if not self.shared and not content:
            raise RecipeError(
                "no field in common with the candidate",
                field="sequences",
                value=sequence.name,
                remedy="let in the item's fields on both sides",
            )
        self.absent = (
            nn.Parameter(torch.zeros(len(self.properties), recipe.width))
            if properties and candidate and self.properties
            else None
        )
        # What says which item it is comes first; the behaviour's properties follow.
        self.item_width = (len(self.shared) + int(content)) * recipe.width
        self.property_width = len(self.properties) * recipe.width
        self.width = self.item_width + (self.property_width if properties else 0)

    def candidate(self, batch: Batch, content_SD: Tensor | None) -> Tensor:
        """The candidates, [S, E]."""
        parts = [batch.of("main", _bare(name)) for name in self.shared]
        if content_SD is not None:
            parts.append(content_SD)
        if self.absent is not None:
            parts.append(self.absent.reshape(1, -1).expand(batch.request_S.shape[0], -1))
        return torch.cat(parts, 1)

    def past(self, batch: Batch, content_ID: Tensor | None) -> tuple[Tensor, Tensor]:
        """The histories, [B, L, E], zero where masked, and their masks, [B, L].

        The first `item_width` columns are the item itself: its shared fields and its content.
        """
        mask_BL = self._newest(batch.masks_BL[self.name])
        parts = [self._newest(batch.embedded["main"][name]) for name in self.shared]
        if content_ID is not None:
            assert batch.content is not None
            index_BL = self._newest(batch.content.history_BL[self.name])
            rows = torch.where(mask_BL, index_BL, 0).reshape(-1)
            parts.append(content_ID.index_select(0, rows).reshape(*mask_BL.shape, -1))
        if self.with_properties:
            parts += [self._newest(batch.embedded["main"][name]) for name in self.properties]
        return torch.cat(parts, 2) * mask_BL.unsqueeze(2), mask_BL

    def property(self, batch: Batch) -> Tensor:
        """The properties of the behaviours, [B, L, property_width], zero where masked."""
        mask_BL = self._newest(batch.masks_BL[self.name])
        if not self.properties:
            return batch.masks_BL[self.name].new_zeros((*mask_BL.shape, 0), dtype=torch.float32)
        parts = [self._newest(batch.embedded["main"][name]) for name in self.properties]
        return torch.cat(parts, 2) * mask_BL.unsqueeze(2)

    def _newest(self, x: Tensor) -> Tensor:
        return x[:, -self.items :] if self.items else x


class Histories(nn.Module):
    """All histories that a model reads, with the pooled content of their items where the recipe asks for it.

    Args:
        schema: What the data have.
        recipe: Which of it to use.
        properties: Whether the properties of behaviours belong to the item vectors.
        candidate: Whether the candidate will be asked for in the form of an item of a history.
    """

    def __init__(
        self, schema: Schema, recipe: SequenceRecipe, *, properties: bool = True, candidate: bool = True
    ) -> None:
        super().__init__()
        self.content = pooled_content(schema, recipe.content, recipe.width)
        self.each = nn.ModuleList(
            History(
                schema, recipe, sequence, properties=properties, content=self.content is not None, candidate=candidate
            )
            for sequence in read_sequences(schema, recipe)
        )
        self.content_width = recipe.width if self.content is not None else 0

    def histories(self) -> list[History]:
        """The histories, in the schema's order."""
        return [history for history in self.each if isinstance(history, History)]

    def contents(self, batch: Batch) -> tuple[Tensor | None, Tensor | None]:
        """Pooled content of the distinct items, [I, D], and of the candidates, [S, D]; None without content."""
        if self.content is None:
            return None, None
        assert batch.content is not None
        content_ID: Tensor = self.content(batch.content)
        return content_ID, content_ID.index_select(0, batch.content.candidate_S)


def _bare(name: str) -> str:
    """`buys.category` → `category`."""
    return name.split(".", 1)[1]
