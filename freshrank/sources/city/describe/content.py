"""Frozen tokens of the listings, brought to one vector a modality, and what linear probes read from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.content.encode import encode_items
from features.content.hash import image_sha, text_sha
from features.content.store import TokenStore
from features.layout import Layout
from features.settings import ContentSettings
from freshrank.sources.city.album import Album
from freshrank.sources.city.describe.record import Seen

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Content:
    """Vectors by listing, in the order of `serials`; rows of missing content are nan."""

    serials: NDArray[np.int64]
    text: Vectors  # [M, d_text]: mean of the word pieces
    image: Vectors  # [M, 2 d_image]: the whole photo, and the mean of its patches

    def rows(self, serials: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows of listings; −1 where a listing is not among them."""
        at = np.searchsorted(self.serials, serials).clip(0, len(self.serials) - 1)
        return np.where(self.serials[at] == serials, at, -1)


def encode(seen: dict[int, Seen], serials: list[int], layout: Layout, settings: ContentSettings) -> Content:
    """Render, encode (what the token store has already is not encoded again) and pool.

    Args:
        seen: Listings by serial.
        serials: Which of them.
        layout: Where photos and tokens are kept.
        settings: The encoders.
    """
    album = Album(layout)
    serials = sorted(serials)
    items = []
    for serial in serials:
        spec = seen[serial].photo
        items.append((seen[serial].title, seen[serial].description, album.uri(spec) if spec else None))
    counts = encode_items(items, settings, layout)
    store = TokenStore(layout.tokens(counts.encoder))
    text_rows = store.rows([text_sha(title, description) for title, description, _ in items])
    image_rows = store.rows([image_sha(uri) for _, _, uri in items])
    text, image = [], []
    for start in range(0, len(items), 256):
        tokens = store.gather(text_rows[start : start + 256], image_rows[start : start + 256])
        text.append(_mean(tokens.text, tokens.text_len))
        image.append(_image(tokens, image_rows[start : start + 256] >= 0))
    return Content(np.array(serials), np.concatenate(text), np.concatenate(image))


def _mean(tokens: Any, length: Any) -> Vectors:
    total = tokens.astype(np.float32).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(length[:, None] > 0, total / length[:, None], np.nan), dtype=np.float32)


def _image(tokens: Any, known: NDArray[np.bool_]) -> Vectors:
    both = np.concatenate([tokens.image_global, tokens.image.astype(np.float32).mean(axis=1)], axis=1)
    return np.asarray(np.where(known[:, None], both, np.nan), dtype=np.float32)


def probes(content: Content, seen: dict[int, Seen], seed: int) -> dict[str, float]:
    """Linear probes on clean listings, a quarter of the products' listings held out.

    Returns:
        Accuracy of the category and of the variety, and R² of freshness, from text and from image.
    """
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.metrics import r2_score
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(seed)
    listings = [seen[int(serial)] for serial in content.serials]
    clean = np.array([not one.dirt_text and not one.dirt_photo for one in listings])
    category = np.array([one.category for one in listings])
    variety = np.array([one.variety for one in listings])
    freshness = np.array([one.freshness for one in listings])
    held = rng.random(len(listings)) < 0.25
    result = {}
    for name, table in (("text", content.text), ("image", content.image)):
        usable = clean & ~np.isnan(table).any(axis=1)
        vectors = StandardScaler().fit(table[usable]).transform(np.nan_to_num(table))
        for target, values in (("category", category), ("variety", variety)):
            common = usable & (np.bincount(values, minlength=values.max() + 1)[values] >= 4)
            model = LogisticRegression(C=0.01, max_iter=60).fit(vectors[common & ~held], values[common & ~held])
            result[f"{name}_{target}"] = float(model.score(vectors[common & held], values[common & held]))
        fresh = usable & ~np.isnan(freshness)
        ridge = Ridge(alpha=300.0).fit(vectors[fresh & ~held], freshness[fresh & ~held])
        result[f"{name}_freshness_r2"] = float(r2_score(freshness[fresh & held], ridge.predict(vectors[fresh & held])))
    return result
