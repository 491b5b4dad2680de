"""Content tokens on disk, by content hash: the one reader of a folder of tokens, an encoder's store or a bundle's copy.

A folder holds four arrays, `encoder.json` with their widths, and `index.npy`: (`sha`, `kind`, `row`) of every content
that is settled, sorted by `sha`; row -1 is content that can never be encoded. `features/content/store.py` writes them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from trainer.runtime.errors import TokensError
from trainer.runtime.models.schema import ContentWidths

if TYPE_CHECKING:
    from trainer.runtime.encoding import Array

I64 = npt.NDArray[np.int64]
F16 = npt.NDArray[np.float16]
U8 = npt.NDArray[np.uint8]
INDEX = "index.npy"
TEXT, IMAGE = 0, 1  # kinds of content


class TokenReader:
    """Tokens by content hash, the arrays mapped into memory.

    Texts and photos have rows of their own; their hashes never collide, so one index holds both. A reader sees the
    index that it opened with; the rows of that never change.

    Args:
        folder: The folder of tokens.

    Attributes:
        widths: Shapes of the rows.

    Raises:
        TokensError: If an array is shorter than the index says.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        index = np.load(folder / INDEX)
        self._sha, self._row = index["sha"], index["row"]
        described = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))
        self.widths = w = ContentWidths(**described["widths"])
        texts, images = (int(((index["kind"] == kind) & (index["row"] >= 0)).sum()) for kind in (TEXT, IMAGE))
        self._text = _map(folder / "text.f16", "<f2", (texts, w.text_tokens, w.text_width))
        self._text_len = _map(folder / "text_len.u8", "u1", (texts,))
        self._image = _map(folder / "image.f16", "<f2", (images, w.patches, w.image_width))
        self._image_global = _map(folder / "image_global.f16", "<f2", (images, w.image_width))

    def rows(self, shas: Iterable[str | None]) -> I64:
        """Row of each content hash, [n]: a text's among texts, a photo's among photos; -1 where there is none."""
        wanted = np.array([(sha or "").encode() for sha in shas], dtype="S64")
        if not len(self._sha) or not len(wanted):
            return np.full(len(wanted), -1, dtype=np.int64)
        at = np.minimum(np.searchsorted(self._sha, wanted), len(self._sha) - 1)
        return np.where(self._sha[at] == wanted, self._row[at], -1)

    def gather_text(self, rows: I64) -> tuple[F16, U8]:
        """Text tokens [n, T, width] and lengths [n] of text rows; zero for row -1."""
        return _take(self._text, rows), _take(self._text_len, rows)

    def gather_image(self, rows: I64) -> tuple[F16, F16]:
        """Patch tokens [n, P, width] and whole-photo vectors [n, width] of photo rows; zero for row -1."""
        return _take(self._image, rows), _take(self._image_global, rows)


def _map(path: Path, kind: str, shape: tuple[int, ...]) -> Array:
    size = int(np.prod(shape)) * np.dtype(kind).itemsize
    if not path.exists() or path.stat().st_size < size:
        raise TokensError(
            "a token file is shorter than its index says",
            field="tokens",
            value=str(path),
            remedy="remove its folder and run `freshrank content encode --all`",
        )
    return np.memmap(path, dtype=kind, mode="r", shape=shape) if size else np.empty(shape, kind)


def _take(array: Array, rows: I64) -> Array:
    taken = np.zeros((len(rows), *array.shape[1:]), dtype=array.dtype)
    have = rows >= 0
    taken[have] = array[rows[have]]
    return taken
