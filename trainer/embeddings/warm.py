"""Weights carried from the incumbent's bundle to today's tables, row by row, by key."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from trainer.embeddings.sharded import table_name
from trainer.runtime.encoding import Encoding
from trainer.runtime.lookup import Table

SUMS = ".adagrad"  # beside a table's weights, so that a warm start goes on with the steps it had come to


def carried(
    bundle: Path, encoding: Encoding, layout: tuple[Table, ...], weights: dict[str, Tensor], sums: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Put a bundle's rows where today's vocabularies have their keys.

    Keys that the bundle does not have keep their initial values and sums; keys that left the vocabulary are dropped.

    Args:
        bundle: The incumbent's bundle.
        encoding: Today's encoding.
        layout: Today's tables.
        weights: Table name → initial weights [rows, padded width]; changed in place.
        sums: Table name → Adagrad's initial sums, zero where a table has none; changed in place.

    Returns:
        The weights of the dense part.
    """
    before = Encoding.load(bundle)
    for space in dict.fromkeys(t.space for t in layout):
        old = load_file(bundle / "embeddings" / f"{space}.safetensors")
        for t in layout:
            if t.space != space:
                continue
            to, at = _rows(before, encoding, t.table)
            name = table_name(t)
            weights[name][to, : t.width] = old[t.table][at]
            had = old.get(t.table + SUMS)
            if had is not None:
                exact = had.dim() == 2
                sums.setdefault(name, torch.zeros(weights[name].shape if exact else (t.rows,)))
                sums[name][(to, slice(0, t.width)) if exact else to] = had[at]
    dense: dict[str, Tensor] = load_file(bundle / "dense.safetensors")
    return dense


def _rows(before: Encoding, now: Encoding, table: str) -> tuple[Tensor, Tensor]:
    """Rows of today's table and the old one's rows that go there."""
    if table not in now.vocabularies:
        rows = torch.arange(now.rows(table))
        return rows, rows
    old = before.vocabularies[table]
    pairs = [(0, 0)] + [(row, old[key]) for key, row in now.vocabularies[table].items() if key in old]
    to, at = torch.tensor(pairs).T
    return to, at
