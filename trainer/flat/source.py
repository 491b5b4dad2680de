"""One split's file as Parquet of the wanted columns, so that a text file is parsed once, and what is wrong with it.

The columns are named by position in `Dataset.columns`: `c<i>` holds texts or doubles, NULL where a value is missing;
`b<i>` holds the raw text of a value that cannot be used. Names of the set never meet the SQL's rules for names.
"""

# ruff: noqa: S608 - columns stand quoted in the SQL, values are bound

from __future__ import annotations

import csv
import gzip
import re
from pathlib import Path
from typing import Any

import duckdb

from features.errors import DataError
from trainer.flat.dataset import Dataset, Split, kind_of
from trainer.flat.recipe import DataRecipe

WHOLE = 2**53  # up to here every integer is a double of its own


def extract(db: duckdb.DuckDBPyConnection, dataset: Dataset, recipe: DataRecipe, split: Split, work: Path) -> Path:
    """Write `<work>/<split>.parquet` and check it.

    Raises:
        DataError: If the file cannot be read, lacks a column, is empty, or has a value that is impossible.
    """
    out = work / f"{split}.parquet"
    target = str(out).replace("'", "''")
    try:
        table, arguments, columns = _source(db, dataset, split)
        select = ", ".join(_selected(dataset, recipe, columns))
        db.execute(f"COPY (SELECT {select} FROM {table}) TO '{target}' (FORMAT parquet)", arguments)
    except duckdb.Error as error:
        raise _unreadable(error, dataset, split) from None
    _check(db, dataset, split, out)
    return out


def as_text(dataset: Dataset, recipe: DataRecipe) -> tuple[str, ...]:
    """Numbers that become categories of their own in the SQL."""
    return dataset.numerical if recipe.numerical == "bucket" and recipe.bucketing == "squared_log" else ()


def _source(
    db: duckdb.DuckDBPyConnection, dataset: Dataset, split: Split
) -> tuple[str, list[str], dict[str, tuple[str, str]]]:
    """What to select from, its arguments, and each wanted column's expression and type there."""
    path = dataset.path(split)
    if kind_of(path.name) == "parquet":
        found = db.execute("DESCRIBE SELECT * FROM read_parquet(?)", [str(path)]).fetchall()
        have = {row[0]: (_quoted(row[0]), str(row[1])) for row in found}
        table, arguments = "read_parquet(?)", [str(path)]
    else:
        delimiter = dataset.delimiter or ("\t" if kind_of(path.name).startswith("tsv") else ",")
        names = _header(path, delimiter, split)
        twice = sorted({name for name in names if names.count(name) > 1} & set(dataset.columns))
        if twice:
            raise DataError(
                "a column is there twice", field=f"files.{split}", value=twice, remedy=f"rename one in {path}"
            )
        have = {name: (f"x{i}", "VARCHAR") for i, name in enumerate(names)}
        # Nothing is guessed: from a sample, each split might get quotes of its own, and a late one none.
        types = ", ".join(f"'x{i}': 'VARCHAR'" for i in range(len(names)))
        packed = "gzip" if kind_of(path.name).endswith(".gz") else "none"
        table, arguments = (
            f"read_csv(?, auto_detect = false, columns = {{{types}}}, header = true, delim = ?, quote = '\"', "
            f"escape = '\"', comment = '', skip = 0, compression = '{packed}')",
            [str(path), delimiter],
        )
    missing = [name for name in dataset.columns if name not in have]
    if missing:
        raise DataError(
            "columns are missing", field=f"files.{split}", value=missing, remedy=f"there are {sorted(have)}"
        )
    return table, arguments, {name: have[name] for name in dataset.columns}


def _header(path: Path, delimiter: str, split: Split) -> list[str]:
    """The names in a text file's first line."""
    opened: Any = gzip.open if kind_of(path.name).endswith(".gz") else open
    try:
        with opened(path, "rt", encoding="utf-8-sig", errors="replace", newline="") as text:
            if len(delimiter) > 1:
                names: list[str] = text.readline().rstrip("\r\n").split(delimiter)
                return names
            return next(csv.reader(text, delimiter=delimiter), [])
    except (OSError, EOFError, ValueError, TypeError, csv.Error) as error:
        raise DataError(
            f"its first line cannot be read ({error})",
            field=f"files.{split}",
            value=str(path),
            remedy="give a text file in UTF-8 with a line of column names",
        ) from None


def _selected(dataset: Dataset, recipe: DataRecipe, columns: dict[str, tuple[str, str]]) -> list[str]:
    texts = as_text(dataset, recipe)
    select = []
    for i, name in enumerate(dataset.columns):
        x, kind = columns[name]
        x = f"NULLIF({x}, '')" if kind == "VARCHAR" else x
        if name in dataset.categorical:
            select.append(f"{_category(x, kind)} AS c{i}")
            continue
        number = f"TRY_CAST({x} AS DOUBLE)"
        if name == dataset.label:
            truth = f"CASE lower(trim(CAST({x} AS VARCHAR))) WHEN 'true' THEN 1.0 WHEN 'false' THEN 0.0 END"
            number = f"coalesce({number}, {truth})"
            wrong = f"{number} IS NULL OR isnan({number}) OR {number} NOT IN (0, 1)"
            select.append(f"{number} AS c{i}")
        else:
            wrong = f"{x} IS NOT NULL AND ({number} IS NULL OR isinf({number}))"
            value = f"CASE WHEN isnan({number}) THEN NULL ELSE {number} END"
            value = f"coalesce({value}, 0)" if recipe.missing == "zero" else value
            select.append(f"{_squared_log(value, recipe) if name in texts else value} AS c{i}")
        select.append(f"CASE WHEN {wrong} THEN coalesce(CAST({x} AS VARCHAR), '') END AS b{i}")
    return select


def _category(x: str, kind: str) -> str:
    """A category as text; a whole float as an integer, since a column gets floats where another split has a gap."""
    if kind not in ("FLOAT", "DOUBLE"):
        return f"NULLIF(CAST({x} AS VARCHAR), '')"
    return (
        f"CASE WHEN isnan({x}) THEN NULL WHEN abs({x}) <= {WHOLE} AND {x} = trunc({x}) "
        f"THEN CAST(TRY_CAST({x} AS BIGINT) AS VARCHAR) ELSE CAST({x} AS VARCHAR) END"
    )


def _squared_log(x: str, recipe: DataRecipe) -> str:
    """The category that is usual for Criteo: ⌊ln(x)²⌋ above 2, else x cut to an integer (so that 3 and 1 coincide)."""
    bucket = f"CASE WHEN {x} > 2 THEN floor(ln(greatest({x}, 2)) ** 2) ELSE trunc({x}) END"
    text = f"coalesce(CAST(TRY_CAST({bucket} AS BIGINT) AS VARCHAR), CAST({bucket} AS VARCHAR))"
    return f"NULLIF({text}, '0')" if recipe.missing == "zero" else text


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _unreadable(error: duckdb.Error, dataset: Dataset, split: Split) -> DataError:
    path, text = dataset.path(split), str(error)
    if found := re.search(r"CSV Error on Line: (\d+)", text):
        # Between that line and the reason stands the text, which an open quote makes as long as the file.
        reasons = ("Expected Number of Columns", "Invalid unicode", "unterminated quote", "Maximum line size")
        lines = [line for line in text.splitlines() if any(reason in line for reason in reasons)]
        remedy = "give each row a value a column, and put one that holds the delimiter or a quote in double quotes"
        return DataError(
            f"line {found[1]} cannot be read" + (f" ({lines[0].strip()})" if lines else ""),
            field=f"files.{split}",
            value=str(path),
            remedy="save the file as UTF-8" if "Invalid unicode" in text else remedy,
        )
    return DataError(
        f"cannot be read: {text.splitlines()[0]}", field=f"files.{split}", value=str(path), remedy="mend the file"
    )


def _check(db: duckdb.DuckDBPyConnection, dataset: Dataset, split: Split, out: Path) -> None:
    """Raise if the split is empty or of one class, or a number or a label is none."""
    path = dataset.path(split)
    numbers = [i for i, name in enumerate(dataset.columns) if name not in dataset.categorical]
    counts = ", ".join(f"count(b{i})" for i in numbers)
    rows, least, most, *wrong = db.execute(
        f"SELECT count(*), min(c0), max(c0), {counts} FROM read_parquet(?)", [str(out)]
    ).fetchall()[0]
    if not rows:
        raise DataError("a split is empty", field=f"files.{split}", value=str(path), remedy="put rows there")
    for i, count in zip(numbers, wrong, strict=True):
        if not count:
            continue
        raw, row, infinite = db.execute(
            f"SELECT b{i}, file_row_number + 1, isinf(TRY_CAST(b{i} AS DOUBLE)) "
            f"FROM read_parquet(?, file_row_number = true) WHERE b{i} IS NOT NULL ORDER BY 2 LIMIT 1",
            [str(out)],
        ).fetchall()[0]
        what = "a label is not 0 or 1" if i == 0 else f"a value is {'infinite' if infinite else 'no number'}"
        raise DataError(
            f"{what} (row {row} of {path}, {count} such)",
            field=dataset.columns[i],
            value=raw,
            remedy="mend it" if i == 0 else "mend it, or leave it empty where it is missing",
        )
    # The test split may be a day without a click; the others would teach nothing, and score nothing.
    if split != "test" and least == most:
        raise DataError(
            f"a split has one class alone, {least:g}",
            field=f"files.{split}",
            value=str(path),
            remedy="put rows of both classes there",
        )
