"""How one column becomes indices or numbers, as learned from the train split."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


class Categorical:
    """A column of values as text; the most frequent has index 1.

    Args:
        name: The column.
        values: The vocabulary, most frequent first.
        numerals: Whether the train split has numerals alone, of which whole ones are written as integers.

    Example:
        >>> Categorical("colour", ["red", "blue"]).indices(pa.array(["blue", None, "green", "red"])).tolist()
        [2, 0, 0, 1]
    """

    def __init__(self, name: str, values: list[str], numerals: bool = False) -> None:
        self.name, self.values, self.numerals = name, pa.array(values, pa.string()), numerals

    def describe(self) -> dict[str, object]:
        """What `fields.json` says of it."""
        return {"name": self.name, "kind": "id", "rows": len(self.values) + 1}

    def indices(self, column: pa.Array) -> NDArray[np.int32]:
        """Index of each value; 0 where the vocabulary lacks it, or it is missing."""
        found = pc.fill_null(pc.index_in(column.cast(pa.string()), value_set=self.values), -1)
        indices: NDArray[np.int32] = found.to_numpy(zero_copy_only=False).astype(np.int32) + np.int32(1)
        return indices


class Bucketised:
    """A number by edges: index 1 below the first, and so on; 0 is missing.

    Args:
        name: The column.
        edges: Where one bucket ends and the next begins, ascending; an edge belongs to the bucket above it.

    Example:
        >>> Bucketised("price", np.array([1.0, 5.0])).indices(pa.array([0.5, 1.0, 9.0, None])).tolist()
        [1, 2, 3, 0]
    """

    def __init__(self, name: str, edges: NDArray[np.float64]) -> None:
        self.name, self.edges = name, edges

    def describe(self) -> dict[str, object]:
        """What `fields.json` says of it."""
        return {"name": self.name, "kind": "id", "rows": len(self.edges) + 2, "edges": self.edges.tolist()}

    def indices(self, column: pa.Array) -> NDArray[np.int32]:
        """Bucket of each number; 0 where it is missing."""
        x = column.to_numpy(zero_copy_only=False)
        return np.where(np.isnan(x), 0, np.searchsorted(self.edges, x, side="right") + 1).astype(np.int32)


class Embedded:
    """A number as it is, scaled: (x − shift) · factor, or sign(x) ln(1 + |x|).

    Args:
        name: The column.
        shift: What is subtracted.
        factor: What the rest is multiplied with.
        log: Whether the logarithm is taken instead.
    """

    def __init__(self, name: str, shift: float, factor: float, log: bool) -> None:
        self.name, self.shift, self.factor, self.log = name, shift, factor, log

    def describe(self) -> dict[str, object]:
        """What `fields.json` says of it."""
        return {
            "name": self.name,
            "kind": "number",
            "rows": 2,
            "shift": self.shift,
            "factor": self.factor,
            "log": self.log,
        }

    def numbers(self, column: pa.Array) -> NDArray[np.float32]:
        """The scaled numbers; NaN where missing."""
        x = column.to_numpy(zero_copy_only=False)
        x = np.sign(x) * np.log1p(np.abs(x)) if self.log else (x - self.shift) * self.factor
        scaled: NDArray[np.float32] = x.astype(np.float32)
        return scaled


Column = Categorical | Bucketised | Embedded
