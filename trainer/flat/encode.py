"""Columns to indices, once: vocabularies and edges from the train split, arrays that are mapped into memory.

A folder `<hash>` holds `<split>.ids.npy` (int32, [rows, categorical fields]), `<split>.numbers.npy` (float32, [rows,
embedded numbers], NaN = missing), `<split>.labels.npy` (float32) and `fields.json`.
"""

# ruff: noqa: S608 - columns stand quoted in the SQL, values are bound

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
from numpy.typing import NDArray

from features import atomic
from features.errors import DataError
from trainer.flat.columns import Bucketised, Categorical, Column, Embedded
from trainer.flat.dataset import SPLITS, Dataset, Split
from trainer.flat.recipe import DataRecipe
from trainer.models.schema import Feature, Schema

CHUNK = 1 << 18  # rows encoded at once
VERSION = 1


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
class Encoded:
    """An encoded set.

    Args:
        folder: Where it is.
        schema: Its fields: those with indices first, in order, then the embedded numbers.
    """

    folder: Path
    schema: Schema

    def split(self, name: Split) -> Arrays:
        """One of its splits."""
        ids, numbers, labels = (
            np.load(self.folder / f"{name}.{part}.npy", mmap_mode="r") for part in ("ids", "numbers", "labels")
        )
        return Arrays(ids, numbers, labels)


def encode(dataset: Dataset, recipe: DataRecipe, cache: Path) -> Encoded:
    """Encode a set, or find it encoded.

    Args:
        dataset: The set.
        recipe: How.
        cache: Folder of encoded sets; one made from the same files in the same way is used again.

    Raises:
        DataError: If a column is missing, a label is not 0 or 1, or a number is none.
    """
    folder = cache / fingerprint(dataset, recipe)
    if not folder.exists():
        with atomic.new_folder(folder) as work, duckdb.connect() as db:
            db.execute("SET preserve_insertion_order = true")
            tables = {split: _columns(db, dataset, recipe, split, work) for split in SPLITS}
            fields = _learn(db, dataset, recipe, tables["train"])
            for split in SPLITS:
                _write(db, dataset, fields, tables[split], work, split)
            (work / "fields.json").write_text(json.dumps([field.describe() for field in fields]))
            for path in work.glob("*.parquet"):
                path.unlink()
    described = json.loads((folder / "fields.json").read_text())
    features = tuple(Feature(f["name"], "item", f["name"], f["rows"], kind=f["kind"]) for f in described)
    return Encoded(folder, Schema(features, tasks=("ctr",)))


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


def _as_text(dataset: Dataset, recipe: DataRecipe) -> tuple[str, ...]:
    """Numbers that become categories of their own in the SQL."""
    return dataset.numerical if recipe.numerical == "bucket" and recipe.bucketing == "squared_log" else ()


def _double(name: str) -> str:
    return f"TRY_CAST({_quoted(name)} AS DOUBLE)"


def _squared_log(x: str) -> str:
    """The category that is usual for Criteo: ⌊ln(x)²⌋ above 2, else x cut to an integer (so that 3 and 1 coincide)."""
    return f"CAST(CAST(CASE WHEN {x} > 2 THEN floor(ln({x}) ** 2) ELSE trunc({x}) END AS BIGINT) AS VARCHAR)"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _columns(db: duckdb.DuckDBPyConnection, dataset: Dataset, recipe: DataRecipe, split: Split, work: Path) -> Path:
    """The split's wanted columns as Parquet, so that a text file is parsed once: text, or doubles; and the label."""
    path = dataset.path(split)
    if path.suffix == ".parquet":
        source, arguments = "read_parquet(?)", [str(path)]
    else:
        delimiter = dataset.delimiter or ("\t" if path.suffix == ".tsv" else ",")
        source, arguments = "read_csv(?, all_varchar = true, header = true, delim = ?)", [str(path), delimiter]
    try:
        have = {row[0] for row in db.execute(f"DESCRIBE SELECT * FROM {source}", arguments).fetchall()}
    except duckdb.Error as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"cannot be read: {reason}", field=f"files.{split}", value=str(path), remedy="mend the file"
        ) from None
    missing = [name for name in dataset.columns if name not in have]
    if missing:
        raise DataError(
            "columns are missing", field=f"files.{split}", value=missing, remedy=f"there are {sorted(have)}"
        )
    numbers = (dataset.label, *dataset.numerical)
    select = ", ".join(
        [f"CAST({_quoted(n)} AS VARCHAR) AS {_quoted(n)}" for n in dataset.categorical]
        + [f"{_double(n)} AS {_quoted(n)}" for n in numbers if n not in _as_text(dataset, recipe)]
        + [f"{_squared_log(_double(n))} AS {_quoted(n)}" for n in _as_text(dataset, recipe)]
        + [f"({_quoted(n)} IS NOT NULL AND {_double(n)} IS NULL) AS {_quoted('?' + n)}" for n in numbers]
    )
    out = work / f"{split}.parquet"
    target = str(out).replace("'", "''")
    db.execute(f"COPY (SELECT {select} FROM {source}) TO '{target}' (FORMAT parquet)", arguments)
    for name in numbers:
        (count,) = db.execute(
            f"SELECT count(*) FROM read_parquet(?) WHERE {_quoted('?' + name)}", [str(out)]
        ).fetchall()[0]
        if count:
            raise DataError(f"{count} values are no numbers", field=name, value=str(path), remedy="mend the column")
    label = _quoted(dataset.label)
    bad = db.execute(
        f"SELECT {label} FROM read_parquet(?) WHERE {label} IS NULL OR {label} NOT IN (0, 1) LIMIT 1",
        [str(out)],
    ).fetchall()
    if bad:
        raise DataError("a label is not 0 or 1", field=dataset.label, value=bad[0][0], remedy=f"mend {path}")
    return out


def _learn(db: duckdb.DuckDBPyConnection, dataset: Dataset, recipe: DataRecipe, train: Path) -> list[Column]:
    """Vocabularies, edges and scales from the train split."""
    fields: list[Column] = []
    texts = _as_text(dataset, recipe)
    for name in (*dataset.categorical, *texts):
        column = _quoted(name)
        rows = db.execute(
            f"SELECT {column} FROM read_parquet(?) WHERE {column} IS NOT NULL GROUP BY 1 HAVING count(*) >= ? "
            "ORDER BY count(*) DESC, 1",
            [str(train), recipe.min_count],
        ).fetchall()
        fields.append(Categorical(name, [row[0] for row in rows]))
    fields += [_number(db, name, recipe, train) for name in dataset.numerical if name not in texts]
    return sorted(fields, key=lambda field: isinstance(field, Embedded))


def _number(db: duckdb.DuckDBPyConnection, name: str, recipe: DataRecipe, train: Path) -> Column:
    x = _quoted(name)
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
) -> None:
    (rows,) = db.execute("SELECT count(*) FROM read_parquet(?)", [str(source)]).fetchall()[0]
    if not rows:
        raise DataError("a split is empty", field=f"files.{split}", value=dataset.files[split], remedy="put rows there")
    indexed = [field for field in fields if not isinstance(field, Embedded)]
    embedded = [field for field in fields if isinstance(field, Embedded)]

    def new(part: str, kind: Any, *shape: int) -> Any:
        return np.lib.format.open_memmap(work / f"{split}.{part}.npy", "w+", kind, shape)

    # A map of no width cannot exist: an absent part keeps one column that nobody reads.
    ids_NF = new("ids", np.int32, rows, max(len(indexed), 1))
    numbers_NK = new("numbers", np.float32, rows, max(len(embedded), 1))
    labels_N = new("labels", np.float32, rows)
    start = 0
    for batch in _batches(db, source):
        end = start + batch.num_rows
        for i, field in enumerate(indexed):
            ids_NF[start:end, i] = field.indices(batch.column(field.name))
        for i, number in enumerate(embedded):
            numbers_NK[start:end, i] = number.numbers(batch.column(number.name))
        labels_N[start:end] = batch.column(dataset.label).to_numpy(zero_copy_only=False)
        start = end
    for array in (ids_NF, numbers_NK, labels_N):
        array.flush()


def _batches(db: duckdb.DuckDBPyConnection, source: Path) -> Iterator[pa.RecordBatch]:
    relation = db.sql("SELECT * FROM read_parquet($path)", params={"path": str(source)})
    reader = relation.to_arrow_reader(CHUNK)
    yield from reader
