"""Folders for work in progress: gone at the block's end, and swept by the next one where the end was a kill."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

_MARK = ".alive"  # a file beside each folder, locked as long as its process lives


@contextlib.contextmanager
def scratch(parent: Path, prefix: str) -> Iterator[Path]:
    """A new folder below `parent`, removed at the end of the block.

    What killed processes left there under the same prefix is removed first. Whether one lives is told by a lock, which
    the kernel drops with it, in whatever container it ran.

    Args:
        parent: Where; made when missing.
        prefix: How its name begins; that of folders that may be swept.

    Yields:
        The folder, empty. It may be renamed away.
    """
    parent.mkdir(parents=True, exist_ok=True)
    sweep(parent, prefix)
    mark, handle = _marked(parent, prefix)
    folder = mark.with_name(mark.name.removesuffix(_MARK))
    try:
        folder.mkdir()
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        mark.unlink(missing_ok=True)
        os.close(handle)


def sweep(parent: Path, prefix: str) -> int:
    """Remove scratch folders of processes that are no more.

    Args:
        parent: Where they were made.
        prefix: How their names begin.

    Returns:
        How many there were.
    """
    swept = 0
    for mark in [entry for entry in parent.iterdir() if entry.name.startswith(prefix) and entry.name.endswith(_MARK)]:
        try:
            handle = os.open(mark, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # another sweeps, too
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue  # it lives
        else:
            shutil.rmtree(mark.with_name(mark.name.removesuffix(_MARK)), ignore_errors=True)
            mark.unlink(missing_ok=True)
            swept += 1
        finally:
            os.close(handle)
    return swept


def _marked(parent: Path, prefix: str) -> tuple[Path, int]:
    """A new mark and the handle that holds its lock."""
    while True:
        mark = parent / f"{prefix}{secrets.token_hex(6)}{_MARK}"
        handle = os.open(mark, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with contextlib.suppress(BlockingIOError):  # a sweep came between: it takes the file for a dead one's
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if mark.exists():
                return mark, handle
        os.close(handle)
