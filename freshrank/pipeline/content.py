"""Step `content`: titles, descriptions and photos of listings to tokens, once each.

Reads the event log; leaves `tokens/<encoder>`, the catalogue table that gateways read, and `steps/<D>/content.json`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import ClassVar, Self

import msgspec

from features import times
from features.content.catalogue import known_items, publish
from features.content.encode import EncodedCounts, encode_items
from freshrank.pipeline.step import StepResult, say
from freshrank.settings import Settings

FLAWS = ("missing", "refused", "unreachable", "broken")


@dataclass(frozen=True)
class ContentEncoded(StepResult):
    """The listings' content, encoded.

    Args:
        counts: What was met.
        listings: Listings in the catalogue table.
    """

    STEP: ClassVar[str] = "content"
    COMMAND: ClassVar[str] = "content encode"

    counts: EncodedCounts
    listings: int

    def summary(self) -> str:
        """One line for people."""
        met = self.counts
        flaws = {flaw: int(getattr(met, f"images_{flaw}")) for flaw in FLAWS}
        masked = ", ".join(f"{n} {flaw}" for flaw, n in flaws.items() if n)
        return (
            f"content encode: {met.items} contents of {self.listings} listings in {met.seconds:.1f} s: "
            f"{met.texts_encoded} texts and {met.images_encoded} photos encoded, {met.texts_known} and "
            f"{met.images_known} known before; masked: {met.texts_missing} texts, {sum(flaws.values())} photos"
            f"{f' ({masked})' if masked else ''}; store {met.encoder}"
        )

    def to_json(self) -> dict[str, object]:
        """Everything side by side."""
        return {**asdict(self.counts), "listings": self.listings}

    @classmethod
    def from_json(cls, found: Mapping[str, object]) -> Self:
        """Read what `to_json` made."""
        return cls(msgspec.convert(found, type=EncodedCounts), msgspec.convert(found["listings"], type=int))


def run(settings: Settings, day: dt.date) -> ContentEncoded:
    """Encode what was known of listings at the day's cut and the token store does not have yet.

    Args:
        settings: All settings.
        day: The run's day D.

    Raises:
        LockedError: If another process fills the same store.
    """
    result = encode(settings, times.run_cut(day))
    result.leave(settings.layout, day)
    return result


def encode(settings: Settings, known_before_us: int | None) -> ContentEncoded:
    """Encode what the token store does not have yet; what is missing or broken is masked and counted.

    Args:
        settings: All settings.
        known_before_us: Listings as known before this moment, µs UTC; None for all.
    """

    def progress(counts: EncodedCounts) -> None:
        done = f"{counts.texts_encoded} texts and {counts.images_encoded} photos encoded"
        say(f"content encode: {counts.items} contents met, {done}")

    layout = settings.layout
    counts = encode_items(known_items(layout, known_before_us), settings.content, layout, progress)
    return ContentEncoded(counts, publish(layout, known_before_us))
