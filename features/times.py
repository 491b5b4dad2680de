"""Time: int64 µs since 1970 UTC in tables, RFC 3339 with µs and `Z` in JSON; never the wall clock."""

from __future__ import annotations

import datetime as dt

from features.errors import UsageError

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def to_us(moment: dt.datetime) -> int:
    """Microseconds since 1970 UTC of an aware datetime, exactly.

    Raises:
        ValueError: If the datetime is naive.
    """
    if moment.tzinfo is None:
        raise ValueError(f"naive datetime: {moment!r}")
    return (moment - _EPOCH) // dt.timedelta(microseconds=1)


def to_datetime(us: int) -> dt.datetime:
    """The aware UTC datetime of microseconds since 1970."""
    return _EPOCH + dt.timedelta(microseconds=us)


def format_us(us: int) -> str:
    """RFC 3339 with six decimals and `Z`.

    Example:
        >>> format_us(1_500_000)
        '1970-01-01T00:00:01.500000Z'
    """
    return to_datetime(us).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_us(text: str) -> int:
    """Microseconds of an RFC 3339 time.

    Raises:
        UsageError: If the text is no RFC 3339 time with a zone.
    """
    try:
        return to_us(dt.datetime.fromisoformat(text))
    except ValueError as error:
        raise UsageError(
            "not a time", field="time", value=text, remedy="write RFC 3339 with a zone, such as 2025-03-01T02:00:00Z"
        ) from error


def parse_date(text: str) -> dt.date:
    """A calendar day that a run can be for.

    Raises:
        UsageError: If the text is not YYYY-MM-DD, or no day of the years 1971 to 2199: nothing lies before, and what
            is made of days beyond would not fit the tables of all tools.
    """
    try:
        day = dt.date.fromisoformat(text)
    except ValueError as error:
        raise UsageError("not a day", field="date", value=text, remedy="write YYYY-MM-DD") from error
    if not 1971 <= day.year <= 2199:
        raise UsageError("no run can be for that day", field="date", value=text, remedy="name one from 1971 to 2199")
    return day


def day_start(day: dt.date) -> int:
    """Microseconds of midnight UTC at which the day begins."""
    return (day - _EPOCH.date()).days * DAY


def day_of(us: int) -> dt.date:
    """The UTC day that holds the moment."""
    return _EPOCH.date() + dt.timedelta(days=us // DAY)


def run_start(day: dt.date) -> int:
    """Start of the run for a day: 02:00 UTC, Airflow's `data_interval_start`."""
    return day_start(day) + 2 * HOUR


def day_of_cut(us: int) -> dt.date | None:
    """The run's day whose cut a moment is; None where it is none.

    Example:
        >>> day_of_cut(run_cut(dt.date(2026, 1, 9))), day_of_cut(run_cut(dt.date(2026, 1, 9)) + 1)
        (datetime.date(2026, 1, 9), None)
    """
    day = day_of(us - DAY)
    return day if run_cut(day) == us else None


def run_cut(day: dt.date) -> int:
    """The cut of the run for a day: 02:00 UTC of the next day. Only facts known before it exist for the run."""
    return run_start(day) + DAY
