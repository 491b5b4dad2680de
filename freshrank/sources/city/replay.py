"""The city's logged history as a source to be replayed."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

from features.layout import Layout
from features.times import day_of, day_start
from freshrank.sources.city.album import Album
from freshrank.sources.city.config import CityConfig
from freshrank.sources.city.simulate import City
from freshrank.sources.city.truth import TruthFiles
from freshrank.sources.event import Event


def replay(
    from_us: int, to_us: int, layout: Layout, seed: int = 0, config: CityConfig | None = None
) -> Iterator[Event]:
    """Events of the history with times in a range; photos are kept as blobs, the truth apart.

    Args:
        from_us: First moment, µs UTC. The weeks of purchases lie before the city's first day.
        to_us: Moment at which it ends, not included.
        layout: Where photos and truth go.
        seed: The city's seed.
        config: The city; by default the full one.

    Yields:
        Events in the order of time.
    """
    config = config or CityConfig()
    city = City(config, seed, photos=Album(layout), truth=TruthFiles(layout.truth("city")))
    days = (day_of(to_us - 1) - config.start).days + 1
    first = max(config.start, day_of(from_us) - dt.timedelta(days=3))  # late purchases of three days may fall into it
    if days <= 0:
        events = city.history(config.start, 0)
    elif (first - config.start).days >= days:
        return
    else:
        events = city.history(first, days - (first - config.start).days)
    for event in events:
        if event.time_us >= to_us and event.time_us >= day_start(config.start):
            return
        if from_us <= event.time_us < to_us:
            yield event
