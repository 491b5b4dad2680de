"""What is trained: a lookup and a model, as one module for TorchRec to distribute."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainer.runtime.content import ContentSource
from trainer.runtime.encoding import Encoded
from trainer.runtime.lookup import assemble
from trainer.runtime.models.batch import Batch
from trainer.runtime.models.ranker import RankingModel
from trainer.runtime.models.schema import Schema


class Trainee(nn.Module):
    """Indices in, named losses out.

    Args:
        lookup: Embedding tables.
        ranker: The model.
        schema: Its inputs.
        content: Where content comes from, or None.
    """

    def __init__(self, lookup: nn.Module, ranker: RankingModel, schema: Schema, content: ContentSource | None) -> None:
        super().__init__()
        self.lookup, self.ranker = lookup, ranker
        self._schema, self._content = schema, content

    def forward(self, encoded: Encoded, progress: float = 0.0, score: bool = False) -> dict[str, Tensor]:
        """Losses of a batch, or its logits.

        Args:
            encoded: The batch's indices and labels.
            progress: Share of the training done.
            score: Return logits instead of losses.

        Returns:
            Loss name → scalar, or task → logits [S].
        """
        batch = self.batch(encoded, progress)
        if score:
            logits: dict[str, Tensor] = self.ranker(batch)
            return logits
        return self.ranker.losses(batch)

    def batch(self, encoded: Encoded, progress: float = 0.0) -> Batch:
        """What the model sees of a batch's indices; every worker calls it, since each holds a part of the tables."""
        return assemble(self._schema, encoded, self.lookup(encoded), self._content, progress)


def total(losses: dict[str, Tensor]) -> Tensor:
    """The sum that is minimised."""
    return torch.stack(list(losses.values())).sum()
