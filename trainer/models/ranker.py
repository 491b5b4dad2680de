"""The interface of every model."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional

from trainer.models.batch import Batch
from trainer.models.schema import Schema, Space


class Ranker(nn.Module):
    """A model that scores the candidates of requests.

    A subclass sets `Recipe`, a frozen dataclass with defaults for every field, and takes `(schema, recipe)`. A recipe has
    a field `optimizer: Optimizer` (`trainer/models/recipe.py`): how the model wants to be trained.

    Args:
        schema: What the data have.
        recipe: The model's typed configuration.
    """

    Recipe: ClassVar[type]

    def __init__(self, schema: Schema, recipe: Any) -> None:
        super().__init__()
        self.schema = schema
        self.recipe: Any = recipe

    @classmethod
    def spaces(cls, schema: Schema, recipe: Any) -> tuple[Space, ...]:
        """The embeddings that the model wants looked up; the trainer owns the tables."""
        raise NotImplementedError

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Score candidates.

        Args:
            batch: The batch; labels are not read.

        Returns:
            Task → logits [S].
        """
        raise NotImplementedError

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
