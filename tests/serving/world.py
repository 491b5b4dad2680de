"""A small shop for tests of serving: listings, users, what they did, and features of them online."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from features.content.catalogue import publish
from features.layout import Layout
from features.settings import FeatureSettings
from features.store.definitions import define
from features.store.materialize import materialize
from features.store.registry import OnlineStore
from features.times import run_cut
from tests.lake import Lake, us
from tests.serving.bundles import ITEMS, USERS

FEATURES = FeatureSettings.model_validate({})
SERVICE = define(FEATURES).service
DAY = dt.date(2026, 1, 8)
CUT = run_cut(DAY)
NOON = "2026-01-09T12:00:00Z"  # of the day that is served


def fill(root: Path, online: OnlineStore) -> Layout:
    """Write the event log and put the features as of `CUT` online.

    The items of `tests.serving.bundles` are listed, the last two six hours before the cut; item0 is bought most.
    """
    lake = Lake(root)
    for number, item in enumerate(ITEMS):
        listed = us("01-08 20:00") if item in ITEMS[-2:] else us("01-02 05:00")
        category = ["fruit", "milk", None][number % 3]
        more = {"category_id": category} if category else {}
        lake.item(item, listed, price_minor=100 + number, attributes={"zone": "north"}, **more)
    for number, user in enumerate(USERS):
        lake.user(user, us("01-02 05:00"), zone=["north", "south"][number % 2])
    for number, item in enumerate(ITEMS[:10]):
        lake.show(f"old{number}", "ann", [item, ITEMS[10]], us(f"01-07 12:{number:02d}"))
        for again in range(10 - number):
            lake.buy("ann", item, us(f"01-07 13:{number * 4 + again % 4:02d}"))
    layout = lake.write()
    materialize(layout, FEATURES, online, DAY, days=1)
    publish(layout, CUT)
    return layout
