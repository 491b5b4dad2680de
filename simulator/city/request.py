"""Requests, and their names: the day and the number in it."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Protocol

from features.errors import DataError
from features.events import Scalar
from simulator.city.draws import Ints


@dataclass(frozen=True)
class ListRequest:
    """A shopper asks for a list.

    Args:
        request_id: Names it.
        user_id: Who asks.
        time_us: When, µs UTC.
        context: `zone`, `hour`, `weekday`, `weather`, `payday`.
        candidates: Item ids, in an order that tells nothing.
    """

    request_id: str
    user_id: str
    time_us: int
    context: dict[str, Scalar]
    candidates: list[str]


class Named(Protocol):
    """Anything that names a request, whoever kept it."""

    @property
    def request_id(self) -> str:
        """The request's name."""


def request_ids(day: dt.date, numbers: Ints) -> list[str]:
    """Names of a day's requests by their numbers.

    Example:
        >>> import numpy as np
        >>> request_ids(dt.date(2025, 3, 3), np.array([7]))
        ['city-20250303-0000007']
    """
    date = day.strftime("%Y%m%d")
    return [f"city-{date}-{number:07d}" for number in numbers.tolist()]


def parse_request_id(request_id: str) -> tuple[dt.date, int]:
    """The day and the number that a name says.

    Example:
        >>> parse_request_id("city-20250303-0000007")
        (datetime.date(2025, 3, 3), 7)

    Raises:
        DataError: If it is no name of a request.
    """
    parts = request_id.split("-")
    try:
        return dt.datetime.strptime(parts[1], "%Y%m%d").date(), int(parts[2])  # noqa: DTZ007 - a day
    except (IndexError, ValueError):
        raise DataError("not a request of the city", field="request_id", value=request_id) from None
