"""Raw values as a served model's inputs. Light: the gateway has no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt


def to_array(value: Any, kind: str) -> npt.NDArray[Any]:
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


def request_inputs(
    inputs: Iterable[tuple[str, str, str]], columns: Mapping[str, Any], candidates: int
) -> dict[str, npt.NDArray[Any]]:
    """A request's raw columns as a served model's inputs; what a request lacks is missing, for each candidate.

    Args:
        inputs: (input, kind, column) of each.
        columns: Raw column → value, or list of values.
        candidates: How many there are.

    Example:
        >>> request_inputs([("cand__i_price", "float", "i_price")], {}, 2)
        {'cand__i_price': array([nan, nan], dtype=float32)}
    """
    found = {}
    for name, kind, column in inputs:
        missing: Any = [None] * candidates if name.startswith("cand__") else [] if name.startswith("hist__") else None
        value = columns.get(column)
        found[name] = to_array(missing if value is None else value, kind)
    return found
