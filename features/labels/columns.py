"""The columns that labelled requests have of their own, before features are joined to them."""

from __future__ import annotations

from collections.abc import Sequence

from features.dictionary import Column

HISTORIES = (
    Column(
        "buy_item", "history", "id", "list<string>", "item", "", "newest 50 purchases before the cutoff, newest last",
        "buys", domain="item_id",
    ),
    Column("buy_time", "history", "time", "list<int64>", "item", "µs UTC", "their event times", "buys"),
    Column(
        "buy_category", "history", "categorical", "list<string>", "item", "", "their categories as listed then", "buys",
        domain="category_id",
    ),
    Column(
        "buy_shop", "history", "categorical", "list<string>", "item", "", "their shops as listed then", "buys",
        domain="shop_id",
    ),
    Column(
        "beh_item", "history", "id", "list<string>", "item", "",
        "newest 100 clicks, carts and purchases before the cutoff, newest last", "behaviours", domain="item_id",
    ),
    Column("beh_type", "history", "type", "list<int8>", "item", "", "0 click, 1 cart, 2 purchase", "behaviours"),
    Column("beh_time", "history", "time", "list<int64>", "item", "µs UTC", "their event times", "behaviours"),
)  # fmt: skip
_REQUEST = (
    Column("request_id", "request", "id", "string", None, "", "the request"),
    Column("user_id", "request", "id", "string", "user", "", "who asked"),
    Column("event_time", "request", "time", "int64", None, "µs UTC", "when it happened"),
    Column("known_time", "request", "time", "int64", None, "µs UTC", "when it could be known"),
    Column("feature_cutoff", "request", "time", "int64", None, "µs UTC", "as of when features and histories hold"),
    Column(
        "policy", "request", "categorical", "string", None, "",
        "what ordered the list: `uniform`, `popularity`, `model`, …",
    ),
    Column(
        "arm", "request", "categorical", "string", None, "",
        "arm of the experiment; with several `name=arm;…` by name; null: none",
    ),
    Column("bundle_id", "request", "id", "string", None, "", "the bundle that scored it; null: none"),
)  # fmt: skip
_CANDIDATES = (
    Column("cand_item", "candidate", "id", "list<string>", "item", "", "the items that were shown", domain="item_id"),
    Column("cand_position", "candidate", "numeric", "list<int16>", None, "", "place in the list, ascending"),
    Column("cand_propensity", "candidate", "numeric", "list<double>", None, "", "as logged; null: unknown"),
    Column(
        "cand_text_sha", "candidate", "sha", "list<string>", "item", "",
        "content hash of the listing's text as of the request; null: none",
    ),
    Column(
        "cand_image_sha", "candidate", "sha", "list<string>", "item", "",
        "content hash of its photo as of the request; null: none",
    ),
)  # fmt: skip
_LABELS = (
    Column("clicked", "label", "flag", "list<int8>", None, "", "clicked within the horizon, as known at the cut"),
    Column("carted", "label", "flag", "list<int8>", None, "", "put into the cart within the horizon"),
    Column("purchased", "label", "flag", "list<int8>", None, "", "bought within the horizon"),
    Column("delay_s", "label", "numeric", "list<int32>", None, "s", "from the request to the first counted purchase"),
    Column("gmv_minor", "label", "numeric", "list<int64>", None, "minor units", "money of the counted purchases"),
)
_MATURE = Column("mature", "request", "flag", "bool", None, "", "the horizon had passed at the cut")
EVENT_DATE = Column("event_date", "request", "time", "date32", None, "", "UTC day of `event_time`: the partition")


def columns(context: Sequence[str]) -> tuple[Column, ...]:
    """The request's own columns, in order; `lake/requests` has `EVENT_DATE` beside them.

    Args:
        context: Fields of the context that become columns.
    """
    told = (
        Column(f"ctx_{name}", "request", "categorical", "string", "context", "", f"the context's {name}")
        for name in context
    )
    return (*_REQUEST, *told, *HISTORIES, *_CANDIDATES, *_LABELS, _MATURE)
