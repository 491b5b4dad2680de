"""Text comes out as it went in: from the event log through labels, features and window to what is served."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from features.content.hash import text_sha
from features.labels import run
from features.settings import FeatureSettings, LabelSettings
from features.store.materialize import materialize
from features.store.online import OnlineFeatures
from features.store.registry import OnlineStore
from features.window.build import build
from tests.lake import Lake, us

FEATURES = FeatureSettings()
LABELS = LabelSettings()
TODAY = dt.date(2026, 1, 9)
TEXTS = (
    "苹果 红富士", "🍎👩\u200d👧", "Müller", "Mu\u0308ller", "a,b", "a/b", 'the "big" one', "it's", " ", " x ", "\\n",
    "a\tb\n", "a\x00b", "null", "NaN", "#%41;=", "$.a[0]", "{}", "ſﬁ", "x" * 256, "苹" * 256, "\U0010ffff",
)  # fmt: skip


def told(root: Path) -> Lake:
    """Everything that has a name has each of the texts for one, once."""
    lake = Lake(root)
    for text in TEXTS:
        attributes = {"zone": text, "promotion": text}
        lake.item(
            text, us("01-02 05:00"), shop_id=text, brand_id=text, category_id=text, title=text, attributes=attributes
        )
        lake.user(text, us("01-02 05:00"), zone=text, household=text)
    for day in (8, 9):
        for place, text in enumerate(TEXTS):
            request = text if day == 9 else f"before {place}"
            named: dict[str, Any] = {
                "context": {"zone": text},
                "policy": text,
                "experiments": {text: text},
                "bundle_id": text,
            }
            lake.show(request, text, list(TEXTS), us(f"01-0{day} 12:00") + place, **named)
            lake.buy(text, text, us(f"01-0{day} 13:00") + place, request=request)
    return lake


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Rows of the window by request, its items, and what is served, by user."""
    lake = told(tmp_path_factory.mktemp("texts"))
    layout, online = lake.write(), OnlineStore(sqlite=lake.root / "online.db")
    run.label(layout, FEATURES, LABELS, TODAY, days=1)
    service = materialize(layout, FEATURES, online, TODAY - dt.timedelta(days=1), days=0).service
    folder = layout.window(build(layout, FEATURES, LABELS, {"content": "0" * 16}, TODAY, days=1).window_id)
    rows = {row["request_id"]: row for row in pq.read_table(folder / "eval").to_pylist()}
    items = {row["item_id"]: row for row in pq.read_table(folder / "items.parquet").to_pylist()}
    reader = OnlineFeatures(layout, service, online)
    return rows, items, {text: reader.fetch(text, TEXTS, {"zone": text}).columns for text in TEXTS}


@pytest.mark.parametrize("text", TEXTS, ids=[f"text {place}" for place in range(len(TEXTS))])
def test_a_text_stays_what_it_is(seen: tuple[dict[str, Any], dict[str, Any], dict[str, Any]], text: str) -> None:
    rows, items, served = seen
    row, item = rows[text], items[text]
    for name in ("request_id", "user_id", "policy", "arm", "bundle_id", "ctx_zone", "u_zone", "u_household"):
        assert row[name] == text, name
    for name in ("cand_item", "i_shop", "i_brand", "i_category", "i_zone", "i_promotion"):
        assert row[name] == list(TEXTS), name
    for name in ("buy_item", "buy_category", "buy_shop", "beh_item"):
        assert row[name] == [text], name
    assert row["cand_text_sha"] == [text_sha(each, None) for each in TEXTS]
    assert row["purchased"] == [int(each == text) for each in TEXTS]
    assert [item[name] for name in ("title", "shop", "brand", "category", "zone", "promotion")] == [text] * 6
    assert served[text] == {name: row[name] for name in served[text]}
