"""Content of listings that are newer than the bundle: the token store, beside the bundle's own copy.

The bundle's tokens always come first, so that a bundle scores what it knew for ever alike. The store only grows, and a
content hash keeps its tokens, so the overlay can turn a masked listing into a seen one, never one content into another.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from trainer.runtime.content import ContentSource, TokenSource
from trainer.runtime.scorer import Scorer
from trainer.runtime.tokens import F16, I64, INDEX, U8, TokenReader


class Layered:
    """The bundle's tokens, then the store's; rows of the store are counted from `OFFSET` on.

    Args:
        bundle: The bundle's own tokens.
        store: The token store.
    """

    OFFSET = 1 << 40

    def __init__(self, bundle: TokenSource, store: TokenSource) -> None:
        self._bundle, self._store = bundle, store

    def rows(self, shas: Iterable[str | None]) -> I64:
        """Row of each content hash, -1 where there is none."""
        shas = list(shas)
        own, other = self._bundle.rows(shas), self._store.rows(shas)
        return np.where(own >= 0, own, np.where(other >= 0, other + self.OFFSET, -1))

    def gather_text(self, rows: I64) -> tuple[F16, U8]:
        """Text tokens [n, T, width] and lengths [n]; zero for row -1."""
        newer = rows >= self.OFFSET
        text, length = self._bundle.gather_text(np.where(newer, -1, rows))
        if newer.any():
            text[newer], length[newer] = self._store.gather_text(rows[newer] - self.OFFSET)
        return text, length

    def gather_image(self, rows: I64) -> tuple[F16, F16]:
        """Patch tokens [n, P, width] and whole-photo vectors [n, width]; zero for row -1."""
        newer = rows >= self.OFFSET
        patches, whole = self._bundle.gather_image(np.where(newer, -1, rows))
        if newer.any():
            patches[newer], whole[newer] = self._store.gather_image(rows[newer] - self.OFFSET)
        return patches, whole


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
            stat = (self._folder / INDEX).stat()
        except OSError:
            return self._current
        stamp = (stat.st_mtime_ns, stat.st_ino)
        if stamp != self._seen:
            layered = Layered(self.own.tokens, TokenReader(self._folder))
            self._current = ContentSource(layered, self._scorer.items)
            self._seen = stamp
        return self._current
