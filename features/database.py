"""DuckDB: every connection in UTC, whatever the machine's zone and locale; files read by their very names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


def connect(
    path: Path | str = ":memory:", config: dict[str, str | bool | int | float | list[str]] | None = None
) -> DuckDBPyConnection:
    """A connection whose session runs in UTC.

    DuckDB casts a timestamp without a zone, and shows one with a zone, in the session's zone, which is the machine's
    unless a connection says otherwise: the same window would hold other values on another machine.

    Args:
        path: The database's file; by default one in memory.
        config: Settings of the database, as `duckdb.connect` takes them.

    Returns:
        The connection; closing it is the caller's.

    Example:
        >>> connect().execute("SELECT epoch_us(TIMESTAMP '2025-03-09 02:30:00'::TIMESTAMPTZ)").fetchone()
        (1741487400000000,)
    """
    import duckdb

    con = duckdb.connect(str(path), config=config or {})  # noqa: TID251 - the one place
    con.execute("SET TimeZone = 'UTC'")
    return con


def literal(value: object) -> str:
    """A text as SQL.

    Example:
        >>> print(literal("it's"))
        'it''s'
    """
    return "'" + str(value).replace("'", "''") + "'"


def pattern(path: Path | str) -> str:
    """A path as DuckDB reads it where it takes patterns: `*`, `?` and `[` in it are no longer wildcards.

    Example:
        >>> pattern("/data/week [1]/day.parquet")
        '/data/week [[]1]/day.parquet'
    """
    return re.sub(r"[*?[]", r"[\g<0>]", str(path))


def read_parquet(files: Iterable[Path | str]) -> str:
    """SQL of the rows of Parquet files, columns matched by name.

    Nothing in a file's path is a wildcard, and no folder named `name=value` becomes a column.

    Args:
        files: The files; at least one.

    Example:
        >>> print(read_parquet(["/a b/1.parquet"]))
        read_parquet(['/a b/1.parquet'], union_by_name=true, hive_partitioning=false)
    """
    names = ", ".join(literal(pattern(file)) for file in files)
    return f"read_parquet([{names}], union_by_name=true, hive_partitioning=false)"


def local_path(uri: str) -> str:
    """The path of a file that Delta names by URI: percent-encoded, with or without `file://`.

    Example:
        >>> local_path("file:///data/sp%20ace/part-0.parquet")
        '/data/sp ace/part-0.parquet'
    """
    return unquote(uri.removeprefix("file://"))
