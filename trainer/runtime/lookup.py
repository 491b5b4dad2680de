"""Embedding tables as plain modules: the lookup of serving, evaluation and tests.

Training has the same interface over TorchRec's sharded tables (`trainer/embeddings/sharded.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainer.runtime.content import ContentSource, mask, pad
from trainer.runtime.encoding import Encoded
from trainer.runtime.models.batch import Batch
from trainer.runtime.models.schema import Schema, Space

Embedded = dict[str, dict[str, Tensor]]


@dataclass(frozen=True)
class Table:
    """One table: a vocabulary in a space.

    Args:
        space: Name of the space.
        table: Name of the vocabulary.
        rows: Rows.
        width: Width of the vectors.
        init_std: Standard deviation of the normal initial values.
        features: Fields looked up in it.
    """

    space: str
    table: str
    rows: int
    width: int
    init_std: float
    features: tuple[str, ...]


def tables(schema: Schema, spaces: tuple[Space, ...]) -> Iterator[Table]:
    """The tables that a model's spaces need, in a fixed order."""
    fields = {f.name: f for f in schema.all_features()}
    for space in spaces:
        by_table: dict[str, list[str]] = {}
        for name in space.features:
            by_table.setdefault(fields[name].table, []).append(name)
        for table, names in by_table.items():
            yield Table(space.name, table, fields[names[0]].rows, space.width, space.init_std, tuple(names))


class Lookup(nn.Module):
    """Plain tables, one `nn.Embedding` for each space and vocabulary.

    Args:
        schema: The model's inputs.
        spaces: The embeddings that the model asks for.
    """

    def __init__(self, schema: Schema, spaces: tuple[Space, ...]) -> None:
        super().__init__()
        self.layout = tuple(tables(schema, spaces))
        self.tables = nn.ModuleDict()
        for t in self.layout:
            space = self.tables[t.space] if t.space in self.tables else nn.ModuleDict()
            self.tables[t.space] = space
            assert isinstance(space, nn.ModuleDict)
            space[_key(t.table)] = nn.Embedding(t.rows, t.width, _weight=torch.zeros(t.rows, t.width))

    def weight(self, space: str, table: str) -> Tensor:
        """The weights of a table, [rows, width]."""
        weight: Tensor = self.tables[space][_key(table)].weight  # type: ignore[index]
        return weight

    def forward(self, encoded: Encoded) -> Embedded:
        """Look indices up.

        Args:
            encoded: Indices of B requests.

        Returns:
            Space → field → vectors, flat: [B, D], [S, D] or [N, D].
        """
        found: Embedded = {}
        for t in self.layout:
            module = self.tables[t.space][_key(t.table)]  # type: ignore[index]
            for name in t.features:
                found.setdefault(t.space, {})[name] = module(encoded.ids[name])
        return found


def _key(table: str) -> str:
    return table.replace(".", "_")


def assemble(
    schema: Schema, encoded: Encoded, embedded: Embedded, content: ContentSource | None, progress: float = 0.0
) -> Batch:
    """The batch that a model sees.

    Args:
        schema: The model's inputs.
        encoded: Indices of B requests.
        embedded: What a lookup made of them.
        content: Where content comes from; None leaves it out.
        progress: Share of the training done.

    Returns:
        The batch; histories padded in front.
    """
    counts = encoded.counts["candidate"]
    sequence_of = {f.name: sequence.name for sequence in schema.sequences for f in sequence.features}

    def shaped(name: str, x: Tensor) -> Tensor:
        return pad(x, encoded.counts[sequence_of[name]]) if name in sequence_of else x

    made = None
    if content is not None and schema.content is not None:
        history = {
            s.name: encoded.ids[f"{s.name}.category_id"]
            for s in schema.sequences
            if f"{s.name}.category_id" in encoded.ids
        }
        made = content.batch(encoded, encoded.ids.get("category_id"), history)
    return Batch(
        embedded={space: {name: shaped(name, x) for name, x in of.items()} for space, of in embedded.items()},
        request_S=torch.repeat_interleave(torch.arange(len(counts)), counts),
        masks_BL={s.name: mask(encoded.counts[s.name]) for s in schema.sequences},
        content=made,
        labels_S=encoded.labels,
        ids={name: shaped(name, x) for name, x in encoded.ids.items()},
        progress=progress,
        request_fields=frozenset(f.name for f in schema.group("user", "context")),
    )
