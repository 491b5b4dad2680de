"""The data dictionary: what each column of a window is, said where the column is declared, read by all who meet it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from features import atomic
from features.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

Level = Literal["request", "history", "candidate", "item", "label"]
Kind = Literal["id", "categorical", "numeric", "time", "flag", "sha", "type", "text"]
Group = Literal["user", "context", "item", "cross"]
History = Literal["buys", "behaviours"]

FILE = "columns.json"  # of a window


@dataclass(frozen=True)
class Column:
    """One column.

    Args:
        name: Its name.
        level: What there is one value of: a `request`, an entry of a `history`, a `candidate` (a `label`, too), or an
            `item` of the catalogue (`items.parquet`). In a request's row, all but those of `request` are lists.
        kind: What its values are.
        dtype: Its Arrow type, such as `list<string>`.
        group: The model's group, or None where no model reads it as a feature.
        unit: Unit of its values; empty where they have none.
        meaning: One line.
        history: Whose history it belongs to, at level `history`.
        span_h: Hours that a statistic looks back over, or None.
        domain: What its values are values of: columns of one domain share a vocabulary or bucket edges. Its own name by
            default.

    Example:
        >>> Column("i_shop", "candidate", "categorical", "list<string>", "item", "", "who sells it").domain
        'i_shop'
    """

    name: str
    level: Level
    kind: Kind
    dtype: str
    group: Group | None
    unit: str
    meaning: str
    history: History | None = None
    span_h: int | None = None
    domain: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "domain", self.domain or self.name)


def arrow_schema(columns: Iterable[Column]) -> pa.Schema:
    """Columns as Arrow fields, in order."""
    import pyarrow as pa

    return pa.schema([pa.field(column.name, _arrow_type(column.dtype)) for column in columns])


def save(folder: Path, columns: Sequence[Column]) -> None:
    """Write a window's `columns.json`."""
    content = {"columns": [asdict(column) for column in columns]}
    atomic.write_text(folder / FILE, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def read(folder: Path) -> tuple[Column, ...]:
    """The dictionary that was saved with a window.

    Raises:
        DataError: If the window has none: it is of an older format.
    """
    try:
        content = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(
            f"the window is of an older format: it has no {FILE}",
            field="window",
            value=folder.name,
            remedy="build the window again: run `freshrank window build` of its day",
        ) from None
    return tuple(Column(**column) for column in content["columns"])


def markdown(columns: Iterable[Column]) -> str:
    """The dictionary as a table in Markdown, a line a column."""
    lines = ["| column | type | level | kind | group | unit | meaning |", "|---|---|---|---|---|---|---|"]
    for column in columns:
        level = f"{column.level} ({column.history})" if column.history else column.level
        dtype = column.dtype.replace("<", "\\<")
        cells = (f"`{column.name}`", dtype, level, column.kind, column.group or "", column.unit, column.meaning)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines).replace("|  |", "| |").replace("|  |", "| |") + "\n"


def _arrow_type(dtype: str) -> pa.DataType:
    import pyarrow as pa

    if dtype.startswith("list<"):
        return pa.list_(_arrow_type(dtype[5:-1]))
    return pa.type_for_alias(dtype)
