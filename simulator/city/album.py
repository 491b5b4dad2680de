"""Rendered photos, kept once by content hash."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import signal
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import astuple
from multiprocessing import get_context

from features import atomic
from features.layout import Layout
from simulator.city.painter import jpeg
from simulator.city.photo import PhotoSpec

MANY = 32  # photos to render from which on other processes help


class Album:
    """Keeps photos as blobs and remembers which description gave which, so that each is rendered once.

    Args:
        layout: The stack's folders. The index lies beside the city's truth: nothing else reads it.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._index = layout.truth("city").parent / "photos.jsonl"
        self._known: dict[str, str] = {}
        if self._index.exists():
            for line in self._index.read_text(encoding="utf-8").splitlines():
                try:
                    key, sha = json.loads(line)
                except ValueError:  # the last line of a killed run
                    continue
                self._known[key] = sha

        self._helpers: ProcessPoolExecutor | None = None

    def prepare(self, specs: Sequence[PhotoSpec]) -> None:
        """Render photos that will be asked for, on all cores where they are many."""
        new = {key: spec for spec in specs if self._missing(key := _key(spec))}
        if len(new) < MANY or (os.cpu_count() or 1) < 2:
            return
        if self._helpers is None:
            self._helpers = ProcessPoolExecutor(mp_context=get_context("spawn"), initializer=_end_with_parent)
        for key, data in zip(new, self._helpers.map(jpeg, new.values(), chunksize=8), strict=True):
            self._keep(key, data)

    def uri(self, spec: PhotoSpec) -> str:
        """`blob:<sha256>` of the rendered photo, which lies at `layout.blob(sha256)`."""
        key = _key(spec)
        if self._missing(key):
            self._keep(key, jpeg(spec))
        return f"blob:{self._known[key]}"

    def _missing(self, key: str) -> bool:
        return key not in self._known or not self.layout.blob(self._known[key]).exists()

    def _keep(self, key: str, data: bytes) -> None:
        sha = hashlib.sha256(data).hexdigest()
        if not self.layout.blob(sha).exists():
            atomic.write_bytes(self.layout.blob(sha), data)
        self._known[key] = sha
        self._index.parent.mkdir(parents=True, exist_ok=True)
        with self._index.open("a", encoding="utf-8") as file:
            file.write(json.dumps([key, sha]) + "\n")


def _key(spec: PhotoSpec) -> str:
    return hashlib.blake2b(repr(astuple(spec)).encode(), digest_size=16).hexdigest()


def _end_with_parent() -> None:
    """A helper whose parent was killed would wait for work for ever."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # Linux: PR_SET_PDEATHSIG
