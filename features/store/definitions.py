"""Every feature, once: its name, type and meaning; Feast's objects and the service's name are made from this table.

A feature that is computed differently under the same name needs a higher `VERSION`: the service's hash, and with it
every bundle's pin, comes from this file's tables alone.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from features.database import pattern
from features.labels.columns import HISTORIES
from features.layout import Layout
from features.settings import FeatureSettings

VERSION = 1
USER, ITEM = "user", "item"
PROJECT = "freshrank"
Type = Literal["text", "number", "texts", "ints"]
# Columns of a window's items that no attribute may take; shop, brand and such are features already.
LISTED = ("item_id", "text_sha", "image_sha", "title", "description", "image_uri", "gone", "first_known")


@dataclass(frozen=True)
class Feature:
    """One feature.

    Args:
        name: Its name, prefix included.
        type: `text` is categorical, `number` is float64; `texts` and `ints` are lists.
        meaning: One line.
        hidden: An input of crosses that is no feature of its own.
        unit: Unit of a number; empty where it has none.
        span_h: Hours that a statistic looks back over, or None.
        domain: What its values are values of (`features.dictionary.Column`); its own name by default.
    """

    name: str
    type: Type
    meaning: str
    hidden: bool = False
    unit: str = ""
    span_h: int | None = None
    domain: str = ""


@dataclass(frozen=True)
class Definitions:
    """The features of one service.

    Args:
        context: Fields of the context, without prefix.
        user: Features of the user view, histories apart.
        histories: List features of the user view: what the user had done.
        item: Features of the item view.
        crosses: Computed from the others by `features.store.crosses`.
    """

    context: tuple[str, ...]
    user: tuple[Feature, ...]
    histories: tuple[Feature, ...]
    item: tuple[Feature, ...]
    crosses: tuple[Feature, ...]

    @property
    def hash(self) -> str:
        """sha256 of the tables, 64 hexadecimal digits."""
        content = [VERSION, list(self.context)] + [
            [[feature.name, feature.type] for feature in group]
            for group in (self.user, self.histories, self.item, self.crosses)
        ]
        return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()

    @property
    def service(self) -> str:
        """The feature service's name, `ranker_<hash8>`."""
        return f"ranker_{self.hash[:8]}"

    def view(self, entity: str) -> str:
        """Name of the feature view of `user` or `item`; views of two services never mix."""
        return f"{entity}_{self.hash[:8]}"

    def features(self, entity: str) -> tuple[Feature, ...]:
        """All features of the view of `user` or `item`."""
        return self.user + self.histories if entity == USER else self.item

    def refs(self, entity: str, *, histories: bool = True) -> list[str]:
        """Feast's references, `view:feature`, of `user` or `item`."""
        group = self.features(entity) if histories or entity == ITEM else self.user
        return [f"{self.view(entity)}:{feature.name}" for feature in group]


def define(settings: FeatureSettings) -> Definitions:
    """The features that the settings' fields give."""
    place = (
        Feature("{}_latitude", "number", "where it is", hidden=True, unit="degrees"),
        Feature("{}_longitude", "number", "where it is", hidden=True, unit="degrees"),
    )
    user = (
        *(Feature(f"u_{name}", "text", f"the profile's {name}") for name in settings.user),
        *(replace(feature, name=feature.name.format("u")) for feature in place),
        Feature("u_buys_30d", "number", "purchases of 30 days", span_h=30 * 24),
        Feature("u_spend_30d", "number", "money spent in 30 days", unit="minor units", span_h=30 * 24),
        Feature("u_clicks_7d", "number", "clicks of 7 days", span_h=7 * 24),
        Feature("u_requests_7d", "number", "requests of 7 days", span_h=7 * 24),
        Feature("u_mean_price", "number", "mean price paid a piece over the newest 50 purchases", unit="minor units"),
        Feature("u_days_since_last", "number", "from the last purchase to the cutoff", unit="days"),
    )
    histories = tuple(
        Feature(column.name, "texts" if column.dtype == "list<string>" else "ints", column.meaning, unit=column.unit)
        for column in HISTORIES
    )
    item = (
        Feature("i_shop", "text", "who sells it", domain="shop_id"),
        Feature("i_brand", "text", "its brand", domain="brand_id"),
        Feature("i_category", "text", "its category", domain="category_id"),
        *(Feature(f"i_{name}", "text", f"its attribute {name}") for name in settings.item),
        *(replace(feature, name=feature.name.format("i")) for feature in place),
        Feature("i_price", "number", "its price", unit="minor units"),
        Feature("i_weight", "number", "its weight", unit="g"),
        *(Feature(f"i_{name}", "number", f"its attribute {name}") for name in settings.item_numbers),
        Feature("i_available", "number", "1 where it can be bought, 0 where not or gone; null: unknown item"),
        Feature("i_age_hours", "number", "from the first known listing to the cutoff", unit="hours"),
        Feature("i_discount", "number", "1 - price / highest price listed within 30 days"),
        Feature("i_exposures_7d", "number", "times shown in 7 days", span_h=7 * 24),
        Feature("i_clicks_7d", "number", "clicks of 7 days", span_h=7 * 24),
        Feature("i_purchases_7d", "number", "purchases of 7 days", span_h=7 * 24),
        Feature("i_gmv_7d", "number", "money paid for it in 7 days", unit="minor units", span_h=7 * 24),
        Feature("i_ctr_7d", "number", "clicks an exposure, shrunk to the mean of all items", span_h=7 * 24),
        Feature("i_cvr_7d", "number", "purchases an exposure, shrunk to the mean of all items", span_h=7 * 24),
    )
    crosses = (
        Feature("x_item_buys", "number", "the user's newest 50 purchases that are of this item"),
        Feature("x_item_days", "number", "from the last of them to the cutoff", unit="days"),
        Feature("x_item_clicks", "number", "clicks and carts of this item among the newest 100 behaviours"),
        Feature("x_category_buys", "number", "the user's newest 50 purchases that are of this category"),
        Feature("x_category_days", "number", "from the last of them to the cutoff", unit="days"),
        Feature("x_shop_buys", "number", "the user's newest 50 purchases that are of this shop"),
        Feature("x_price_ratio", "number", "price over the mean price the user pays"),
        Feature("x_same_zone", "number", "1 where the context's zone, else the user's, is the item's"),
        Feature(
            "x_distance_km",
            "number",
            "great circle between user and item, where both tell latitude (-90 to 90) and longitude (-360 to 360)",
            unit="km",
        ),
    )
    _refuse_twice(user + item)
    return Definitions(settings.context, user, histories, item, crosses)


def _refuse_twice(features: tuple[Feature, ...]) -> None:
    from features.errors import UsageError

    seen = {f"i_{name}" for name in LISTED}
    for feature in features:
        if feature.name in seen:
            raise UsageError(
                "the name of a feature is taken",
                field="features",
                value=feature.name,
                remedy="leave the field out of `features.user`, `features.item` or `features.item_numbers`",
            )
        seen.add(feature.name)


def source_folder(layout: Layout, definitions: Definitions, entity: str) -> Path:
    """Folder of the offline snapshots of `user` or `item`, a Parquet file a cut."""
    return layout.feast / definitions.service / f"{entity}s"


def feast_objects(layout: Layout, definitions: Definitions) -> list[Any]:
    """Feast's entities, views and the one service.

    Values have two timestamps, both the snapshot's cut: `event_timestamp`, as of when they hold, and
    `created_timestamp`, when they could be known.
    """
    from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
    from feast.types import Array, Float64, Int64, String

    types: dict[Type, Any] = {"text": String, "number": Float64, "texts": Array(String), "ints": Array(Int64)}
    entities, views = [], []
    for name in (USER, ITEM):
        entity = Entity(name=name, join_keys=[f"{name}_id"], value_type=ValueType.STRING)
        view = FeatureView(
            name=definitions.view(name),
            entities=[entity],
            schema=[
                Field(name=f"{name}_id", dtype=String),  # told, so that Feast need not open the source to find out
                *(
                    Field(name=feature.name, dtype=types[feature.type], description=feature.meaning)
                    for feature in definitions.features(name)
                ),
            ],
            source=FileSource(
                name=f"{definitions.view(name)}_snapshots",
                path=pattern(source_folder(layout, definitions, name)) + "/*.parquet",
                timestamp_field="event_timestamp",
                created_timestamp_column="created_timestamp",
            ),
            ttl=None,  # the online store enforces none: training must not either
            online=True,
        )
        entities.append(entity)
        views.append(view)
    service = FeatureService(name=definitions.service, features=[*views])
    return [*entities, *views, service]
