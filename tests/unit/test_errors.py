"""A user's error names the field, the value and the remedy, and each kind has its exit code."""

import pytest

from features.errors import DataError, FreshrankError, LockedError, NotReadyError, UnreachableError, UsageError


def test_line_names_field_value_and_remedy() -> None:
    error = UsageError("not a day", field="date", value="2025-13-01", remedy="write YYYY-MM-DD")
    assert str(error) == "not a day: date = '2025-13-01'; write YYYY-MM-DD"


def test_line_without_field_or_remedy() -> None:
    assert str(FreshrankError("the disk is full")) == "the disk is full"


def test_a_long_value_is_cut() -> None:
    line = str(DataError("bad", field="f", value="x" * 10_000))
    assert len(line) < 250
    assert line.endswith("...")


@pytest.mark.parametrize(
    ("kind", "code"),
    [(FreshrankError, 1), (UsageError, 2), (DataError, 3), (NotReadyError, 4), (UnreachableError, 5), (LockedError, 6)],
)
def test_exit_codes(kind: type[FreshrankError], code: int) -> None:
    assert kind("x").exit_code == code
