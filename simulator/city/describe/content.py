"""Frozen tokens of the listings, brought to one vector a modality, and what linear probes read from them."""

from __future__ import annotations

import hashlib
import io
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from features import atomic
from features.content.encode import encoder_hash
from features.content.hash import text_sha
from features.content.image import ImageEncoder, decode
from features.content.text import TextEncoder
from features.settings import ContentSettings
from simulator.city.describe.record import Seen
from simulator.city.painter import jpeg

Vectors = NDArray[np.float32]
BATCH = 64


@dataclass(frozen=True)
class ContentVectors:
    """Vectors by listing, in the order of `serials`; rows of missing content are nan."""

    serials: NDArray[np.int64]
    text: Vectors  # [M, d_text]: mean of the word pieces
    image: Vectors  # [M, d_image]: the whole photo

    def rows(self, serials: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows of listings; −1 where a listing is not among them."""
        at = np.searchsorted(self.serials, serials).clip(0, len(self.serials) - 1)
        return np.where(self.serials[at] == serials, at, -1)


def encode(seen: dict[int, Seen], serials: list[int], settings: ContentSettings, cache: Path) -> ContentVectors:
    """Render, encode and pool: word pieces to their mean, photos as a whole.

    Args:
        seen: Listings by serial.
        serials: Which of them.
        settings: The encoders.
        cache: Folder that keeps vectors by content hash, so that another city of the seed encodes only what is new.
    """
    serials = sorted(serials)
    shas = {one: text_sha(seen[one].title, seen[one].description) for one in serials}
    texts = {sha: one for one, sha in shas.items() if sha is not None}
    text = _Vectors(cache / f"text-{encoder_hash(settings)}.npz")
    missing = [(sha, one) for sha, one in texts.items() if sha not in text]
    if missing:
        words = TextEncoder(settings.text_encoder, settings.max_text_tokens)
        missing.sort(key=lambda pair: len(seen[pair[1]].title) + len(seen[pair[1]].description))
        for start in range(0, len(missing), BATCH):
            part = missing[start : start + BATCH]
            tokens, length = words.encode([(seen[one].title, seen[one].description) for _, one in part])
            text.add([sha for sha, _ in part], _mean(tokens, length))
        text.save()
    photos = {
        one: hashlib.sha256(repr(astuple(spec)).encode()).hexdigest() for one in serials if (spec := seen[one].photo)
    }
    image = _Vectors(cache / f"image-{encoder_hash(settings)}.npz")
    new = [(sha, one) for one, sha in photos.items() if sha not in image]
    if new:
        pictures = ImageEncoder(settings.image_encoder, settings.image_weights, settings.image_size)
        for start in range(0, len(new), BATCH):
            part = new[start : start + BATCH]
            decoded = [_decoded(jpeg(spec)) for _, one in part if (spec := seen[one].photo)]
            image.add([sha for sha, _ in part], pictures.encode_whole(decoded))
        image.save()
    return ContentVectors(
        np.array(serials),
        text.of([shas[one] for one in serials]),
        image.of([photos.get(one) for one in serials]),
    )


class _Vectors:
    """Vectors by content hash, in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: dict[str, NDArray[np.float16]] = {}
        if path.exists():
            with np.load(path) as kept:
                self._rows = dict(zip(kept["sha"].tolist(), kept["vectors"], strict=True))

    def __contains__(self, sha: str | None) -> bool:
        return sha in self._rows

    def add(self, shas: list[str], vectors: NDArray[np.generic]) -> None:
        self._rows.update(zip(shas, vectors.astype(np.float16), strict=True))

    def save(self) -> None:
        out = io.BytesIO()
        np.savez(out, sha=np.array(list(self._rows)), vectors=np.stack(list(self._rows.values())))
        atomic.write_bytes(self._path, out.getvalue())

    def of(self, shas: list[str | None]) -> Vectors:
        width = len(next(iter(self._rows.values())))
        nothing = np.full(width, np.nan, dtype=np.float16)
        return np.stack([self._rows[sha] if sha else nothing for sha in shas]).astype(np.float32)


def _decoded(data: bytes) -> Image:
    photo = decode(data)
    assert photo is not None  # the city drew it
    return photo


def _mean(tokens: NDArray[np.generic], length: NDArray[np.integer]) -> Vectors:
    total = tokens.astype(np.float32).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(length[:, None] > 0, total / length[:, None], np.nan), dtype=np.float32)


def probes(content: ContentVectors, seen: dict[int, Seen], seed: int) -> dict[str, float]:
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
