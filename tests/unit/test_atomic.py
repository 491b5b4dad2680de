"""Writes are there whole or not at all, whatever kills the writer."""

import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from features import atomic
from features.errors import LockedError


def test_a_failed_write_leaves_the_old_content(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    atomic.write_text(file, "old")
    with pytest.raises(TypeError):
        atomic.write_bytes(file, "no bytes")  # type: ignore[arg-type]
    assert file.read_text(encoding="utf-8") == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


def test_a_failed_folder_never_appears(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), atomic.new_folder(tmp_path / "bundle") as work:
        (work / "half").write_text("x", encoding="utf-8")
        raise RuntimeError("killed")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_kept(tmp_path: Path) -> None:
    for text in ("first", "second"):
        with atomic.new_folder(tmp_path / "bundle") as work:
            (work / "file").write_text(text, encoding="utf-8")
    assert (tmp_path / "bundle" / "file").read_text(encoding="utf-8") == "first"
    assert len(list(tmp_path.iterdir())) == 1


def _hold(path: str, ready: "multiprocessing.connection.Connection") -> None:
    with atomic.lock(Path(path)):
        ready.send(os.getpid())
        signal.pause()


def test_a_lock_is_refused_while_held_and_free_after_a_kill(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    holder = context.Process(target=_hold, args=(str(tmp_path / "x.lock"), theirs))
    holder.start()
    assert ours.poll(60), "the holder never got the lock"
    with pytest.raises(LockedError), atomic.lock(tmp_path / "x.lock"):
        pass
    holder.kill()
    holder.join()
    with atomic.lock(tmp_path / "x.lock", timeout_s=10):
        pass
