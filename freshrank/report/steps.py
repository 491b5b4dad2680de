"""What the steps of a day's run left for the next, read for the report."""

from __future__ import annotations

import datetime as dt
import json

from features.encoded import JsonObject
from features.layout import Layout


def step(layout: Layout, day: dt.date, name: str) -> JsonObject:
    """What a step of a day's run left; empty where it left nothing."""
    file = layout.step(day, name)
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else {}
