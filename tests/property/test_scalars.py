"""A context's number is one text in training and in serving, and no text becomes a number that is none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.database import connect
from features.events import Scalar
from features.scalars import number_sql, text, text_sql
from features.store.crosses import crosses

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.text(),
    st.integers(),
    st.integers(-(10**40), 10**40),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(2**60), 2**60).map(float),
    st.floats(-1e25, 1e25, allow_nan=False),
)
KNOWN: list[tuple[Scalar, str | None]] = [
    (9, "9"), (9.0, "9.0"), (0.1, "0.1"), (-0.0, "-0.0"), (1e20, "1e+20"), (1e-7, "1e-07"), (1.5e16, "1.5e+16"),
    (1e15, "1000000000000000.0"), (5e-324, "5e-324"), (1.7976931348623157e308, "1.7976931348623157e+308"),
    (2**53 + 1, "9007199254740993"), (2**64, "18446744073709551616"), (-(2**63) - 1, "-9223372036854775809"),
    (10**30, "1" + "0" * 30), (True, "true"), (False, "false"), (None, None), ("1e20", "1e20"), ("", ""),
    ("a\x00b", "a\x00b"),
]  # fmt: skip


def asked(values: list[Any], sql: str) -> list[Any]:
    """What SQL makes of values that came as events do: through JSON."""
    written = [msgspec.json.encode({"other": 1, "a": value}).decode() for value in values]
    con = connect()
    con.register("rows", pa.table({"place": range(len(values)), "json": written}))
    return [row[0] for row in con.execute(f"SELECT {sql} FROM rows ORDER BY place").fetchall()]


@pytest.mark.parametrize(("value", "wanted"), KNOWN)
def test_a_scalar_has_one_text(value: Scalar, wanted: str | None) -> None:
    assert text(value) == wanted
    assert asked([value], text_sql("json", "a")) == [wanted]


@settings(max_examples=30, deadline=None)
@given(st.lists(SCALARS, min_size=50, max_size=400))
def test_training_and_serving_write_every_scalar_alike(values: list[Scalar]) -> None:
    read = msgspec.json.decode(msgspec.json.encode(values), type=list[Scalar])
    assert asked(values, text_sql("json", "a")) == [text(value) for value in read]


def test_what_is_no_finite_number_is_unknown() -> None:
    values: list[Scalar] = [
        "inf", "-Infinity", "nan", "1e400", "-1e400", "x", "", None, True, 10**400, 1e308, "5", " 7.5 ", 3, 1e38, "1e3",
    ]  # fmt: skip
    assert asked(values, number_sql("json", "a")) == [None] * 11 + [5.0, 7.5, 3.0, 1e38, 1000.0]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.none() | st.floats(), min_size=4, max_size=4))
def test_a_distance_is_one_on_earth_or_unknown(places: list[float | None]) -> None:
    """Also of values that a store got before numbers were checked, and of latitudes beyond the poles."""
    latitude, longitude, *other = places
    user = {"u_latitude": latitude, "u_longitude": longitude}
    items: dict[str, Sequence[object]] = {"item_id": ["a"], "i_latitude": other[:1], "i_longitude": other[1:]}
    (found,) = crosses(0, {}, user, items)["x_distance_km"]
    assert found is None or 0 <= found <= math.pi * 6371.01


@pytest.mark.parametrize("latitudes", [(91.0, 89.0), (1e300, 0.0), (math.inf, 0.0), (math.nan, 0.0), (200.0, 200.0)])
def test_a_latitude_beyond_the_pole_is_no_place(latitudes: tuple[float, float]) -> None:
    user = {"u_latitude": latitudes[0], "u_longitude": 180.0}
    items: dict[str, Sequence[object]] = {"item_id": ["a"], "i_latitude": [latitudes[1]], "i_longitude": [0.0]}
    assert crosses(0, {}, user, items)["x_distance_km"] == [None]
