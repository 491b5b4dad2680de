"""A range of any source, as events."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from features.errors import UsageError
from features.layout import Layout
from features.times import DAY, day_of, format_us
from freshrank.sources.event import Event

SOURCES = ("completejourney", "city")


def events(
    source: str,
    from_us: int,
    to_us: int,
    *,
    layout: Layout,
    seed: int = 0,
    photos: Path | None = None,
    options: Sequence[str] = (),
) -> Iterator[Event]:
    """Events of a source in [from_us, to_us).

    Args:
        source: One of `SOURCES`.
        from_us: µs UTC; for the city the start of a day.
        to_us: µs UTC; for the city the start of a day. What a city's lists lead to after it is part of the range.
        layout: Where photos and the city's truth go.
        seed: Seed of what the source draws.
        photos: Folder of the GroceryStoreDataset, for the Complete Journey.
        options: `name=value` of `CityConfig`, such as `requests_per_day=500` or `strengths.drift=0`.

    Raises:
        UsageError: If the source, an option or the range is none.
    """
    if source not in SOURCES:
        raise UsageError("no such source", field="source", value=source, remedy=f"use one of {', '.join(SOURCES)}")
    if from_us >= to_us:
        raise UsageError("the range is empty", field="to", value=to_us, remedy="name a later moment than --from")
    if source == "completejourney":
        if options:
            raise UsageError("this source has no options", field="set", value=options[0], remedy="leave it out")
        return _journey(from_us, to_us, layout, seed, photos)
    if photos is not None:
        raise UsageError("the city renders its own", field="photos", value=str(photos), remedy="leave it out")
    return _city(from_us, to_us, layout, seed, options)


def _journey(from_us: int, to_us: int, layout: Layout, seed: int, photos: Path | None) -> Iterator[Event]:
    from freshrank.sources.completejourney.photos import Photos
    from freshrank.sources.completejourney.replay import replay

    return replay(from_us, to_us, seed=seed, photo=Photos(photos, layout) if photos else None)


def _city(from_us: int, to_us: int, layout: Layout, seed: int, options: Sequence[str]) -> Iterator[Event]:
    from features.configuration import read
    from freshrank.sources.city.album import Album
    from freshrank.sources.city.config import CityConfig
    from freshrank.sources.city.simulate import City
    from freshrank.sources.city.truth import TruthFiles

    for name, moment in (("from", from_us), ("to", to_us)):
        if moment % DAY:
            raise UsageError(
                "the city lives whole days", field=name, value=format_us(moment), remedy="write YYYY-MM-DD"
            )
    config = read(CityConfig, _nested(options), prefix="city.", text=True)
    city = City(config, seed, photos=Album(layout), truth=TruthFiles(layout.truth("city")))
    first, days = day_of(from_us), (to_us - from_us) // DAY
    city.index(first)  # an early day is refused before anything is published
    return city.history(first, days)


def _nested(options: Sequence[str]) -> dict[str, Any]:
    """`a.b=c` as `{"a": {"b": "c"}}`, unknown names refused."""
    import dataclasses

    from freshrank.sources.city.config import CityConfig

    values: dict[str, Any] = {}
    for option in options:
        name, equals, value = option.partition("=")
        kind: Any = CityConfig()
        inner = values
        parts = name.split(".")
        for depth, part in enumerate(parts):
            if not equals or not dataclasses.is_dataclass(kind) or not hasattr(kind, part):
                raise UsageError("not an option of the city", field="set", value=option, remedy="write name=value")
            kind = getattr(kind, part)
            if depth < len(parts) - 1:
                inner = inner.setdefault(part, {})
        inner[parts[-1]] = value
    return values
