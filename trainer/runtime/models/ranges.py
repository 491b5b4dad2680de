"""Ranges of a recipe's numbers, as markers in the types of its fields; plain Python, because every bundle carries them.

Outside, `features/configuration.py` turns the same markers into constraints of pydantic, which is not imported here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Annotated, Any


@dataclass(frozen=True)
class Range:
    """Where a number has to lie; the ends are named as pydantic and annotated-types name theirs.

    It is finite and a number, whatever the ends.

    Args:
        ge: It is this or more.
        gt: It is more than this.
        le: It is this or less.
        lt: It is less than this.

    Example:
        >>> share = Range(ge=0, lt=1)
        >>> 0.5 in share, 1.0 in share, float("nan") in share
        (True, False, False)
        >>> print(share)
        0 or more and less than 1
    """

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None

    def __contains__(self, value: float) -> bool:
        return (
            -math.inf < value < math.inf
            and (self.ge is None or value >= self.ge)
            and (self.gt is None or value > self.gt)
            and (self.le is None or value <= self.le)
            and (self.lt is None or value < self.lt)
        )

    def __str__(self) -> str:
        words = {"ge": "{:g} or more", "gt": "more than {:g}", "le": "at most {:g}", "lt": "less than {:g}"}
        return " and ".join(words[name].format(end) for name, end in self._ends().items())

    def __get_pydantic_core_schema__(self, source: object, handler: Callable[[object], dict[str, Any]]) -> Any:
        """The schema of the marked type with these ends; pydantic calls it, outside the runtime alone."""
        schema = handler(source)
        finite = {"allow_inf_nan": False} if schema["type"] == "float" else {}
        return schema | self._ends() | finite

    def _ends(self) -> dict[str, float]:
        return {name: end for name, end in asdict(self).items() if end is not None}


LARGEST = 1e30  # weights are 32-bit floats: what is beyond their range fails in torch

Size = Annotated[int, Range(ge=1)]
"""A width or a count of what there has to be."""

Natural = Annotated[int, Range(ge=0)]
"""A count that may be 0."""

Share = Annotated[float, Range(ge=0, le=1)]
"""A share of a whole."""

Fraction = Annotated[float, Range(ge=0, lt=1)]
"""A share that leaves something, such as what dropout drops."""

Rate = Annotated[float, Range(gt=0, le=LARGEST)]
"""A factor that has to be above 0, such as a learning rate."""

Weight = Annotated[float, Range(ge=0, le=LARGEST)]
"""A factor that may be 0, such as that of a penalty, or a standard deviation."""
