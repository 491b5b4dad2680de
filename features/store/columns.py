"""Columns of a request with its features: what a window's row and what serving fetches are made of."""

from __future__ import annotations

from features.dictionary import Column, Group, Level
from features.labels import columns as own
from features.store.definitions import Definitions, Feature


def request_columns(definitions: Definitions) -> tuple[Column, ...]:
    """The request's own columns, then those of features, in order."""
    return (
        *own.columns(definitions.context),
        *_of(definitions.user, "request", "user"),
        *_of(definitions.item, "candidate", "item"),
        *_of(definitions.crosses, "candidate", "cross"),
    )


def _of(features: tuple[Feature, ...], level: Level, group: Group) -> list[Column]:
    """Columns of features; hidden ones are none."""
    found = []
    for feature in features:
        if not feature.hidden:
            text = feature.type == "text"
            dtype = "string" if text else "double"
            found.append(
                Column(
                    feature.name, level, "categorical" if text else "numeric",
                    f"list<{dtype}>" if level == "candidate" else dtype, group, feature.unit, feature.meaning,
                    span_h=feature.span_h, domain=feature.domain,
                )
            )  # fmt: skip
    return found
