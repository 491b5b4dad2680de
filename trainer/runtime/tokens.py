"""Content tokens by content hash, mapped into memory: a bundle's own, and the content of a batch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainer.runtime.encoding import Encoded, Items
from trainer.runtime.models.batch import ContentBatch
from trainer.runtime.models.schema import Content

I64 = npt.NDArray[np.int64]
F16 = npt.NDArray[np.float16]
SHORTEST = 8  # text tokens that a batch has at least, for windows of convolutions
ARRAYS = ("text.f16", "text_len.u8", "image.f16", "image_global.f16")


class Tokens(Protocol):
    """Where tokens come from: the token store in training, a bundle's copy in serving."""

    def rows(self, shas: Any) -> I64:
        """Row of each content hash, -1 where there is none."""

    def gather_text(self, rows: I64) -> tuple[F16, npt.NDArray[np.uint8]]:
        """Text tokens [n, T, width] and lengths [n]; zero for row -1."""

    def gather_image(self, rows: I64) -> tuple[F16, F16]:
        """Patch tokens [n, P, width] and whole-photo vectors [n, width]; zero for row -1."""


class ItemTokens:
    """A bundle's copy of the tokens of its items.

    Args:
        folder: `item_tokens/` of a bundle.
    """

    def __init__(self, folder: Path) -> None:
        self.shapes: dict[str, list[int]] = json.loads((folder / "shapes.json").read_text(encoding="utf-8"))
        self._sha = np.load(folder / "sha.npy")
        self._row = np.load(folder / "row.npy")
        kinds: dict[str, str] = {"text_len.u8": "u1"}
        self._arrays: dict[str, Any] = {
            name: np.memmap(folder / name, dtype=kinds.get(name, "<f2"), mode="r", shape=tuple(shape))
            if int(np.prod(shape))
            else np.empty(shape, kinds.get(name, "<f2"))
            for name, shape in self.shapes.items()
        }

    def rows(self, shas: Any) -> I64:
        """Row of each content hash, -1 where there is none."""
        wanted = np.array([(sha or "").encode() for sha in shas], dtype="S64")
        if not len(self._sha) or not len(wanted):
            return np.full(len(wanted), -1, dtype=np.int64)
        at = np.minimum(np.searchsorted(self._sha, wanted), len(self._sha) - 1)
        return np.where(self._sha[at] == wanted, self._row[at], -1)

    def gather_text(self, rows: I64) -> tuple[F16, npt.NDArray[np.uint8]]:
        """Text tokens [n, T, width] and lengths [n]; zero for row -1."""
        return _take(self._arrays["text.f16"], rows), _take(self._arrays["text_len.u8"], rows)

    def gather_image(self, rows: I64) -> tuple[F16, F16]:
        """Patch tokens [n, P, width] and whole-photo vectors [n, width]; zero for row -1."""
        return _take(self._arrays["image.f16"], rows), _take(self._arrays["image_global.f16"], rows)


def write_item_tokens(folder: Path, tokens: Tokens, texts: list[str], images: list[str], content: Content) -> None:
    """Copy the tokens of some content hashes into a bundle.

    Args:
        folder: `item_tokens/` of the bundle, made when missing.
        tokens: Where they come from.
        texts: Content hashes of texts, sorted; what `tokens` lacks is left out.
        images: Content hashes of photos, sorted.
        content: Widths.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text_rows, image_rows = tokens.rows(texts), tokens.rows(images)
    have_text, have_image = text_rows >= 0, image_rows >= 0
    n, m = int(have_text.sum()), int(have_image.sum())
    found = [np.array(texts, "S64")[have_text], np.array(images, "S64")[have_image]]
    sha, row = np.concatenate(found), np.concatenate([np.arange(n), np.arange(m)])
    order = np.argsort(sha, kind="stable")
    np.save(folder / "sha.npy", sha[order])
    np.save(folder / "row.npy", row[order].astype(np.int64))
    with (folder / ARRAYS[0]).open("wb") as text, (folder / ARRAYS[1]).open("wb") as length:
        for rows in _parts(text_rows[have_text]):
            taken = tokens.gather_text(rows)
            text.write(np.ascontiguousarray(taken[0], "<f2").tobytes())
            length.write(np.ascontiguousarray(taken[1], "u1").tobytes())
    with (folder / ARRAYS[2]).open("wb") as image, (folder / ARRAYS[3]).open("wb") as whole:
        for rows in _parts(image_rows[have_image]):
            patches, vector = tokens.gather_image(rows)
            image.write(np.ascontiguousarray(patches, "<f2").tobytes())
            whole.write(np.ascontiguousarray(vector, "<f2").tobytes())
    shapes = [
        (n, content.text_tokens, content.text_width),
        (n,),
        (m, content.patches, content.image_width),
        (m, content.image_width),
    ]
    (folder / "shapes.json").write_text(json.dumps(dict(zip(ARRAYS, shapes, strict=True))), encoding="utf-8")


class ContentSource:
    """The content of batches.

    Args:
        tokens: Where tokens come from.
        items: The item table, for histories.
    """

    def __init__(self, tokens: Tokens, items: Items) -> None:
        self.tokens, self.items = tokens, items
        self._text_rows = tokens.rows(items.text_sha)
        self._image_rows = tokens.rows(items.image_sha)

    def batch(self, encoded: Encoded, category_S: Tensor | None, category_history: dict[str, Tensor]) -> ContentBatch:
        """Tokens of the distinct items of a batch.

        Args:
            encoded: The batch's indices.
            category_S: Category index of each candidate, or None.
            category_history: History → category index of each entry, flat.

        Returns:
            The tokens, an item once, and which candidate or position is which item.
        """
        parts = [
            _triples(self.tokens.rows(encoded.candidate_text), self.tokens.rows(encoded.candidate_image), category_S)
        ]
        for name, rows in encoded.history_items.items():
            parts.append(_triples(self._text_rows[rows], self._image_rows[rows], category_history.get(name)))
        distinct, which = np.unique(np.concatenate(parts), axis=0, return_inverse=True)
        which = which.reshape(-1)
        text_rows, image_rows, category = distinct.T
        text, text_len = self.tokens.gather_text(text_rows)
        longest = max(int(text_len.max(initial=0)), min(SHORTEST, text.shape[1]))
        text = text[:, :longest]  # beyond it every token is masked
        image, whole = self.tokens.gather_image(image_rows)
        ends = np.cumsum([len(part) for part in parts])
        history = {
            name: pad(torch.from_numpy(which[start:end]), encoded.counts[name])
            for name, start, end in zip(encoded.history_items, ends[:-1], ends[1:], strict=True)
        }
        return ContentBatch(
            text_ITD=torch.from_numpy(text).float(),
            text_mask_IT=torch.from_numpy(np.arange(text.shape[1]) < text_len[:, None]),
            image_IPD=torch.from_numpy(image).float(),
            image_mask_I=torch.from_numpy(image_rows >= 0),
            image_global_ID=torch.from_numpy(whole).float(),
            text_key_I=torch.from_numpy(text_rows + 1),
            image_key_I=torch.from_numpy(image_rows + 1),
            candidate_S=torch.from_numpy(which[: ends[0]]),
            history_BL=history,
            category_I=torch.from_numpy(category.copy()),
        )


def pad(flat: Tensor, counts_B: Tensor) -> Tensor:
    """Histories as a rectangle, [N, …] → [B, L, …]: newest last, zeros in front, L the longest but at least 1."""
    mask_BL = mask(counts_B)
    padded = flat.new_zeros((*mask_BL.shape, *flat.shape[1:]))
    return padded.masked_scatter(mask_BL.reshape(*mask_BL.shape, *[1] * (flat.dim() - 1)).expand_as(padded), flat)


def mask(counts_B: Tensor) -> Tensor:
    """True where a padded history has an entry, [B, L]."""
    length = max(1, int(counts_B.max())) if len(counts_B) else 1
    return torch.arange(length) >= (length - counts_B)[:, None]


def _triples(text_rows: I64, image_rows: I64, category: Tensor | None) -> I64:
    kind = np.zeros(len(text_rows), np.int64) if category is None else category.numpy()
    return np.stack([text_rows, image_rows, kind], axis=1)


def _parts(rows: I64, size: int = 1024) -> list[I64]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _take(array: Any, rows: I64) -> Any:
    taken = np.zeros((len(rows), *array.shape[1:]), dtype=array.dtype)
    have = rows >= 0
    taken[have] = array[rows[have]]
    return taken
