"""The interface of every model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional

from trainer.runtime.models.batch import Batch
from trainer.runtime.models.layers.memory import Memory
from trainer.runtime.models.recipe import ModelRecipe
from trainer.runtime.models.schema import Schema, Space


class RankingModel(nn.Module):
    """A model that scores the candidates of requests.

    A subclass sets `Recipe`, a frozen dataclass derived from `ModelRecipe` with a default for every field, and takes
    `(schema, recipe)`.

    Args:
        schema: What the data have.
        recipe: The model's typed configuration.
    """

    Recipe: ClassVar[type[ModelRecipe]]

    def __init__(self, schema: Schema, recipe: Any) -> None:
        super().__init__()
        self.schema = schema
        self.recipe: Any = recipe

    @classmethod
    def spaces(cls, schema: Schema, recipe: Any) -> tuple[Space, ...]:
        """The embeddings that the model wants looked up; the trainer owns the tables."""
        raise NotImplementedError

    @classmethod
    def reads(cls, schema: Schema, recipe: Any) -> Schema:
        """What the model reads of all inputs, so that nothing else is prepared for it.

        By default the fields of its spaces, the histories that have such a field, and content unless the recipe says
        `content = "none"`. A model that reads a history's tokens alone, or fewer of its items, says so by overriding.

        Args:
            schema: All inputs there are.
            recipe: The model's recipe.

        Returns:
            The same schema with some features, histories or the content left out, histories possibly shorter.
        """
        used = {name for space in cls.spaces(schema, recipe) for name in space.features}
        return replace(
            schema,
            features=tuple(feature for feature in schema.features if feature.name in used),
            sequences=tuple(
                replace(sequence, features=tuple(f for f in sequence.features if f.name in used))
                for sequence in schema.sequences
                if any(f.name in used for f in sequence.features)
            ),
            content=None if getattr(recipe, "content", None) == "none" else schema.content,
        )

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Score candidates.

        Args:
            batch: The batch; labels are not read.

        Returns:
            Task → logits [S].
        """
        raise NotImplementedError

    def cache_content(self, on: bool = True) -> None:
        """Compute what depends on an item's content alone once an item: for weights that stay, as in service.

        The keys of contents must stay with their content.

        Args:
            on: False drops the cache, before the weights change.
        """
        for module in self.modules():
            if isinstance(module, Memory):
                module.begin() if on else module.end()

    def last_expert_use(self) -> dict[str, Tensor]:
        """What share of the last batch chose each expert, for the log of a training.

        Returns:
            What chose → shares, [M]. By default nothing: a model without gated experts.
        """
        return {}

    def item_vectors(self, batch: Batch) -> dict[str, Tensor] | None:  # noqa: ARG002
        """Vectors of items on their own, which an index can store.

        Args:
            batch: The batch; labels are not read.

        Returns:
            `candidate` → vectors of the candidates, [S, D], and the name of a history → those of its newest entries, as
            many as `reads` keeps, oldest first, [N, D]. By default None: the model has none apart from requests.
        """
        return None

    def product_layers(self) -> Iterator[nn.Module]:
        """Layers that compress products of fields, which flat training can leave with their own initial values."""
        return iter(())

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Named losses; the trainer minimises their sum.

        Args:
            batch: The batch with labels.

        Returns:
            Name → scalar. By default the binary cross-entropy of each task that has labels.
        """
        logits = self(batch)
        return {
            task: functional.binary_cross_entropy_with_logits(logits_S, batch.labels_S[task])
            for task, logits_S in logits.items()
            if task in batch.labels_S
        }
