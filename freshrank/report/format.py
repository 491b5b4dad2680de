"""Figures and listings as the page writes them."""

from __future__ import annotations

from freshrank.analysis.listings import Listing
from freshrank.report.gather import Gathered
from freshrank.report.page import ListingCard, photo_uri


def number(value: float | None, digits: int = 4) -> str:
    """A figure; small ones as powers of ten, a missing one as a dash."""
    return (
        "–" if value is None else f"{value:,.{digits}f}" if abs(value) >= 10**-digits or value == 0 else f"{value:.1e}"
    )


def count(value: float) -> str:
    """A whole number with its thousands apart."""
    return f"{value:,.0f}"


def listing(found: Gathered, item: str, *, score: str = "", tag: str = "", bad: bool = False) -> ListingCard:
    """A listing with its title and its photo, where they are known."""
    known = found.listings.get(item, Listing())
    uri = known.photo
    photo = photo_uri(found.done.settings.layout.blob(uri.removeprefix("blob:"))) if uri.startswith("blob:") else ""
    return ListingCard(known.title or item, photo, score, tag, bad)
