"""Content tokens in the trainer: an encoder's store opened, a part of it copied into a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from features.content.store import TokenWriter, Widths
from features.errors import DataError, NotReadyError
from trainer.runtime.errors import TokensError
from trainer.runtime.tokens import I64, INDEX, TokenReader

PART = 1024  # rows copied at once


class TokenStore(TokenReader):
    """The tokens of an encoder, read by content hash; its errors are the command line's.

    Args:
        folder: `tokens/<encoder hash>/`.

    Raises:
        NotReadyError: If nothing was encoded with this encoder yet.
        DataError: If an array is shorter than the index says.
    """

    def __init__(self, folder: Path) -> None:
        if not (folder / INDEX).exists():
            raise NotReadyError(
                "no content tokens", field="tokens", value=str(folder), remedy="run `freshrank content encode` first"
            )
        try:
            super().__init__(folder)
        except TokensError as error:
            raise DataError(error.what, field=error.field, value=error.value, remedy=error.remedy) from error


def copy_tokens(folder: Path, tokens: TokenReader, texts: Sequence[str], images: Sequence[str]) -> None:
    """Copy the tokens of some content hashes into a bundle.

    Args:
        folder: `item_tokens/` of the bundle.
        tokens: Where they come from.
        texts: Content hashes of texts, sorted; what `tokens` lacks is left out.
        images: Content hashes of photos, sorted.
    """
    w = tokens.widths
    writer = TokenWriter(folder, Widths(w.text_tokens, w.text_width, w.image_width, w.patches), {})
    for shas, rows in _parts(texts, tokens):
        writer.add_texts(shas, *tokens.gather_text(rows))
    for shas, rows in _parts(images, tokens):
        writer.add_images(shas, *tokens.gather_image(rows))
    writer.commit()
    (folder / "index.parquet").unlink()  # a bundle is read with numpy alone


def _parts(shas: Sequence[str], tokens: TokenReader) -> list[tuple[list[str], I64]]:
    """Content hashes that the store has, and their rows, `PART` at a time."""
    rows = tokens.rows(shas)
    have = np.flatnonzero(rows >= 0)
    parts = [have[start : start + PART] for start in range(0, len(have), PART)]
    return [([shas[at] for at in part.tolist()], rows[part]) for part in parts]
