"""Typed values that a file holds as JSON: the file is the value's encoding, and nothing reads it untyped."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import msgspec

from features.errors import DataError

T = TypeVar("T")
JsonObject = dict[str, Any]
"""An object of JSON whose fields nothing but its reader knows: another system's answer, a summary of figures."""


def read_typed(kind: type[T], path: Path, *, remedy: str) -> T:
    """Read a value that was written as JSON; fields that the type does not have are left aside.

    Args:
        kind: A dataclass, or a container of such.
        path: The file.
        remedy: What makes the file anew, for the error.

    Raises:
        FileNotFoundError: If there is no such file.
        DataError: If it is no JSON, or a field is missing or of another type.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except msgspec.DecodeError as error:
        raise damaged(path, error, remedy) from error


def damaged(path: Path, error: Exception, remedy: str) -> DataError:
    """The error of a file that is not what was written."""
    return DataError(f"a file is damaged ({error})", field="file", value=str(path), remedy=remedy)
