"""Rendered photos, kept once by content hash."""

from __future__ import annotations

import hashlib
import json
from dataclasses import astuple

from features import atomic
from features.layout import Layout
from freshrank.sources.city.painter import jpeg
from freshrank.sources.city.photo import PhotoSpec


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
            for line in self._index.read_text().splitlines():
                try:
                    key, sha = json.loads(line)
                except ValueError:  # the last line of a killed run
                    continue
                self._known[key] = sha

    def uri(self, spec: PhotoSpec) -> str:
        """`blob:<sha256>` of the rendered photo, which lies at `layout.blob(sha256)`."""
        key = hashlib.blake2b(repr(astuple(spec)).encode(), digest_size=16).hexdigest()
        sha = self._known.get(key)
        if sha is None or not self.layout.blob(sha).exists():
            data = jpeg(spec)
            sha = hashlib.sha256(data).hexdigest()
            if not self.layout.blob(sha).exists():
                atomic.write_bytes(self.layout.blob(sha), data)
            self._known[key] = sha
            self._index.parent.mkdir(parents=True, exist_ok=True)
            with self._index.open("a") as file:
                file.write(json.dumps([key, sha]) + "\n")
        return f"blob:{sha}"
