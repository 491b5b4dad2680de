"""Configurations that people write: what is refused, and what a mapping leaves as it is."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar, Literal

import pytest
from pydantic import Field

from features.configuration import Finite, Natural, Rate, Share, Size, Weight, check, read
from features.errors import UsageError


@dataclass(frozen=True)
class Oven:
    """What a nested configuration looks like."""

    RENAMED: ClassVar[dict[str, str]] = {"blower": "fan"}

    degrees: Annotated[float, Field(ge=0, le=300)] = 180.0
    fan: bool = False
    rack: Literal["top", "middle"] = "middle"

    def __post_init__(self) -> None:
        check(self, "oven.")


@dataclass(frozen=True)
class Bakery:
    """What a configuration looks like."""

    loaves: Size = 3
    spare: Natural = 0
    rye: Share = 0.5
    pace: Rate = 1.0
    salt: Weight = 0.0
    slope: Finite = 0.0
    sizes: tuple[Size, ...] = (1,)
    span: tuple[Natural, Natural] = (1, 2)
    prices: dict[str, Rate] = field(default_factory=dict)
    opened: dt.date = dt.date(2025, 1, 1)
    closed: int | None = None
    # not the class's own default: a table that names one field leaves the others here as they are
    oven: Oven = field(default_factory=lambda: Oven(degrees=220.0, fan=True))


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"loafs": 1}, "unknown field: loafs = 1; use one of: closed, loaves, opened, oven, pace, prices, rye, "),
        ({"oven": {"grade": 1}}, "unknown field: oven.grade = 1; use one of: degrees, fan, rack"),
        ({"oven": {"blower": True}}, "renamed: oven.blower = True; use fan"),
        ({"loaves": 0}, "out of range: loaves = 0; use 1 or more"),
        ({"loaves": True}, "wrong type: loaves = True; use a whole number"),
        ({"loaves": 2.0}, "wrong type: loaves = 2.0; use a whole number"),
        ({"loaves": "3"}, "wrong type: loaves = '3'; use a whole number"),
        ({"rye": 1.5}, "out of range: rye = 1.5; use at most 1"),
        ({"rye": float("nan")}, "out of range: rye = nan; use at most 1"),
        ({"pace": 0}, "out of range: pace = 0; use more than 0"),
        ({"salt": float("inf")}, "out of range: salt = inf; use a finite number"),
        ({"slope": float("nan")}, "out of range: slope = nan; use a finite number"),
        ({"sizes": [1, 0]}, "out of range: sizes[1] = 0; use 1 or more"),
        ({"sizes": 1}, "wrong type: sizes = 1; use an array"),
        ({"span": [1]}, "too few values: span = [1]; give one more"),
        ({"span": [1, 2, 3]}, "too many values: span = [1, 2, 3]; use at most 2"),
        ({"prices": {"rye": -1.0}}, "out of range: prices.rye = -1.0; use more than 0"),
        ({"opened": "yesterday"}, "wrong type: opened = 'yesterday'; "),
        ({"oven": 3}, "wrong type: oven = 3; use a table"),
        ({"oven": {"fan": 1}}, "wrong type: oven.fan = 1; use true or false"),
        ({"oven": {"rack": "floor"}}, "not one of the choices: oven.rack = 'floor'; use 'top' or 'middle'"),
    ],
)
def test_one_line_names_field_value_and_remedy(values: dict[str, object], line: str) -> None:
    with pytest.raises(UsageError) as error:
        read(Bakery, values)
    assert str(error.value).startswith(line)


def test_what_is_left_out_keeps_its_default_in_tables_too() -> None:
    bakery = read(Bakery, {"oven": {"rack": "top"}, "sizes": [2, 3], "pace": 2, "opened": dt.date(2024, 2, 29)})
    assert bakery == replace(
        Bakery(), oven=Oven(220.0, True, "top"), sizes=(2, 3), pace=2.0, opened=dt.date(2024, 2, 29)
    )
    assert isinstance(bakery.pace, float)
    assert read(Bakery, {}) == Bakery()


def test_text_stands_for_numbers_only_where_it_is_asked_to() -> None:
    values = {"loaves": "7", "rye": "0.25", "opened": "2024-02-29", "oven": {"fan": "false"}}
    bakery = read(Bakery, values, text=True)
    assert bakery == replace(
        Bakery(), loaves=7, rye=0.25, opened=dt.date(2024, 2, 29), oven=Oven(degrees=220.0, fan=False)
    )
    with pytest.raises(UsageError, match=r"wrong type: shop\.loaves = 'x'; use a whole number"):
        read(Bakery, {"loaves": "x"}, text=True, prefix="shop.")


def test_one_made_in_python_is_checked_where_it_asks_for_it() -> None:
    with pytest.raises(UsageError, match=r"out of range: oven\.degrees = 400; use at most 300"):
        Oven(degrees=400)
    with pytest.raises(UsageError, match=r"wrong type: oven\.fan = 1; use true or false"):
        replace(Oven(), fan=1)  # type: ignore[arg-type]
