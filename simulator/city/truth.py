"""What only the city knows, kept apart from its events; reports join it to scores, and nothing else may read it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features.errors import NotReadyError
from features.layout import Layout

CANDIDATES = pa.schema(
    [
        ("request_id", pa.string()),
        ("user_id", pa.string()),
        ("item_id", pa.string()),
        ("position", pa.int16()),  # null: a candidate that was not shown
        ("policy", pa.string()),
        ("relevance", pa.float64()),  # probability of purchase if looked at
        ("purchase", pa.float64()),  # probability of purchase at its position
        ("click", pa.float64()),  # probability of a click if looked at
        ("click_utility", pa.float64()),
        ("buy_utility", pa.float64()),
    ]
)
LISTINGS = pa.schema(
    [
        ("item_id", pa.string()),
        ("created_us", pa.int64()),
        ("product", pa.int64()),
        ("shop_id", pa.string()),
        ("category", pa.string()),
        ("variety", pa.string()),
        ("brand", pa.string()),
        ("package", pa.string()),
        ("weight_g", pa.int64()),
        ("origin", pa.string()),
        ("freshness", pa.float64()),
        ("dirt_text", pa.string()),  # '' where clean
        ("dirt_photo", pa.string()),
        ("mismatch", pa.float64()),
    ]
)


class TruthFiles:
    """Writes the truth of one city, a file a day and kind; a day written again replaces itself.

    Args:
        folder: `Layout.truth("city")`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: dict[str, pq.ParquetWriter] = {}
        self._names: dict[str, tuple[Path, Path]] = {}

    def add(self, kind: str, day: dt.date, table: pa.Table) -> None:
        """Append rows of `candidates` or `listings` to a day."""
        name = f"{kind}/{day.isoformat()}.parquet"
        if name not in self._open:
            final = self.folder / name
            final.parent.mkdir(parents=True, exist_ok=True)
            part = final.with_name(f".{final.name}.part")
            self._names[name] = (part, final)
            self._open[name] = pq.ParquetWriter(part, CANDIDATES if kind == "candidates" else LISTINGS)
        self._open[name].write_table(table)

    def close_day(self) -> None:
        """Finish the files of the day: they appear whole."""
        for name, writer in self._open.items():
            writer.close()
            part, final = self._names[name]
            part.replace(final)
        self._open.clear()


class Truth:
    """Reads the truth, for reports alone.

    Args:
        layout: The stack's folders.
    """

    def __init__(self, layout: Layout) -> None:
        self.folder = layout.truth("city")

    def candidates(self, day: dt.date, columns: Sequence[str] | None = None) -> pa.Table:
        """Every candidate of a day's answered requests (of logged history: the shown ones) with its probabilities.

        Raises:
            NotReadyError: If the day was not simulated to its end.
        """
        return self._read("candidates", day, columns)

    def listings(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Every listing so far: what it is and how it is dirty."""
        files = sorted((self.folder / "listings").glob("*.parquet"))
        if not files:
            raise NotReadyError(
                "no truth was written", field="truth", value=str(self.folder), remedy="run the city first"
            )
        return pa.concat_tables([pq.read_table(file, columns=columns) for file in files])

    def _read(self, kind: str, day: dt.date, columns: Sequence[str] | None) -> pa.Table:
        file = self.folder / kind / f"{day.isoformat()}.parquet"
        if not file.exists():
            raise NotReadyError("no truth of this day", field="truth", value=str(file), remedy="run the city's day")
        return pq.read_table(file, columns=columns)


def expected_purchases(relevance: dict[str, float], ranked: Sequence[str], examination: float) -> float:
    """True expected purchases of a ranked list.

    Args:
        relevance: Probability of purchase of each candidate if looked at.
        ranked: The list, first place first.
        examination: `CityConfig.examination`.

    Example:
        >>> round(expected_purchases({"a": 0.2, "b": 0.1}, ["a", "b"], 1.0), 3)
        0.25
    """
    places = (1.0 + np.arange(len(ranked))) ** -examination
    return float(sum(place * relevance[item] for place, item in zip(places.tolist(), ranked, strict=True)))


def candidate_rows(columns: dict[str, object]) -> pa.Table:
    """Rows of `candidates` from arrays or lists."""
    return pa.table([pa.array(columns[field.name], field.type) for field in CANDIDATES], schema=CANDIDATES)


def listing_rows(columns: dict[str, object]) -> pa.Table:
    """Rows of `listings` from arrays or lists."""
    return pa.table([pa.array(columns[field.name], field.type) for field in LISTINGS], schema=LISTINGS)
