"""A small shop for tests of serving: listings, users, what they did, and features of them online."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

from features.content.catalogue import publish
from features.layout import Layout
from features.settings import FeatureSettings
from features.store.definitions import define
from features.store.materialize import materialize
from features.store.registry import OnlineStore
from features.times import run_cut
from tests.lake import Lake, us
from tests.serving.bundles import CATEGORIES, ITEMS, ODD_BRAND, ODD_ITEMS, ODD_USER, USERS

FEATURES = FeatureSettings()
SERVICE = define(FEATURES).service
DAY = dt.date(2026, 1, 8)
CUT = run_cut(DAY)
NOON = "2026-01-09T12:00:00Z"  # of the day that is served
PLACES: tuple[dict[str, Any], ...] = (
    {"latitude": "inf", "longitude": "8"}, {"latitude": "nan", "longitude": "-inf"}, {"latitude": "49", "longitude": 8},
    {"latitude": 1e308, "longitude": True}, {"latitude": "", "longitude": None},
)  # fmt: skip


def fill(root: Path, online: OnlineStore) -> Layout:
    """Write the event log and put the features as of `CUT` online; see `happened`."""
    layout = happened(root).write()
    serve(layout, online)
    return layout


def serve(layout: Layout, online: OnlineStore) -> None:
    """Put the features of an event log as of `CUT` online, and publish its catalogue."""
    materialize(layout, FEATURES, online, DAY, days=1)
    publish(layout, CUT)


def happened(root: Path) -> Lake:
    """What happened, not yet written.

    The items of `tests.serving.bundles` are listed, the last two six hours before the cut; item0 is bought most. Some
    have names, brands and coordinates that shops have and programs stumble over.
    """
    lake = Lake(root)
    for number, item in enumerate(ITEMS):
        listed = us("01-08 20:00") if item in ITEMS[-2:] else us("01-02 05:00")
        more: dict[str, Any] = {"attributes": {"zone": "north"}}
        if category := CATEGORIES[number % 3]:
            more["category_id"] = category
        if item in ODD_ITEMS:
            more |= {"brand_id": ODD_BRAND, "attributes": {"zone": "north", **PLACES[number % len(PLACES)]}}
        lake.item(item, listed, price_minor=100 + number, **more)
    for number, user in enumerate(USERS):
        lake.user(user, us("01-02 05:00"), zone=["north", "south"][number % 2], latitude="50", longitude="8")
    for number, item in enumerate(ITEMS[:10]):
        lake.show(f"old{number}", "ann", [item, ITEMS[10]], us(f"01-07 12:{number:02d}"))
        for again in range(10 - number):
            lake.buy("ann", item, us(f"01-07 13:{number * 4 + again % 4:02d}"))
    for number, item in enumerate(ODD_ITEMS[:3]):
        lake.buy(ODD_USER, item, us(f"01-06 13:{number:02d}"))
    return lake
