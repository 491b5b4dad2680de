"""Writing content tokens: append-only arrays that readers map into memory, and an index from content hash to row.

The arrays grow first and are fsynced; then the index is replaced by rename. What an interrupted writer left behind the
index's last row is cut off by the next one. `trainer/runtime/tokens.py` reads them, with numpy alone.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from features import atomic
from features.errors import DataError, NotReadyError

TEXT, IMAGE = 0, 1
PATCHES = 9

F16 = npt.NDArray[np.float16]
I64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Widths:
    """Shapes of a store's rows.

    Args:
        text_tokens: WordPieces kept of a text (T).
        text_width: Width of a text token.
        image_width: Width of an image patch and of the whole photo's vector.
        patches: Patches of a photo (P), in reading order.
    """

    text_tokens: int
    text_width: int
    image_width: int
    patches: int = PATCHES


@dataclass(frozen=True)
class Index:
    """The index: content hash, kind and row (-1: broken for good) of each entry."""

    sha: npt.NDArray[np.bytes_]
    kind: npt.NDArray[np.int8]
    row: I64

    def count(self, kind: int) -> int:
        """Rows that hold tokens of a kind."""
        return int(((self.kind == kind) & (self.row >= 0)).sum())


class TokenWriter:
    """Append tokens; the caller holds the store's lock.

    Args:
        folder: `tokens/<encoder hash>/`, made when missing.
        widths: Shapes of the rows.
        description: What made the tokens; kept beside them for people.
    """

    def __init__(self, folder: Path, widths: Widths, description: dict[str, object]) -> None:
        self.folder, self.widths = folder, widths
        if not (folder / "encoder.json").exists():
            _write_index(folder, Index(np.empty(0, "S64"), np.empty(0, np.int8), np.empty(0, np.int64)))
            atomic.write_text(folder / "encoder.json", json.dumps({**description, "widths": asdict(widths)}, indent=1))
        self._index = read_index(folder)
        self._known = set(self._index.sha.tolist())
        self.broken = {sha.decode() for sha in self._index.sha[self._index.row < 0].tolist()}
        self._counts = {kind: self._index.count(kind) for kind in (TEXT, IMAGE)}
        self._new: list[tuple[bytes, int, int]] = []
        for name, dtype, shape in array_shapes(widths, self._counts[TEXT], self._counts[IMAGE]):
            size = int(np.prod(shape)) * dtype.itemsize
            with (folder / name).open("ab") as file:
                if file.tell() < size:
                    raise _short(folder / name)
                file.truncate(size)

    def __contains__(self, sha: str) -> bool:
        return sha.encode() in self._known

    def add_texts(self, shas: Sequence[str], text: F16, text_len: npt.NDArray[np.uint8]) -> None:
        """Append texts: `text` [n, T, width], `text_len` [n]."""
        self._append(shas, TEXT, {"text.f16": text, "text_len.u8": text_len})

    def add_images(self, shas: Sequence[str], image: F16, image_global: F16) -> None:
        """Append photos: `image` [n, P, width], `image_global` [n, width]."""
        self._append(shas, IMAGE, {"image.f16": image, "image_global.f16": image_global})

    def add_broken(self, shas: Iterable[str]) -> None:
        """Remember photos whose bytes can never be read, so that nobody tries again."""
        for sha in shas:
            self._new.append((sha.encode(), IMAGE, -1))
            self._known.add(sha.encode())
            self.broken.add(sha)

    def commit(self) -> None:
        """Make everything appended so far visible: data first, index last."""
        if not self._new:
            return
        for name in ("text.f16", "text_len.u8", "image.f16", "image_global.f16"):
            with (self.folder / name).open("ab") as file:
                os.fsync(file.fileno())
        sha, kind, row = zip(*self._new, strict=True)
        self._index = Index(
            np.concatenate([self._index.sha, np.array(sha, "S64")]),
            np.concatenate([self._index.kind, np.array(kind, np.int8)]),
            np.concatenate([self._index.row, np.array(row, np.int64)]),
        )
        _write_index(self.folder, self._index)
        self._new = []

    def _append(self, shas: Sequence[str], kind: int, arrays: dict[str, npt.NDArray[np.generic]]) -> None:
        n_text, n_image = (len(shas), 0) if kind == TEXT else (0, len(shas))
        for name, dtype, shape in array_shapes(self.widths, n_text, n_image):
            if name not in arrays:
                continue
            if arrays[name].shape != shape or arrays[name].dtype != dtype:
                raise ValueError(f"{name}: {arrays[name].dtype}{arrays[name].shape} instead of {dtype}{shape}")
            with (self.folder / name).open("ab") as file:
                file.write(np.ascontiguousarray(arrays[name]).data)
        for sha in shas:
            self._new.append((sha.encode(), kind, self._counts[kind]))
            self._counts[kind] += 1
            self._known.add(sha.encode())


def array_shapes(widths: Widths, texts: int, images: int) -> list[tuple[str, np.dtype[Any], tuple[int, ...]]]:
    """File name, type and shape of each array of a store with that many texts and photos."""
    f16, u8 = np.dtype("<f2"), np.dtype("u1")
    return [
        ("text.f16", f16, (texts, widths.text_tokens, widths.text_width)),
        ("text_len.u8", u8, (texts,)),
        ("image.f16", f16, (images, widths.patches, widths.image_width)),
        ("image_global.f16", f16, (images, widths.image_width)),
    ]


def widths_of(folder: Path) -> Widths:
    """Shapes of a store's rows."""
    return Widths(**json.loads((folder / "encoder.json").read_text(encoding="utf-8"))["widths"])


def read_index(folder: Path) -> Index:
    """The index of a store.

    Raises:
        NotReadyError: If there is none.
    """
    path = folder / "index.npy"
    if not path.exists():
        raise NotReadyError(
            "no content tokens", field="tokens", value=str(folder), remedy="run `freshrank content encode` first"
        )
    plain = np.load(path)
    return Index(plain["sha"], plain["kind"], plain["row"])


def _write_index(folder: Path, index: Index) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    order = np.argsort(index.sha)
    plain = np.zeros(len(order), dtype=[("sha", "S64"), ("kind", "i1"), ("row", "<i8")])
    plain["sha"], plain["kind"], plain["row"] = index.sha[order], index.kind[order], index.row[order]
    memory = io.BytesIO()
    np.save(memory, plain)
    atomic.write_bytes(folder / "index.npy", memory.getvalue())
    # The same once more, for people and other tools: what counts is the file above.
    columns = {
        "content_sha": pa.array([sha.decode() for sha in plain["sha"].tolist()], pa.string()),
        "kind": pa.array(plain["kind"], pa.int8()),
        "row": pa.array(plain["row"], pa.int64()),
    }
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    atomic.write_bytes(folder / "index.parquet", sink.getvalue().to_pybytes())


def _short(path: Path) -> DataError:
    return DataError(
        "a token file is shorter than its index says",
        field="tokens",
        value=str(path),
        remedy="remove its folder and run `freshrank content encode --all`",
    )
