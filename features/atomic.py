"""Writes that are there whole or not at all, and the locks around them."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from features.errors import LockedError
from features.scratch import scratch


def write_bytes(path: Path, data: bytes) -> None:
    """Replace a file's content: written beside, fsynced, renamed, the folder fsynced.

    Args:
        path: The file; its folder is made when missing.
        data: The new content.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _fsync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Replace a text file's content as `write_bytes` does."""
    write_bytes(path, text.encode())


def publish(part: Path, path: Path) -> None:
    """Give a file that was written beside its target the target's name: fsynced, renamed, the folder fsynced."""
    with part.open("rb") as handle:
        os.fsync(handle.fileno())
    part.replace(path)
    _fsync_folder(path.parent)


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder that appears under its name only when the block ends well.

    The block gets a folder beside the target to fill. Where the target exists already when the block ends (a run before
    this one, or one beside it, made the same thing), the target is kept and the new one dropped: targets are immutable.

    Yields:
        The folder to fill.
    """
    with scratch(path.parent, f".{path.name}.") as work:
        yield work
        for file in work.rglob("*"):
            if file.is_file():
                with file.open("rb") as handle:
                    os.fsync(handle.fileno())
        work.chmod(0o755)
        if not path.exists():
            with contextlib.suppress(OSError):  # lost a race to an equal folder: that one stays
                work.rename(path)
                _fsync_folder(path.parent)


@contextlib.contextmanager
def lock(path: Path, *, timeout_s: float = 0.0) -> Iterator[None]:
    """Hold a file lock, which the kernel drops when the process dies.

    Args:
        path: The lock file.
        timeout_s: Seconds to wait for it; 0 does not wait.

    Raises:
        LockedError: If another process holds it longer than that.
    """
    import filelock

    path.parent.mkdir(parents=True, exist_ok=True)
    held = filelock.FileLock(str(path), timeout=timeout_s)
    try:
        held.acquire()
    except filelock.Timeout as error:
        raise LockedError(
            "another process is at this step",
            field="lock",
            value=str(path),
            remedy="wait for it to end, then run again",
        ) from error
    try:
        yield
    finally:
        held.release()


def _fsync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
