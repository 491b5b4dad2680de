"""A small made-up window with the columns of a real one: purchases follow taste, price and photo, so there is something
to learn."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features import dictionary
from features.content.store import TokenWriter, Widths
from features.dictionary import Column
from features.settings import FeatureSettings
from features.store.columns import request_columns
from features.store.definitions import define
from features.times import DAY, HOUR, run_cut, run_start
from features.window.columns import item_columns

CATEGORIES = 5
WIDTHS = Widths(text_tokens=4, text_width=6, image_width=8, patches=9)


@dataclass(frozen=True)
class Made:
    """A window and its tokens.

    Args:
        window: Folder of the window.
        tokens: Folder of the content tokens.
        day: Day D of the window.
    """

    window: Path
    tokens: Path
    day: dt.date


def sha(text: str) -> str:
    """A content hash."""
    return hashlib.sha256(text.encode()).hexdigest()


def make_window(
    root: Path,
    *,
    requests_a_day: int = 60,
    days: int = 7,
    candidates: int = 8,
    users: int = 30,
    items: int = 60,
    seed: int = 0,
    day: dt.date = dt.date(2025, 3, 9),
    row_group: int = 50,
    history: int = 6,
    widths: Widths = WIDTHS,
    encoder: str = "0123456789abcdef",
) -> Made:
    """Write a window `windows/<id>` and tokens `tokens/<encoder>` below a folder.

    The last tenth of the items is listed on day D only. Item 0 has no photo, item 1 no text, item 2 neither.

    Args:
        root: Where to write.
        requests_a_day: Requests a day.
        days: Training days.
        candidates: Candidates a request.
        users: Users.
        items: Items.
        seed: Seed of everything.
        day: Day D.
        row_group: Requests a row group.
        history: Entries of a history, at most.
        widths: Widths of the tokens.
        encoder: Hash of the encoder.
    """
    rng = np.random.default_rng(seed)
    taste, category = rng.integers(CATEGORIES, size=users), rng.integers(CATEGORIES, size=items)
    price = np.round(rng.lognormal(6, 0.7, items))
    quality = rng.normal(0, 0.8, items)
    text_sha = [None if i in (1, 2) else sha(f"text {i}") for i in range(items)]
    image_sha = [None if i in (0, 2) else sha(f"photo {i}") for i in range(items)]
    tokens = _tokens(root / "tokens" / encoder, widths, text_sha, image_sha, quality, rng)
    city: dict[str, Any] = {
        "category": category,
        "taste": taste,
        "price": price,
        "quality": quality,
        "known": items - items // 10,
        "text_sha": text_sha,
        "image_sha": image_sha,
    }
    folder = root / "windows" / f"w{seed}-{day.isoformat()}"
    for offset in range(days, -1, -1):
        at = day - dt.timedelta(days=offset)
        place = folder / ("eval" if offset == 0 else "requests") / f"{at.isoformat()}.parquet"
        rows = [
            _request(rng, r, at, offset, users, items if offset == 0 else city["known"], candidates, history, city)
            for r in range(requests_a_day)
        ]
        rows.sort(key=lambda row: (row["event_time"], row["request_id"]))
        place.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows, SCHEMA), place, row_group_size=row_group)
    _items(folder / "items.parquet", items, category, price, text_sha, image_sha)
    manifest = {
        "date": day.isoformat(),
        "cut": run_cut(day),
        "horizon_hours": 24.0,
        "feature_service": "ranker_00000000",
        "encoders": [tokens.name],
        "files": {},
    }
    dictionary.save(folder, columns())
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return Made(folder, tokens, day)


ITEMS = (
    "item_id", "text_sha", "image_sha", "shop", "brand", "category", "zone", "price", "weight", "available", "gone",
    "first_known",
)  # fmt: skip
LISTED = ("i_shop", "i_brand", "i_category", "i_zone")
ITEM_NUMBERS = ("i_price", "i_weight", "i_clicks_7d", "i_purchases_7d")
CROSSES = ("x_category_buys", "x_price_ratio")
SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("request_id", "user_id", "policy", "arm", "bundle_id")]
    + [(name, pa.int64()) for name in ("event_time", "known_time", "feature_cutoff")]
    + [("mature", pa.bool_()), ("ctx_zone", pa.string()), ("ctx_hour", pa.string())]
    + [(name, pa.list_(pa.string())) for name in ("buy_item", "buy_category", "buy_shop", "beh_item")]
    + [("buy_time", pa.list_(pa.int64())), ("beh_time", pa.list_(pa.int64())), ("beh_type", pa.list_(pa.int8()))]
    + [(name, pa.list_(pa.string())) for name in ("cand_item", "cand_text_sha", "cand_image_sha")]
    + [("cand_position", pa.list_(pa.int16())), ("cand_propensity", pa.list_(pa.float64()))]
    + [(name, pa.list_(pa.int8())) for name in ("clicked", "carted", "purchased")]
    + [("u_zone", pa.string()), ("u_buys_30d", pa.float64()), ("u_mean_price", pa.float64()), ("u_age", pa.string())]
    + [(name, pa.list_(pa.string())) for name in LISTED]
    + [(name, pa.list_(pa.float64())) for name in (*ITEM_NUMBERS, *CROSSES)]
)


def columns() -> list[Column]:
    """The dictionary of the window's columns."""
    known = FeatureSettings()
    of_requests = {column.name: column for column in request_columns(define(known))}
    return [of_requests[name] for name in SCHEMA.names] + [c for c in item_columns(known) if c.name in ITEMS]


def _request(
    rng: np.random.Generator,
    number: int,
    at: dt.date,
    offset: int,
    users: int,
    items: int,
    candidates: int,
    history: int,
    city: dict[str, Any],
) -> dict[str, Any]:
    """One request; a list shows distinct items."""
    time = run_start(at) + int(rng.integers(DAY - 2 * HOUR))
    user = int(rng.integers(users))
    shown = rng.choice(items, candidates, replace=False)
    liked = city["category"][shown] == city["taste"][user]
    price, quality = city["price"][shown], city["quality"][shown]
    logit = -3.0 + 2.5 * liked + quality - 0.6 * (np.log(price) - 6)
    bought = rng.random(candidates) < 1 / (1 + np.exp(-logit))
    clicked = bought | (rng.random(candidates) < 0.15)
    n, m = int(rng.integers(history + 1)), int(rng.integers(history + 3))
    own = np.flatnonzero(city["category"][: city["known"]] == city["taste"][user])
    buys = rng.choice(own, n) if len(own) else np.empty(0, int)
    seen = rng.integers(city["known"], size=m)
    return {
        "request_id": f"r{offset}-{number:05d}",
        "user_id": f"u{user}",
        "policy": "uniform" if number % 10 == 0 else "popularity",
        "event_time": time,
        "known_time": time,
        "feature_cutoff": run_start(at),
        "mature": offset > 0,
        "ctx_zone": f"z{user % 3}",
        "ctx_hour": str(time // HOUR % 24),
        "buy_item": [f"i{i}" for i in buys],
        "buy_category": [f"c{city['category'][i]}" for i in buys],
        "buy_shop": [f"s{i % 7}" for i in buys],
        "buy_time": sorted(time - int(gap) for gap in rng.integers(1, 20 * DAY, n)),
        "beh_item": [f"i{i}" for i in seen],
        "beh_type": rng.integers(3, size=m).tolist(),
        "beh_time": sorted(time - int(gap) for gap in rng.integers(1, 3 * DAY, m)),
        "cand_item": [f"i{i}" for i in shown],
        "cand_position": list(range(candidates)),
        "cand_propensity": [1 / candidates] * candidates,
        "cand_text_sha": [city["text_sha"][i] for i in shown],
        "cand_image_sha": [city["image_sha"][i] for i in shown],
        "clicked": clicked.astype(int).tolist(),
        "carted": bought.astype(int).tolist(),
        "purchased": bought.astype(int).tolist(),
        "u_zone": f"z{user % 3}",
        "u_buys_30d": float(n),
        "u_mean_price": None if n == 0 else float(city["price"][buys].mean()),
        "u_age": None,
        "i_shop": [f"s{i % 7}" for i in shown],
        "i_brand": [None if i % 11 == 0 else f"b{i % 9}" for i in shown],
        "i_category": [f"c{city['category'][i]}" for i in shown],
        "i_zone": [f"z{i % 3}" for i in shown],
        "i_price": [float(p) for p in price],
        "i_weight": [None if i % 4 == 0 else float(100 + i) for i in shown],
        "i_clicks_7d": [float(rng.poisson(10 * np.exp(q))) for q in quality],
        "i_purchases_7d": [float(rng.poisson(2 * np.exp(q))) for q in quality],
        "x_category_buys": [float((city["category"][buys] == city["category"][i]).sum()) for i in shown],
        "x_price_ratio": [None if n == 0 else float(p / city["price"][buys].mean()) for p in price],
    }


def _items(path: Path, items: int, category: Any, price: Any, text_sha: Any, image_sha: Any) -> None:
    pq.write_table(
        pa.table(
            {
                "item_id": [f"i{i}" for i in range(items)],
                "text_sha": pa.array(text_sha, pa.string()),
                "image_sha": pa.array(image_sha, pa.string()),
                "shop": [f"s{i % 7}" for i in range(items)],
                "brand": pa.array([None if i % 11 == 0 else f"b{i % 9}" for i in range(items)], pa.string()),
                "category": [f"c{c}" for c in category],
                "zone": [f"z{i % 3}" for i in range(items)],
                "price": pa.array(price, pa.float64()),
                "weight": pa.array([None if i % 4 == 0 else float(100 + i) for i in range(items)], pa.float64()),
                "available": [True] * items,
                "gone": [False] * items,
                "first_known": pa.array([0] * items, pa.int64()),
            }
        ),
        path,
    )


def _tokens(
    folder: Path, widths: Widths, text_sha: list[str | None], image_sha: list[str | None], quality: Any, rng: Any
) -> Path:
    writer = TokenWriter(folder, widths, {"made": "up"})
    texts = [(i, s) for i, s in enumerate(text_sha) if s and s not in writer]
    length = np.array([1 + i % widths.text_tokens for i, _ in texts], np.uint8)
    secret = rng.normal(0, 1, (len(text_sha), widths.text_width))  # what text and photo of an item share
    text = rng.normal(0, 0.3, (len(texts), widths.text_tokens, widths.text_width)) + secret[[i for i, _ in texts], None]
    text *= (np.arange(widths.text_tokens) < length[:, None])[:, :, None]
    photos = [(i, s) for i, s in enumerate(image_sha) if s and s not in writer]
    image = rng.normal(0, 0.3, (len(photos), widths.patches, widths.image_width))
    image[:, :, : widths.text_width] += secret[[i for i, _ in photos], None]
    image[:, :, -1] = quality[[i for i, _ in photos], None]
    writer.add_texts([s for _, s in texts], text.astype(np.float16), length)
    writer.add_images([s for _, s in photos], image.astype(np.float16), image.mean(axis=1).astype(np.float16))
    writer.commit()
    return folder
