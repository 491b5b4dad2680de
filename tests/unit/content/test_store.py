"""The token store survives a writer killed at any point."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.content.store import TokenWriter, Widths
from features.errors import DataError, NotReadyError
from trainer.tokens import TokenStore

WIDTHS = Widths(text_tokens=2, text_width=3, image_width=4)
FILES = ("text.f16", "text_len.u8", "image.f16", "image_global.f16")


def sha(kind: str, number: int) -> str:
    """A made-up content hash."""
    return f"{kind}{number:063d}"


def add(writer: TokenWriter, start: int, count: int) -> None:
    """Append texts and photos whose values are their numbers."""
    values = np.arange(start, start + count, dtype=np.float16)
    writer.add_texts(
        [sha("a", n) for n in range(start, start + count)],
        np.broadcast_to(values[:, None, None], (count, 2, 3)).copy(),
        np.full(count, 2, np.uint8),
    )
    writer.add_images(
        [sha("b", n) for n in range(start, start + count)],
        np.broadcast_to(values[:, None, None], (count, 9, 4)).copy(),
        np.broadcast_to(values[:, None], (count, 4)).copy(),
    )


@settings(max_examples=30, deadline=None)
@given(
    batches=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    torn=st.dictionaries(st.sampled_from(FILES), st.binary(max_size=40)),
)
def test_what_was_committed_stays_and_torn_tails_go(
    tmp_path_factory: pytest.TempPathFactory, batches: list[int], torn: dict[str, bytes]
) -> None:
    folder = tmp_path_factory.mktemp("tokens")
    total = 0
    for count in batches:
        writer = TokenWriter(folder, WIDTHS, {})
        add(writer, total, count)
        writer.commit()
        total += count
        for name, tail in torn.items():  # what a killed writer leaves behind
            with (folder / name).open("ab") as file:
                file.write(tail)
    TokenWriter(folder, WIDTHS, {})
    store = TokenStore(folder)
    assert (folder / "image_global.f16").stat().st_size == total * 8
    wanted = list(range(total))[::-1]
    text, text_len = store.gather_text(store.rows([sha("a", n) for n in wanted]))
    image, image_global = store.gather_image(store.rows([sha("b", n) for n in wanted]))
    assert text[:, 1, 2].tolist() == wanted and image[:, 8, 3].tolist() == wanted
    assert image_global[:, 0].tolist() == wanted and text_len.tolist() == [2] * total
    assert store.rows([sha("c", 0), None]).tolist() == [-1, -1]


def test_uncommitted_rows_are_not_seen(tmp_path: Path) -> None:
    writer = TokenWriter(tmp_path, WIDTHS, {})
    add(writer, 0, 3)
    assert TokenStore(tmp_path).rows([sha("a", 0)]).tolist() == [-1]
    writer.add_broken([sha("d", 1)])
    writer.commit()
    store = TokenStore(tmp_path)
    assert store.rows([sha("a", 2), sha("d", 1)]).tolist() == [2, -1]
    again = TokenWriter(tmp_path, WIDTHS, {})
    assert sha("d", 1) in again and again.broken == {sha("d", 1)} and sha("e", 1) not in again


def test_readers_keep_what_they_opened(tmp_path: Path) -> None:
    writer = TokenWriter(tmp_path, WIDTHS, {})
    add(writer, 0, 2)
    writer.commit()
    store = TokenStore(tmp_path)
    add(writer, 2, 2)
    writer.commit()
    assert store.rows([sha("a", 3)]).tolist() == [-1]
    assert TokenStore(tmp_path).rows([sha("a", 3)]).tolist() == [3]


def test_errors_are_clear(tmp_path: Path) -> None:
    with pytest.raises(NotReadyError, match="content encode"):
        TokenStore(tmp_path)
    writer = TokenWriter(tmp_path, WIDTHS, {})
    add(writer, 0, 2)
    writer.commit()
    with (tmp_path / "image.f16").open("r+b") as file:
        file.truncate(5)
    with pytest.raises(DataError, match="shorter"):
        TokenStore(tmp_path)
