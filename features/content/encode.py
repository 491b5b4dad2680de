"""Encode items' content once: what the store has already is passed over, what cannot be read is masked and counted."""

from __future__ import annotations

import functools
import hashlib
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from features import atomic
from features.content import image, text
from features.content.fetch import Flaw, fetch
from features.content.hash import image_sha, text_sha
from features.content.store import TokenWriter, Widths, widths_of
from features.layout import Layout
from features.settings import ContentSettings

if TYPE_CHECKING:
    from PIL.Image import Image

Halves = npt.NDArray[np.float16]
COMMIT_EVERY = 1024  # texts or photos; a killed run repeats fewer than these


class ItemContent(NamedTuple):
    """The content of a listing."""

    title: str | None
    description: str | None
    image_uri: str | None


@dataclass
class EncodedCounts:
    """What `encode_items` met.

    Args:
        items: Items seen.
        texts_encoded: Texts encoded now.
        texts_known: Items whose text the store (or this run) had already.
        texts_missing: Items without title and description: masked.
        images_encoded: Photos encoded now.
        images_known: Items whose photo the store (or this run) had already.
        images_missing: Items without a photo, or whose blob, file or object does not exist (yet): masked.
        images_refused: Items whose photo lies where settings allow none: masked.
        images_unreachable: Items whose host did not answer: masked, tried again next time.
        images_broken: Items whose photo is no photo: masked.
        encoder: The encoder hash.
        seconds: Time it took.
    """

    items: int = 0
    texts_encoded: int = 0
    texts_known: int = 0
    texts_missing: int = 0
    images_encoded: int = 0
    images_known: int = 0
    images_missing: int = 0
    images_refused: int = 0
    images_unreachable: int = 0
    images_broken: int = 0
    encoder: str = ""
    seconds: float = 0.0


def describe(settings: ContentSettings) -> dict[str, object]:
    """All that decides the tokens: names, weights, preprocessing. Reads the weights' files, loads no model."""
    _, _, size = image.source(settings.image_encoder, settings.image_weights)
    return {
        "text": {
            "name": settings.text_encoder.rstrip("/").rsplit("/", 1)[-1],
            "weights_sha256": text.weights_sha(settings.text_encoder),
            "max_tokens": settings.max_text_tokens,
            "preprocessing": text.VERSION,
        },
        "image": {
            "name": settings.image_encoder,
            "weights_sha256": image.weights_sha(settings.image_encoder, settings.image_weights),
            "patch_size": settings.image_size or size or "own",
            "preprocessing": image.VERSION,
        },
    }


@functools.lru_cache
def encoder_hash(settings: ContentSettings) -> str:
    """The name of the token store that these settings fill: 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(describe(settings), sort_keys=True).encode()).hexdigest()[:16]


class Encoders:
    """The two encoders, loaded when first used, for a re-run that meets nothing new needs neither."""

    def __init__(self, settings: ContentSettings) -> None:
        self._settings = settings

    @functools.cached_property
    def text(self) -> text.TextEncoder:
        """The text encoder."""
        return text.TextEncoder(self._settings.text_encoder, self._settings.max_text_tokens)

    @functools.cached_property
    def image(self) -> image.ImageEncoder:
        """The image encoder."""
        settings = self._settings
        return image.ImageEncoder(settings.image_encoder, settings.image_weights, settings.image_size)

    def widths(self) -> Widths:
        """Shapes of the tokens."""
        return Widths(self._settings.max_text_tokens, self.text.width, self.image.width)


def encode_items(
    items: Iterable[tuple[str | None, str | None, str | None]],
    settings: ContentSettings,
    layout: Layout,
    progress: Callable[[EncodedCounts], None] | None = None,
) -> EncodedCounts:
    """Bring the token store up to these items.

    Args:
        items: (title, description, image_uri) of each item; the same content may come any number of times.
        settings: Encoders and what may be read.
        layout: Where tokens and blobs lie.
        progress: Called after each commit.

    Returns:
        What was met and done.

    Raises:
        LockedError: If another process fills the same store.
    """
    began = time.monotonic()
    name = encoder_hash(settings)
    folder = layout.tokens(name)
    encoders = Encoders(settings)
    with atomic.lock(layout.lock(f"tokens-{name}")):
        widths = widths_of(folder) if (folder / "encoder.json").exists() else encoders.widths()
        run = _Run(TokenWriter(folder, widths, describe(settings)), encoders, settings, layout, progress)
        for item in items:
            run.add(ItemContent(*item))
        run.finish()
    run.counts.encoder, run.counts.seconds = name, time.monotonic() - began
    return run.counts


@dataclass
class _Run:
    """One run: items come in, batches go through the encoders, commits go to the store."""

    writer: TokenWriter
    encoders: Encoders
    settings: ContentSettings
    layout: Layout
    progress: Callable[[EncodedCounts], None] | None
    counts: EncodedCounts = field(default_factory=EncodedCounts)
    texts: dict[str, tuple[str | None, str | None]] = field(default_factory=dict)
    photos: dict[str, Image] = field(default_factory=dict)
    failed: dict[str, Flaw] = field(default_factory=dict)
    uncommitted: int = 0

    def add(self, item: ItemContent) -> None:
        self.counts.items += 1
        self._add_text(item)
        self._add_photo(item)
        if len(self.texts) >= 4 * self.settings.batch_size:  # more than a batch, for length bucketing
            self._encode_texts()
        if len(self.photos) >= self.settings.batch_size:
            self._encode_photos()
        if self.uncommitted >= COMMIT_EVERY:
            self._commit()

    def finish(self) -> None:
        self._encode_texts()
        self._encode_photos()
        self._commit()

    def _add_text(self, item: ItemContent) -> None:
        sha = text_sha(item.title, item.description)
        if sha is None:
            self.counts.texts_missing += 1
        elif sha in self.writer or sha in self.texts:
            self.counts.texts_known += 1
        else:
            self.texts[sha] = (item.title, item.description)

    def _add_photo(self, item: ItemContent) -> None:
        sha = image_sha(item.image_uri)
        if sha is None:
            self._count(Flaw.REFUSED if (item.image_uri or "").strip() else Flaw.MISSING)
        elif sha in self.writer.broken:
            self._count(Flaw.BROKEN)
        elif sha in self.failed:
            self._count(self.failed[sha])
        elif sha in self.writer or sha in self.photos:
            self.counts.images_known += 1
        else:
            self._read(sha, item.image_uri or "")

    def _read(self, sha: str, uri: str) -> None:
        data = fetch(uri, self.settings, self.layout)
        photo = data if isinstance(data, Flaw) else (image.decode(data) or Flaw.BROKEN)
        if not isinstance(photo, Flaw):
            self.photos[sha] = photo
            return
        self._count(photo)
        if photo.final:
            self.writer.add_broken([sha])
        else:
            self.failed[sha] = photo

    def _count(self, flaw: Flaw) -> None:
        name = f"images_{flaw.value}"
        setattr(self.counts, name, getattr(self.counts, name) + 1)

    def _encode_texts(self) -> None:
        pending = sorted(self.texts.items(), key=lambda entry: sum(len(part or "") for part in entry[1]))
        size = self.settings.batch_size
        for at in range(0, len(pending), size):
            batch = pending[at : at + size]
            tokens, lengths = self.encoders.text.encode([pair for _, pair in batch])
            self.writer.add_texts([sha for sha, _ in batch], _finite(tokens), lengths)
        self.counts.texts_encoded += len(pending)
        self.uncommitted += len(pending)
        self.texts = {}

    def _encode_photos(self) -> None:
        if self.photos:
            patches, whole = self.encoders.image.encode(list(self.photos.values()))
            self.writer.add_images(list(self.photos), _finite(patches), _finite(whole))
        self.counts.images_encoded += len(self.photos)
        self.uncommitted += len(self.photos)
        self.photos = {}

    def _commit(self) -> None:
        self.writer.commit()
        self.uncommitted = 0
        if self.progress:
            self.progress(self.counts)


def _finite(tokens: Halves) -> Halves:
    """Tokens that float16 could not hold, at its limits."""
    limit = np.finfo(np.float16).max
    return np.nan_to_num(tokens, nan=0.0, posinf=float(limit), neginf=-float(limit))
