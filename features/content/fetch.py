"""Bytes behind an image URI: blobs, files below one folder, and allow-listed hosts; nothing else is ever opened."""

from __future__ import annotations

import hashlib
from enum import StrEnum
from pathlib import Path
from urllib.parse import unquote, urlsplit

from features.content.hash import blob_of
from features.layout import Layout
from features.settings import ContentSettings

TIMEOUT_S = 10.0


class Flaw(StrEnum):
    """Why there are no tokens for a photo."""

    MISSING = "missing"  # no such blob, file or object; it may still come
    REFUSED = "refused"  # a kind, folder or host that settings do not allow
    UNREACHABLE = "unreachable"  # the host did not answer; it may later
    BROKEN = "broken"  # bytes that are no photo; will never be one

    @property
    def final(self) -> bool:
        """Whether trying again cannot help."""
        return self is Flaw.BROKEN


def fetch(uri: str, settings: ContentSettings, layout: Layout) -> bytes | Flaw:
    """Read a photo.

    Args:
        uri: `blob:<sha256>`, `file:<path>` (relative to `content.image_root`, or absolute and below it), `https://…` or
            `s3://bucket/key`, whose host or bucket `content.allowed_hosts` must name.
        settings: What is allowed.
        layout: Where blobs lie.

    Returns:
        The bytes, at most `content.max_image_bytes`, or what is wrong.
    """
    if blob := blob_of(uri):
        data = _read(layout.blob(blob), settings.max_image_bytes)
        if isinstance(data, bytes) and hashlib.sha256(data).hexdigest() != blob:
            return Flaw.BROKEN
        return data
    try:
        parts = urlsplit(uri.strip())
    except ValueError:
        return Flaw.REFUSED
    if parts.scheme == "file":
        return _file(unquote(parts.path), settings) if parts.netloc in ("", "localhost") else Flaw.REFUSED
    if parts.scheme in ("https", "s3") and parts.hostname and parts.hostname in settings.allowed_hosts:
        return _https(uri.strip(), settings) if parts.scheme == "https" else _s3(parts.netloc, parts.path, settings)
    return Flaw.REFUSED


def _file(path: str, settings: ContentSettings) -> bytes | Flaw:
    if settings.image_root is None:
        return Flaw.REFUSED
    root = settings.image_root.resolve()
    try:
        target = (root / path).resolve()  # an absolute path replaces the root; links are followed before the check
    except (OSError, ValueError):
        return Flaw.REFUSED
    return _read(target, settings.max_image_bytes) if target.is_relative_to(root) else Flaw.REFUSED


def _read(path: Path, limit: int) -> bytes | Flaw:
    if not path.is_file():
        return Flaw.MISSING
    if path.stat().st_size > limit:
        return Flaw.BROKEN
    return path.read_bytes()


def _https(uri: str, settings: ContentSettings) -> bytes | Flaw:
    import httpx

    data = bytearray()
    try:
        # No redirects: they could lead off the list.
        with httpx.stream("GET", uri, timeout=TIMEOUT_S, follow_redirects=False) as response:
            if response.status_code in (404, 410):
                return Flaw.MISSING
            if response.status_code != 200:
                return Flaw.UNREACHABLE
            for chunk in response.iter_bytes():
                data += chunk
                if len(data) > settings.max_image_bytes:
                    return Flaw.BROKEN
    except (httpx.HTTPError, httpx.InvalidURL):
        return Flaw.UNREACHABLE
    return bytes(data)


def _s3(bucket: str, key: str, settings: ContentSettings) -> bytes | Flaw:
    from pyarrow import fs

    try:
        store = fs.S3FileSystem(connect_timeout=TIMEOUT_S, request_timeout=TIMEOUT_S)
        with store.open_input_stream(bucket + key) as stream:
            data = bytes(stream.read(settings.max_image_bytes + 1))
    except FileNotFoundError:
        return Flaw.MISSING
    except OSError:
        return Flaw.UNREACHABLE
    return data if len(data) <= settings.max_image_bytes else Flaw.BROKEN
