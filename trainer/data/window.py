"""A window's files, read in chunks of requests; nothing but a chunk is in memory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from features.dictionary import Column, read
from features.errors import NotReadyError
from trainer.runtime.encoding import HISTORY_ITEMS, I64, Array, Level, Raw

LABELS = {"cvr": "purchased", "ctr": "clicked"}
KEYS = ("request_id", "event_time", "mature", "policy")


@dataclass(frozen=True)
class Chunk:
    """Consecutive requests of one file.

    Args:
        index: Number of the chunk among all of the files given.
        rows: The requests.
        levels: Column → what there is one value of.
    """

    index: int
    rows: pa.RecordBatch
    levels: Mapping[str, Level]

    def column(self, name: str) -> Array:
        """Values of a column, lists flattened: objects for strings, numbers otherwise (null: NaN)."""
        return values(self.rows.column(name))

    def counts(self, name: str) -> I64:
        """Length of each request's list."""
        lengths = self.rows.column(name).value_lengths()
        return np.asarray(lengths.fill_null(0), dtype=np.int64)


class Window:
    """A training window on disk.

    Args:
        folder: `windows/<id>/`.

    Attributes:
        columns: The data dictionary: every column of its files.

    Raises:
        NotReadyError: If there is no window.
        DataError: If it is of an older format.
    """

    def __init__(self, folder: Path) -> None:
        if not (folder / "manifest.json").exists():
            raise NotReadyError(
                "no window", field="window", value=str(folder), remedy="run `freshrank window build --date …` first"
            )
        self.folder = folder
        self.manifest: dict[str, object] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        self.columns = read(folder)
        self.training = sorted((folder / "requests").glob("*.parquet"))
        self.evaluation = sorted((folder / "eval").glob("*.parquet"))

    @property
    def id(self) -> str:
        """Identity of the window."""
        return self.folder.name

    def require_training(self) -> None:
        """Refuse a window that nothing can be trained on.

        Raises:
            NotReadyError: If the window has no training day.
        """
        if not self.training:
            raise NotReadyError(
                "the window has no training day",
                field="window",
                value=str(self.folder),
                remedy="ingest and label earlier days, then build the window again",
            )

    def encoder(self) -> str | None:
        """Hash of the content encoders whose tokens belong to the window, or None without content."""
        found = self.manifest.get("encoders")
        if isinstance(found, dict):
            found = next(iter(found.values()), None)
        if isinstance(found, list):
            found = found[0] if found else None
        return str(found) if found else None


def chunks(files: Sequence[Path], columns: Sequence[str], size: int, first: int = 0) -> Iterator[Chunk]:
    """Requests of some files in order, `size` at a time, never across row groups.

    Args:
        files: Parquet files of windows, in time order.
        columns: Columns to read; those that a file lacks are left out.
        size: Requests a chunk.
        first: Chunks to skip; row groups that hold none of the rest are not read.
    """
    index = 0
    for path in files:
        levels = levels_of(read(path.parent.parent))
        with pq.ParquetFile(path) as file:
            have = [name for name in columns if name in file.schema_arrow.names]
            for group in range(file.num_row_groups):
                parts = -(-file.metadata.row_group(group).num_rows // size)
                if index + parts <= first:
                    index += parts
                    continue
                for start in file.iter_batches(size, row_groups=[group], columns=have):
                    if index >= first:
                        yield Chunk(index, start, levels)
                    index += 1


def values(column: pa.Array) -> npt.NDArray[np.generic]:
    """Values of a column as numpy, lists flattened."""
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        column = column.flatten()
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_boolean(column.type):
        return np.asarray(column.fill_null(False).to_numpy(zero_copy_only=False), dtype=bool)
    if pa.types.is_null(column.type):
        return np.full(len(column), None, dtype=object)
    return column.to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]


def raw(chunk: Chunk, columns: Sequence[str]) -> Raw:
    """Raw columns of a chunk's requests, each with the counts of its level."""
    found = {name: chunk.column(name) for name in columns if name in chunk.rows.schema.names}
    counts = {"candidate": chunk.counts("cand_item")}
    counts |= {name: chunk.counts(item) for name, item in HISTORY_ITEMS.items() if item in found}
    return Raw(found, counts, {name: chunk.levels[name] for name in found})


def levels_of(columns: Iterable[Column]) -> dict[str, Level]:
    """What each column of requests has one value of; a label has one a candidate."""
    found: dict[str, Level] = {}
    for column in columns:
        if column.level == "request":
            found[column.name] = "request"
        elif column.level in ("candidate", "label"):
            found[column.name] = "candidate"
        elif column.history:
            found[column.name] = column.history
    return found


def select(found: Raw, rows: I64, kept: npt.NDArray[np.bool_] | None = None) -> Raw:
    """Some requests of raw columns, in the order of `rows`.

    Args:
        found: Raw columns.
        rows: Requests to take.
        kept: Which candidates to keep, [S]; all by default.
    """
    counts = dict(found.counts)
    index: dict[str, I64] = {"request": rows}
    chosen: dict[str, I64] = {}
    for name, n in counts.items():
        starts = np.cumsum(n) - n
        at = _ranges(starts[rows], n[rows])
        chosen[name] = n[rows]
        if name == "candidate" and kept is not None:
            keep = kept[at]
            owner = np.repeat(np.arange(len(rows)), n[rows])
            chosen[name] = np.bincount(owner[keep], minlength=len(rows)).astype(np.int64)
            at = at[keep]
        index[name] = at
    columns = {name: column[index[found.levels[name]]] for name, column in found.columns.items()}
    return Raw(columns, chosen, found.levels)


def _ranges(starts: I64, lengths: I64) -> I64:
    """start, start + 1, … for each start, lengths long, one after the other."""
    ends = np.cumsum(lengths)
    found: I64 = np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(starts - (ends - lengths), lengths)
    return found
