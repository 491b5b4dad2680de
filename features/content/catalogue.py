"""Listings' content: every version for encoding, and the newest as a small table that gateways map into memory.

A gateway tells a model which text and which photo a candidate has, by content hash. The table says so for every listing
as of a cut: `state/catalogue/<cut>.npy`, rows sorted by a 64-bit hash of the item id, replaced by one of a later cut.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from features import atomic
from features.content.hash import image_sha, text_sha
from features.layout import Layout

if TYPE_CHECKING:
    from features.content.encode import ItemContent

_ALWAYS = 2**62  # µs; later than any known time
_KEPT = 2  # tables kept, so that one is not removed between a reader's look at the folder and its opening
_ROW = np.dtype([("item", "<u8"), ("text", "V32"), ("image", "V32")])
_NOTHING = bytes(32)


def known_items(layout: Layout, known_before_us: int | None) -> Iterator[ItemContent]:
    """Every title, description and photo that a listing has had: requests need those of their own time, too.

    Args:
        layout: Where the event log lies.
        known_before_us: Only facts with an earlier known time; None for all.

    Yields:
        Distinct contents, in an order that does not change.
    """
    from features import facts
    from features.content.encode import ItemContent

    with facts.connection(layout) as con:
        facts.load_items(con, layout, known_before_us=_ALWAYS if known_before_us is None else known_before_us)
        query = "SELECT DISTINCT title, description, image_uri FROM f_items WHERE NOT gone ORDER BY ALL"
        for batch in facts.batches(con, query):
            for row in batch.to_pylist():
                yield ItemContent(row["title"], row["description"], row["image_uri"])


def publish(layout: Layout, known_before_us: int | None) -> int:
    """Write the table of the newest content of every listing.

    Args:
        layout: Where the event log lies.
        known_before_us: The cut; None for all that is known.

    Returns:
        Listings in the table. A later cut's table, if there is one, stays what gateways read.
    """
    from features import facts

    rows: list[tuple[int, bytes, bytes]] = []
    with facts.connection(layout) as con:
        facts.load_items(con, layout, known_before_us=_ALWAYS if known_before_us is None else known_before_us)
        newest = con.execute("SELECT coalesce(max(known_time), -1) + 1 FROM f_items").fetchall()[0][0]
        query = """SELECT item_id, title, description, image_uri FROM f_items
            QUALIFY row_number() OVER (PARTITION BY item_id ORDER BY known_time DESC) = 1 AND NOT gone"""
        for batch in facts.batches(con, query):
            rows += [_row(**row) for row in batch.to_pylist()]
    write_table(layout, int(newest) if known_before_us is None else known_before_us, rows)
    return len(rows)


def write_table(layout: Layout, cut_us: int, rows: Sequence[tuple[int, bytes, bytes]]) -> None:
    """Write `state/catalogue/<cut>.npy` and remove old ones."""
    table = np.array(sorted(rows), dtype=_ROW)
    memory = io.BytesIO()
    np.save(memory, table)
    folder = _folder(layout)
    atomic.write_bytes(folder / f"{cut_us:020d}.npy", memory.getvalue())
    for old in sorted(folder.glob("*.npy"))[:-_KEPT]:
        old.unlink(missing_ok=True)


class Catalogue:
    """The newest table; listings it does not know have no content.

    Args:
        layout: Folders of the stack.
    """

    def __init__(self, layout: Layout) -> None:
        self._folder = _folder(layout)
        self._path: Path | None = None
        self._stamp: tuple[int, int] | None = None
        self._table: Any = np.empty(0, dtype=_ROW)

    def refresh(self) -> None:
        """Take up a newer table, if there is one; one look at the folder where there is none."""
        paths = sorted(self._folder.glob("*.npy"))
        if not paths:
            return
        stat = paths[-1].stat()
        stamp = (stat.st_ino, stat.st_mtime_ns)
        if (paths[-1], stamp) != (self._path, self._stamp):
            self._table = np.load(paths[-1], mmap_mode="r")
            self._path, self._stamp = paths[-1], stamp

    def shas(self, items: Sequence[str]) -> tuple[list[str | None], list[str | None]]:
        """Content hashes of the texts and of the photos of items; None where unknown or missing."""
        table = self._table
        keys = np.array([_key(item) for item in items], dtype=np.uint64)
        if not len(table) or not len(keys):
            return [None] * len(items), [None] * len(items)
        at = np.minimum(np.searchsorted(table["item"], keys), len(table) - 1)
        known = table["item"][at] == keys
        rows = [row if ok else None for row, ok in zip(table[at], known, strict=True)]
        text = [_hex(row["text"]) if row is not None else None for row in rows]
        return text, [_hex(row["image"]) if row is not None else None for row in rows]


def _row(item_id: str, title: str | None, description: str | None, image_uri: str | None) -> tuple[int, bytes, bytes]:
    shas = (text_sha(title, description), image_sha(image_uri))
    text, image = (bytes.fromhex(sha) if sha else _NOTHING for sha in shas)
    return _key(item_id), text, image


def _key(item: str) -> int:
    return int.from_bytes(hashlib.blake2b(item.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _hex(value: np.bytes_) -> str | None:
    raw = bytes(value)
    return raw.hex() if raw != _NOTHING else None


def _folder(layout: Layout) -> Path:
    return layout.state / "catalogue"
