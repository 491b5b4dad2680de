"""Raw values as a served model's inputs. Light: the gateway has no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from trainer.runtime.encoding import Array


@dataclass(frozen=True)
class ServedInput:
    """An input of a served model.

    Args:
        name: Its name in Triton.
        kind: `string`, `float` or `int64`.
        column: The raw column it carries.
        level: What there is one value of: `request`, `candidate`, or an entry of a history.
    """

    name: str
    kind: str
    column: str
    level: str

    def missing(self, candidates: int) -> list[None] | None:
        """The column's value where it is missing, for so many candidates."""
        if self.level == "candidate":
            return [None] * candidates
        return None if self.level == "request" else []


def to_array(value: Any, kind: str) -> Array:
    """A raw value or list as an input: a missing string is empty, a missing number NaN, a missing integer -1.

    Args:
        value: One value, or a list of them.
        kind: `string`, `float` or `int64`.

    Returns:
        [1] or [n]: objects (bytes), float32 or int64.

    Example:
        >>> to_array([1.5, None], "float")
        array([1.5, nan], dtype=float32)
    """
    values = value if isinstance(value, list | tuple) else [value]
    if kind == "string":
        found = np.empty(len(values), dtype=object)
        found[:] = [(text or "").encode() for text in values]
        return found
    if kind == "int64":
        return np.array([-1 if number is None else int(number) for number in values], dtype=np.int64)
    return np.array([np.nan if number is None else number for number in values], dtype=np.float32)


def request_inputs(inputs: Iterable[ServedInput], columns: Mapping[str, object], candidates: int) -> dict[str, Array]:
    """A request's raw columns as a served model's inputs; what a request lacks is missing, for each candidate.

    Args:
        inputs: What the model wants.
        columns: Raw column → value, or list of values.
        candidates: How many there are.

    Example:
        >>> request_inputs([ServedInput("cand__i_price", "float", "i_price", "candidate")], {}, 2)
        {'cand__i_price': array([nan, nan], dtype=float32)}
    """
    found = {}
    for wanted in inputs:
        value = columns.get(wanted.column)
        found[wanted.name] = to_array(wanted.missing(candidates) if value is None else value, wanted.kind)
    return found
