"""Plain embedding tables for the spaces of a model: one table a space, all fields' rows in it.

Shape suffixes: N rows of a batch, F fields with indices, K embedded numbers, D width.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.runtime.models.schema import Schema, Space


class PlainTables(nn.Module):
    """Looks rows up by index, and multiplies row 1 of an embedded number with its value.

    Row 0 of each field stands for values that the train split lacks, and for missing ones.

    Args:
        schema: The fields: those with indices first, then the embedded numbers.
        spaces: What the model asks for.
        sparse: Whether gradients hold the touched rows alone.
        dropout: Share dropped of the vectors; a space of width 1 is spared.
        numbers: Initial vectors of embedded numbers.
    """

    def __init__(
        self,
        schema: Schema,
        spaces: tuple[Space, ...],
        *,
        sparse: bool = False,
        dropout: float = 0.0,
        numbers: Literal["table", "xavier_normal"] = "table",
    ) -> None:
        super().__init__()
        self.names = tuple(feature.name for feature in schema.features)
        self.indexed = sum(feature.kind == "id" for feature in schema.features)
        rows = torch.tensor([feature.rows for feature in schema.features])
        self.register_buffer("offsets_F", rows.cumsum(0) - rows, persistent=False)
        self.offsets_F: Tensor
        self.spaces, self.dropout = spaces, dropout
        self.tables = nn.ModuleDict()
        for space in spaces:
            if set(space.features) - set(self.names):
                raise ValueError(f"space {space.name} asks for fields that the set lacks")
            table = nn.Embedding(int(rows.sum()), space.width, sparse=sparse)
            nn.init.normal_(table.weight, std=space.init_std)
            if numbers == "xavier_normal":
                with torch.no_grad():
                    for row in (self.offsets_F[self.indexed :] + 1).tolist():
                        table.weight[row].normal_(std=(2 / (1 + space.width)) ** 0.5)
            self.tables[space.name] = table

    def rows(self, ids_NF: Tensor, numbers_NK: Tensor) -> Tensor:
        """Row of each field of each example, [N, F + K]."""
        of_numbers_NK = (~numbers_NK.isnan()).long()
        return torch.cat([ids_NF.long(), of_numbers_NK], 1) + self.offsets_F

    def forward(self, ids_NF: Tensor, numbers_NK: Tensor) -> dict[str, dict[str, Tensor]]:
        """Space → field → vectors [N, D].

        Args:
            ids_NF: Indices, [N, F].
            numbers_NK: Numbers, [N, K]; NaN where missing.
        """
        rows = self.rows(ids_NF, numbers_NK)
        embedded = {}
        for space in self.spaces:
            vectors = self.tables[space.name](rows)
            if numbers_NK.shape[1]:
                factor = torch.where(numbers_NK.isnan(), 1.0, numbers_NK).unsqueeze(2)
                vectors = torch.cat([vectors[:, : self.indexed], vectors[:, self.indexed :] * factor], 1)
            if space.width > 1 and self.dropout:
                vectors = functional.dropout(vectors, self.dropout, self.training)
            wanted = set(space.features)
            by_name = zip(self.names, vectors.unbind(1), strict=True)
            embedded[space.name] = {name: vector for name, vector in by_name if name in wanted}
        return embedded
