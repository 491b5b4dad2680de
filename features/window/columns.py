"""The data dictionary of a window: columns of its requests and of its catalogue."""

from __future__ import annotations

from features.dictionary import Column, Kind
from features.settings import FeatureSettings
from features.store.columns import request_columns
from features.store.definitions import define

_KEPT = ("zone",)  # attributes that an item keeps: what the catalogue says now held when a history met the item, too


def columns(settings: FeatureSettings) -> tuple[Column, ...]:
    """Every column of a window's files, in order: of `requests/` and `eval/`, then of `items.parquet`."""
    return (*request_columns(define(settings)), *item_columns(settings))


def item_columns(settings: FeatureSettings) -> tuple[Column, ...]:
    """Columns of `items.parquet`, in order.

    One that has a candidate column's domain tells the same of an item in a history.
    """

    def column(
        name: str,
        kind: Kind,
        meaning: str,
        domain: str = "",
        *,
        dtype: str = "string",
        unit: str = "",
        read: bool = True,
    ) -> Column:
        return Column(name, "item", kind, dtype, "item" if read else None, unit, meaning, domain=domain)

    return (
        column("item_id", "id", "the item", "item_id"),
        column("text_sha", "sha", "content hash of its text; null: none"),
        column("image_sha", "sha", "content hash of its photo; null: none"),
        column("title", "text", "its title", read=False),
        column("description", "text", "its description", read=False),
        column("image_uri", "text", "where its photo lies", read=False),
        column("shop", "categorical", "who sells it", "shop_id"),
        column("brand", "categorical", "its brand", "brand_id"),
        column("category", "categorical", "its category", "category_id"),
        *(
            column(name, "categorical", f"its attribute {name}", f"i_{name}" if name in _KEPT else "")
            for name in settings.item
        ),
        column("price", "numeric", "its price", "i_price", dtype="double", unit="minor units"),
        column("weight", "numeric", "its weight", "i_weight", dtype="double", unit="g"),
        column("available", "flag", "whether it can be bought", dtype="bool", read=False),
        column("gone", "flag", "whether its listing was taken away", dtype="bool", read=False),
        column("first_known", "time", "when it was first known", dtype="int64", unit="µs UTC", read=False),
    )  # fmt: skip
