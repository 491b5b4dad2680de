"""Times survive the way through text to the microsecond; days and cuts are exact."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features import times
from features.errors import UsageError

moments = st.integers(min_value=0, max_value=times.to_us(dt.datetime(2200, 1, 1, tzinfo=dt.UTC)))


@given(moments)
def test_text_round_trip(us: int) -> None:
    assert times.parse_us(times.format_us(us)) == us


@given(moments)
def test_a_moment_lies_in_its_day(us: int) -> None:
    start = times.day_start(times.day_of(us))
    assert start <= us < start + times.DAY


@given(st.dates(min_value=dt.date(1971, 1, 1), max_value=dt.date(2199, 1, 1)))
def test_the_cut_of_a_day_is_the_start_of_the_next_run(day: dt.date) -> None:
    assert times.run_cut(day) == times.run_start(day + dt.timedelta(days=1))
    assert times.format_us(times.run_cut(day)).endswith("T02:00:00.000000Z")


@pytest.mark.parametrize("text", ["2025-03-01T02:00:00", "yesterday", "", "2025-03-01"])
def test_a_time_without_zone_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="RFC 3339"):
        times.parse_us(text)


@pytest.mark.parametrize("text", ["0001-01-05", "1970-12-31", "2200-01-01", "9999-12-31", "2025-02-29", "today", ""])
def test_a_day_that_no_run_can_be_for_is_refused(text: str) -> None:
    """The days around it lay outside the calendar: `labels` ended in an OverflowError."""
    with pytest.raises(UsageError, match="date"):
        times.parse_date(text)


def test_a_naive_datetime_is_refused() -> None:
    with pytest.raises(ValueError, match="naive"):
        times.to_us(dt.datetime(2025, 1, 1))  # noqa: DTZ001 - the one it must refuse
