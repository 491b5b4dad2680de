"""Columns of a window's rows: names, types, whose they are and what they are."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from features.labels import requests
from features.settings import FeatureSettings
from features.store.definitions import Feature, define

if TYPE_CHECKING:
    import pyarrow as pa

Level = Literal["request", "user", "context", "history", "item", "cross", "candidate", "label"]
Kind = Literal["id", "time", "categorical", "numeric", "sha", "flag", "amount", "type"]

_REQUEST: dict[str, tuple[Level, Kind]] = {
    "request_id": ("request", "id"), "user_id": ("user", "id"), "event_time": ("request", "time"),
    "known_time": ("request", "time"), "feature_cutoff": ("request", "time"), "policy": ("request", "categorical"),
    "arm": ("request", "categorical"), "bundle_id": ("request", "id"), "mature": ("request", "flag"),
    "buy_item": ("history", "id"), "buy_time": ("history", "time"), "buy_category": ("history", "categorical"),
    "buy_shop": ("history", "categorical"), "beh_item": ("history", "id"), "beh_type": ("history", "type"),
    "beh_time": ("history", "time"), "cand_item": ("candidate", "id"), "cand_position": ("candidate", "numeric"),
    "cand_propensity": ("candidate", "numeric"), "cand_text_sha": ("candidate", "sha"),
    "cand_image_sha": ("candidate", "sha"), "clicked": ("label", "flag"), "carted": ("label", "flag"),
    "purchased": ("label", "flag"), "delay_s": ("label", "time"), "gmv_minor": ("label", "amount"),
}  # fmt: skip


@dataclass(frozen=True)
class Column:
    """One column.

    Args:
        name: Its name.
        type: Its Arrow type, as text.
        level: Whose it is; `item`, `cross`, `candidate` and `label` are lists as long as `cand_item`.
        kind: What its values are.
    """

    name: str
    type: str
    level: Level
    kind: Kind


def arrow_schema(settings: FeatureSettings) -> pa.Schema:
    """The columns of `requests/` and `eval/`, in order."""
    import pyarrow as pa

    definitions = define(settings)
    types = {"text": pa.string(), "number": pa.float64()}
    fields = [field for field in requests.schema(settings) if field.name != "event_date"]

    def shown(group: tuple[Feature, ...]) -> list[Feature]:
        return [feature for feature in group if not feature.hidden]

    fields += [pa.field(feature.name, types[feature.type]) for feature in shown(definitions.user)]
    fields += [
        pa.field(feature.name, pa.list_(types[feature.type]))
        for feature in shown(definitions.item) + shown(definitions.crosses)
    ]
    return pa.schema(fields)


def describe(schema: pa.Schema) -> list[dict[str, Any]]:
    """The columns for `schema.json`."""
    return [asdict(_column(field)) for field in schema]


def _column(field: Any) -> Column:
    kind: Kind = "numeric" if "double" in str(field.type) else "categorical"
    prefixes: dict[str, Level] = {"ctx_": "context", "u_": "user", "i_": "item", "x_": "cross"}
    if field.name in _REQUEST:
        level, kind = _REQUEST[field.name]
    else:
        level = next(level for prefix, level in prefixes.items() if field.name.startswith(prefix))
    return Column(field.name, str(field.type).replace("element: ", ""), level, kind)
