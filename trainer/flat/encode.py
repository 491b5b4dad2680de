"""Columns to indices, once: vocabularies and edges from the train split, arrays that are mapped into memory.

A folder `<hash>` holds `<split>.ids.npy` (int32, [rows, categorical fields]), `<split>.numbers.npy` (float32, [rows,
embedded numbers], NaN = missing), `<split>.labels.npy` (float32) and `fields.json`.
"""

# ruff: noqa: S608 - columns are named by position in the SQL, values are bound

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import DTypeLike, NDArray

from features import atomic
from features.database import connect
from trainer.flat.columns import Bucketised, Categorical, Column, Embedded
from trainer.flat.dataset import SPLITS, Dataset, Split
from trainer.flat.recipe import DataRecipe
from trainer.flat.source import as_text, extract
from trainer.runtime.models.schema import ModelFeature, Schema

CHUNK = 1 << 18  # rows encoded at once
VERSION = 2
PATIENCE_S = 86400.0  # that a run waits for another's arrays
NUMERAL = r"-?(0|[1-9][0-9]*)(\.[0-9]+)?"
WHOLE = r"^(-?(?:0|[1-9][0-9]*))\.0+$"


@dataclass(frozen=True)
class Arrays:
    """An encoded split, mapped into memory.

    Args:
        ids_NF: Index of each categorical or bucketised field.
        numbers_NK: Embedded numbers, scaled; NaN where missing.
        labels_N: 0 or 1.
    """

    ids_NF: NDArray[np.int32]
    numbers_NK: NDArray[np.float32]
    labels_N: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.labels_N)


@dataclass(frozen=True)
class EncodedSet:
    """An encoded set.

    Args:
        folder: Where it is.
        schema: Its fields: those with indices first, in order, then the embedded numbers.
        unseen: `valid` and `test` → field → share of the values that share row 0 though they are not missing.
    """

    folder: Path
    schema: Schema
    unseen: dict[str, dict[str, float]]

    def split(self, name: Split) -> Arrays:
        """One of its splits."""
        ids, numbers, labels = (
            np.load(self.folder / f"{name}.{part}.npy", mmap_mode="r") for part in ("ids", "numbers", "labels")
        )
        return Arrays(ids, numbers, labels)


def encode(dataset: Dataset, recipe: DataRecipe, cache: Path) -> EncodedSet:
    """Encode a set, or find it encoded.

    Args:
        dataset: The set.
        recipe: How.
        cache: Folder of encoded sets; one made from the same files in the same way is used again.

    Raises:
        DataError: If a file cannot be read, a column is missing, a label is not 0 or 1, or a number is none.
        LockedError: If another process encodes the same set for a day.
    """
    folder = cache / fingerprint(dataset, recipe)
    if not folder.exists():
        # A run beside this one waits for the other's arrays instead of making them again.
        with atomic.lock(cache / f".{folder.name}.lock", timeout_s=PATIENCE_S):
            if not folder.exists():
                _encode(dataset, recipe, folder)
    described = json.loads((folder / "fields.json").read_text(encoding="utf-8"))
    features = tuple(ModelFeature(f["name"], "item", f["name"], f["rows"], kind=f["kind"]) for f in described["fields"])
    return EncodedSet(folder, Schema(features, tasks=("ctr",)), described["unseen"])


def fingerprint(dataset: Dataset, recipe: DataRecipe) -> str:
    """Hash of what an encoded set depends on: columns, recipe, and each file's path, size and time of change."""
    stats = [dataset.path(split).stat() for split in SPLITS]
    facts = {
        "version": VERSION,
        "columns": [dataset.label, dataset.categorical, dataset.numerical, dataset.delimiter],
        "recipe": asdict(recipe),
        "files": [
            [str(dataset.path(s).resolve()), f.st_size, f.st_mtime_ns] for s, f in zip(SPLITS, stats, strict=True)
        ],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _encode(dataset: Dataset, recipe: DataRecipe, folder: Path) -> None:
    with atomic.new_folder(folder) as work, connect() as db:
        db.execute("SET preserve_insertion_order = true")
        # It believes a Parquet file's least and greatest values, which leave NaN out, and takes isnan(x) for false.
        db.execute("SET disabled_optimizers = 'statistics_propagation'")
        tables = {split: extract(db, dataset, recipe, split, work) for split in SPLITS}
        fields = _learn(db, dataset, recipe, tables["train"])
        unseen = {split: _write(db, dataset, fields, tables[split], work, split) for split in SPLITS}
        described = {
            "fields": [field.describe() for field in fields],
            "unseen": {split: unseen[split] for split in SPLITS if split != "train"},
        }
        (work / "fields.json").write_text(json.dumps(described), encoding="utf-8")
        for path in tables.values():
            path.unlink()


def _learn(db: duckdb.DuckDBPyConnection, dataset: Dataset, recipe: DataRecipe, train: Path) -> list[Column]:
    """Vocabularies, edges and scales from the train split."""
    fields: list[Column] = []
    texts = as_text(dataset, recipe)
    for name in (*dataset.categorical, *texts):
        numerals = name not in texts and _numerals(db, _at(dataset, name), train)
        text = _text(_at(dataset, name), numerals)
        rows = db.execute(
            f"SELECT {text} FROM read_parquet(?) WHERE {text} IS NOT NULL GROUP BY 1 HAVING count(*) >= ? "
            "ORDER BY count(*) DESC, 1",
            [str(train), recipe.min_count],
        ).fetchall()
        fields.append(Categorical(name, [row[0] for row in rows], numerals))
    fields += [_number(db, name, _at(dataset, name), recipe, train) for name in dataset.numerical if name not in texts]
    return sorted(fields, key=lambda field: isinstance(field, Embedded))


def _at(dataset: Dataset, name: str) -> str:
    """The name of a column in an extracted split."""
    return f"c{dataset.columns.index(name)}"


def _numerals(db: duckdb.DuckDBPyConnection, column: str, train: Path) -> bool:
    """Whether all values are plain numerals; `007` is none, nor is `1e5`."""
    other = db.execute(
        f"SELECT 1 FROM read_parquet(?) WHERE NOT regexp_full_match({column}, '{NUMERAL}') LIMIT 1", [str(train)]
    ).fetchall()
    return not other


def _text(column: str, numerals: bool) -> str:
    """A category's text; among numerals a whole one loses its zeros after the point, which come and go with gaps."""
    if not numerals:
        return column
    return f"CASE WHEN contains({column}, '.') THEN regexp_replace({column}, '{WHOLE}', '\\1') ELSE {column} END"


def _number(db: duckdb.DuckDBPyConnection, name: str, x: str, recipe: DataRecipe, train: Path) -> Column:
    if recipe.numerical == "bucket":
        shares = [i / recipe.buckets for i in range(1, recipe.buckets)]
        (found,) = db.execute(f"SELECT quantile_disc({x}, {shares}) FROM read_parquet(?)", [str(train)]).fetchall()[0]
        return Bucketised(name, np.unique(np.array(found or [], dtype=np.float64)))
    low, high, mean, std = db.execute(
        f"SELECT min({x}), max({x}), avg({x}), stddev_pop({x}) FROM read_parquet(?)",
        [str(train)],
    ).fetchall()[0]
    if recipe.scale == "standard":
        return Embedded(name, mean or 0.0, 1 / (std or 1.0), False)
    if recipe.scale == "minmax":
        return Embedded(name, low or 0.0, 1 / (((high or 0.0) - (low or 0.0)) or 1.0), False)
    return Embedded(name, 0.0, 1.0, recipe.scale == "log")


def _write(
    db: duckdb.DuckDBPyConnection, dataset: Dataset, fields: list[Column], source: Path, work: Path, split: Split
) -> dict[str, float]:
    """The split's arrays; returns field → share of the values that have no row of their own."""
    (rows,) = db.execute("SELECT count(*) FROM read_parquet(?)", [str(source)]).fetchall()[0]
    indexed = [field for field in fields if not isinstance(field, Embedded)]
    embedded = [field for field in fields if isinstance(field, Embedded)]

    def new(part: str, kind: DTypeLike, *shape: int) -> Any:
        return np.lib.format.open_memmap(work / f"{split}.{part}.npy", "w+", kind, shape)

    # A map of no width cannot exist: an absent part keeps one column that nobody reads.
    ids_NF = new("ids", np.int32, rows, max(len(indexed), 1))
    numbers_NK = new("numbers", np.float32, rows, max(len(embedded), 1))
    labels_N = new("labels", np.float32, rows)
    present, unseen, start = np.zeros(len(indexed)), np.zeros(len(indexed)), 0
    for batch in _batches(db, dataset, fields, source):
        end = start + batch.num_rows
        for i, field in enumerate(indexed):
            values = batch.column(_at(dataset, field.name))
            indices = ids_NF[start:end, i] = field.indices(values)
            present[i] += len(values) - values.null_count
            unseen[i] += np.count_nonzero(indices == 0) - values.null_count
        for i, number in enumerate(embedded):
            numbers_NK[start:end, i] = number.numbers(batch.column(_at(dataset, number.name)))
        labels_N[start:end] = batch.column("c0").to_numpy(zero_copy_only=False)
        start = end
    for array in (ids_NF, numbers_NK, labels_N):
        array.flush()
    shares = unseen / np.maximum(present, 1)
    return {field.name: round(float(share), 6) for field, share in zip(indexed, shares, strict=True)}


def _batches(
    db: duckdb.DuckDBPyConnection, dataset: Dataset, fields: list[Column], source: Path
) -> Iterator[pa.RecordBatch]:
    columns = {_at(dataset, field.name): getattr(field, "numerals", False) for field in fields}
    select = ", ".join(["c0", *(f"{_text(column, numerals)} AS {column}" for column, numerals in columns.items())])
    relation = db.sql(f"SELECT {select} FROM read_parquet($path)", params={"path": str(source)})
    yield from relation.to_arrow_reader(CHUNK)
