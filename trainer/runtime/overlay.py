"""Content of listings that are newer than the bundle: the token store, beside the bundle's own copy.

The bundle's tokens always come first, so that a bundle scores what it knew for ever alike. The store only grows, and a
content hash keeps its tokens, so the overlay can turn a masked listing into a seen one, never one content into another.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from trainer.runtime.scorer import Scorer
from trainer.runtime.tokens import ContentSource

FILES = ("text.f16", "text_len.u8", "image.f16", "image_global.f16")


class StoreTokens:
    """The token store as it is now; reads `index.npy` and the arrays, as `features/content/store.py` writes them.

    Args:
        folder: `tokens/<encoder hash>/`.
    """

    def __init__(self, folder: Path) -> None:
        index = np.load(folder / "index.npy")
        self._sha, self._row = index["sha"], index["row"]
        text, image = (int(((index["kind"] == kind) & (index["row"] >= 0)).sum()) for kind in (0, 1))
        w = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))["widths"]
        shapes = (
            (text, w["text_tokens"], w["text_width"]),
            (text,),
            (image, w["patches"], w["image_width"]),
            (image, w["image_width"]),
        )
        self._arrays = {name: _map(folder / name, shape) for name, shape in zip(FILES, shapes, strict=True)}

    def rows(self, shas: Any) -> Any:
        """Row of each content hash, -1 where there is none."""
        wanted = np.array([(sha or "").encode() for sha in shas], dtype="S64")
        if not len(self._sha) or not len(wanted):
            return np.full(len(wanted), -1, dtype=np.int64)
        at = np.minimum(np.searchsorted(self._sha, wanted), len(self._sha) - 1)
        return np.where(self._sha[at] == wanted, self._row[at], -1)

    def take(self, name: str, rows: Any) -> Any:
        """Rows of an array."""
        return self._arrays[name][rows]


class Layered:
    """The bundle's tokens, then the store's; rows of the store are counted from `OFFSET` on.

    Args:
        bundle: The bundle's own tokens.
        store: The token store.
    """

    OFFSET = 1 << 40

    def __init__(self, bundle: Any, store: StoreTokens) -> None:
        self._bundle, self._store = bundle, store

    def rows(self, shas: Any) -> Any:
        """Row of each content hash, -1 where there is none."""
        shas = list(shas)
        own, other = self._bundle.rows(shas), self._store.rows(shas)
        return np.where(own >= 0, own, np.where(other >= 0, other + self.OFFSET, -1))

    def gather_text(self, rows: Any) -> tuple[Any, Any]:
        """Text tokens [n, T, width] and lengths [n]; zero for row -1."""
        return self._gather(rows, self._bundle.gather_text, FILES[:2])

    def gather_image(self, rows: Any) -> tuple[Any, Any]:
        """Patch tokens [n, P, width] and whole-photo vectors [n, width]; zero for row -1."""
        return self._gather(rows, self._bundle.gather_image, FILES[2:])

    def _gather(self, rows: Any, gather: Any, names: tuple[str, ...]) -> tuple[Any, Any]:
        newer = rows >= self.OFFSET
        first, second = gather(np.where(newer, -1, rows))
        if newer.any():
            for array, name in zip((first, second), names, strict=True):
                array[newer] = self._store.take(name, rows[newer] - self.OFFSET)
        return first, second


class Overlay:
    """Keeps a scorer's content up to date with the token store.

    Args:
        scorer: The bundle's scorer.
        folder: `tokens/<encoder hash>/`; it may not exist, then the bundle's own tokens are all.
    """

    def __init__(self, scorer: Scorer, folder: Path | None) -> None:
        self._scorer, self._folder = scorer, folder
        self.own = scorer.content
        self._current = scorer.content
        self._seen: tuple[int, int] | None = None

    def content(self) -> ContentSource | None:
        """The content with what the store has now; a look at one file's time where nothing changed."""
        if self.own is None or self._folder is None:
            return self.own
        try:
            stat = (self._folder / "index.npy").stat()
        except OSError:
            return self._current
        stamp = (stat.st_mtime_ns, stat.st_ino)
        if stamp != self._seen:
            layered: Any = Layered(self.own.tokens, StoreTokens(self._folder))
            self._current = ContentSource(layered, self._scorer.items)
            self._seen = stamp
        return self._current


def _map(path: Path, shape: tuple[int, ...]) -> Any:
    kind = "u1" if path.suffix == ".u8" else "<f2"
    return np.memmap(path, dtype=kind, mode="r", shape=shape) if int(np.prod(shape)) else np.empty(shape, kind)
