"""Content hashes: what an item's text and photo are known by, without opening either."""

from __future__ import annotations

import hashlib
import re
from urllib.parse import urlsplit

_BLOB = re.compile(r"blob:([0-9a-f]{64})")
SCHEMES = ("blob", "file", "https", "s3")


def text_sha(title: str | None, description: str | None) -> str | None:
    """The content hash of an item's text.

    Leading and trailing blanks do not count; a blank text is a missing one.

    Args:
        title: The item's title, if it has one.
        description: Its description, if it has one.

    Returns:
        64 hexadecimal digits, or None where there is no text at all.

    Example:
        >>> text_sha("Apple ", None) == text_sha("Apple", "")
        True
        >>> text_sha(" ", None) is None
        True
    """
    parts = [(part or "").strip() for part in (title, description)]
    if not any(parts):
        return None
    return _sha("text", *parts)


def image_sha(uri: str | None) -> str | None:
    """The content hash of an item's photo, from its reference alone.

    Events name photos by reference, and a request must be tied to the photo of its time by whoever reads the events, on
    any host and at any later time. So the hash is that of the reference: `blob:` holds the hash of the bytes already;
    behind the other schemes a changed photo needs a new URI (a version in its path or query).

    Args:
        uri: `blob:<sha256>`, `file:`, `https:` or `s3:`.

    Returns:
        64 hexadecimal digits, or None where there is no photo or the reference is of no known kind.

    Example:
        >>> image_sha("blob:" + "a" * 64) == image_sha(" blob:" + "a" * 64)
        True
        >>> image_sha("ftp://host/photo.jpg") is None
        True
    """
    uri = (uri or "").strip()
    if blob := _BLOB.fullmatch(uri):
        return _sha("blob", blob[1])
    try:
        scheme = urlsplit(uri).scheme
    except ValueError:
        return None
    if scheme not in SCHEMES or scheme == "blob":
        return None
    return _sha("image", uri)


def blob_of(uri: str) -> str | None:
    """The sha256 that a `blob:` URI names, or None for another kind."""
    found = _BLOB.fullmatch(uri.strip())
    return found[1] if found else None


def _sha(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()
