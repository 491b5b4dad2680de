"""Feature parity: what the gateway saw, against the point-in-time rebuild in the day's window."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import pyarrow.parquet as pq

from features.layout import Layout
from freshrank.analysis import impressions
from freshrank.analysis.impressions import Logged, Span
from trainer.data.window import Window

TOLERANCE = 1e-9  # relative and absolute, of numbers that went through JSON


@dataclass(frozen=True)
class ColumnParity:
    """One column.

    Args:
        column: Its name.
        compared: Values compared.
        equal: Those that are equal.
        missing: Requests of which the gateway logged no such column.
        example: The first request in which it differs or is missing; empty where there is none.
        served: What the gateway saw there, as text.
        rebuilt: What the window holds there, as text.
    """

    column: str
    compared: int
    equal: int
    missing: int = 0
    example: str = ""
    served: str = ""
    rebuilt: str = ""


@dataclass(frozen=True)
class FeatureParity:
    """Feature parity of a span.

    Args:
        window: The window that holds the rebuild.
        columns: Each column, in the window's order.
        requests: Requests compared.
        not_logged: Requests of the rebuild whose impression logs no features.
        not_rebuilt: Impressions with features that the rebuild lacks.
    """

    window: str
    columns: tuple[ColumnParity, ...]
    requests: int
    not_logged: int
    not_rebuilt: int

    @property
    def compared(self) -> int:
        """Values compared."""
        return sum(column.compared for column in self.columns)

    @property
    def equal_share(self) -> float | None:
        """The share of them that are equal; None of none."""
        return sum(column.equal for column in self.columns) / self.compared if self.compared else None

    @property
    def differing(self) -> tuple[ColumnParity, ...]:
        """Columns with a value that differs, worst first."""
        found = [column for column in self.columns if column.equal < column.compared]
        return tuple(sorted(found, key=lambda column: column.equal - column.compared))

    @property
    def missing(self) -> tuple[ColumnParity, ...]:
        """Columns that an impression lacks."""
        return tuple(column for column in self.columns if column.missing)


@dataclass
class _Count:
    compared: int = 0
    equal: int = 0
    missing: int = 0
    example: tuple[str, str, str] = field(default=("", "", ""))


def feature_parity(layout: Layout, span: Span, window_id: str) -> FeatureParity:
    """Compare features seen with the rebuild, request by request; a few hundred are in memory.

    Args:
        layout: Where log and windows lie.
        span: Which impressions.
        window_id: The window whose evaluation day is the rebuild of the span.

    Raises:
        NotReadyError: If the event log is not complete for the span, or there is no such window.
    """
    window = Window(layout.window(window_id))
    counts = {name: _Count() for name in _columns(window)}
    requests = not_logged = not_rebuilt = 0
    with impressions.reading(layout, span) as con:
        for served, rebuilt in _in_step(impressions.logged(con), _rows(window, list(counts))):
            if served is None:
                not_logged += 1
            elif rebuilt is None:
                not_rebuilt += 1
            else:
                requests += 1
                for name, count in counts.items():
                    _compare(name, count, served, rebuilt)
    columns = tuple(
        ColumnParity(name, count.compared, count.equal, count.missing, *count.example) for name, count in counts.items()
    )
    return FeatureParity(window_id, columns, requests, not_logged, not_rebuilt)


def _columns(window: Window) -> list[str]:
    """Columns that training and ranking must agree on: what a model reads of a request, but for who and what it is."""
    read = (column for column in window.columns if column.group and column.level != "item")
    return [column.name for column in read if column.level == "history" or column.kind != "id"]


def _rows(window: Window, columns: list[str]) -> Iterator[dict[str, object]]:
    """Requests of the evaluation day, by (event_time, request_id)."""
    for file in window.evaluation:
        for batch in pq.ParquetFile(file).iter_batches(256, columns=["event_time", "request_id", *columns]):
            yield from batch.to_pylist()


def _in_step(
    served: Iterator[Logged], rebuilt: Iterator[dict[str, object]]
) -> Iterator[tuple[Logged | None, dict[str, object] | None]]:
    """Requests of two streams that are in one order; None on the side that lacks one."""
    one, other = next(served, None), next(rebuilt, None)
    while one is not None or other is not None:
        mine = (one.event_time, one.request_id) if one else None
        theirs = (other["event_time"], other["request_id"]) if other else None
        take_mine = theirs is None or (mine is not None and mine <= theirs)
        take_theirs = mine is None or (theirs is not None and theirs <= mine)
        yield one if take_mine else None, other if take_theirs else None
        one = next(served, None) if take_mine else one
        other = next(rebuilt, None) if take_theirs else other


def _compare(name: str, count: _Count, served: Logged, rebuilt: Mapping[str, object]) -> None:
    if name not in served.features_seen:
        count.missing += 1
        count.example = count.example if count.example[0] else (served.request_id, "", _text(rebuilt[name]))
        return
    ours, theirs = _values(served.features_seen[name]), _values(rebuilt[name])
    same_length = len(ours) == len(theirs)
    number = max(len(ours), len(theirs))
    equal = sum(map(_same, ours, theirs)) if same_length else 0
    count.compared, count.equal = count.compared + number, count.equal + equal
    if equal < number and not count.example[0]:
        shown: tuple[object, object] = (ours, theirs)
        if same_length:
            shown = next(pair for pair in zip(ours, theirs, strict=True) if not _same(*pair))
        count.example = (served.request_id, _text(shown[0]), _text(shown[1]))


def _values(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def _same(one: object, other: object) -> bool:
    if isinstance(one, int | float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return bool(one == other)


def _text(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else text[:77] + "..."
