"""DuckDB connections: every one in UTC, whatever the machine's zone and locale."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

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

    con = duckdb.connect(str(path), config=config or {})
    con.execute("SET TimeZone = 'UTC'")
    return con
