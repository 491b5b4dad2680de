"""The city as the command line, the demo and the report meet it."""

from __future__ import annotations

import dataclasses
import datetime as dt
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from features.encoded import JsonObject
from features.errors import UsageError
from features.layout import Layout
from features.record import Record
from features.times import DAY, day_of, format_us
from simulator.city.config import SMALL, CityConfig

if TYPE_CHECKING:
    from features.settings import ContentSettings
    from simulator.city.known import Known
    from simulator.city.simulate import City

MEASURING = ("lightgbm", "matplotlib", "sklearn")  # what the report needs beside what the product installs


class CitySource:
    """The simulated city: it answers the lists it is shown, and knows the truth."""

    about = "A simulated city's events"
    first_day = CityConfig.start
    judged_day = CityConfig.start + dt.timedelta(days=7)
    features: Mapping[str, Sequence[str]] = {}

    def records(
        self,
        from_us: int,
        to_us: int,
        *,
        layout: Layout,
        seed: int = 0,
        photos: Path | None = None,
        options: Sequence[str] = (),
    ) -> Iterator[Record]:
        """Records of whole days; what their lists lead to after the last one is part of the range.

        Arguments are those of `Source.records`: both times start a day, `photos` is None since the city renders its
        own, and options are of `CityConfig`, such as `requests_per_day=500` or `strengths.drift=0`.
        """
        if photos is not None:
            raise UsageError("the city renders its own", field="photos", value=str(photos), remedy="leave it out")
        for name, moment in (("from", from_us), ("to", to_us)):
            if moment % DAY:
                raise UsageError(
                    "the city lives whole days", field=name, value=format_us(moment), remedy="write YYYY-MM-DD"
                )
        city = self.simulation(layout, seed, options=options)
        first, days = day_of(from_us), (to_us - from_us) // DAY
        city.index(first)  # an early day is refused before anything is published
        return city.history(first, days)

    def describe(self, arguments: Sequence[str], layout: Layout, content: ContentSettings) -> None:
        """Measure the city and what can be learnt from it: `freshrank source describe city`.

        Args:
            arguments: Of the command line.
            layout: Where encoded contents are kept.
            content: The encoders.

        Raises:
            UsageError: If a package that measures is not installed.
        """
        missing = [name for name in MEASURING if importlib.util.find_spec(name) is None]
        if missing:
            raise UsageError(
                "the city's report needs packages that are not installed", field="packages", value=", ".join(missing),
                remedy="pip install 'freshrank[simulator]'",
            )  # fmt: skip
        from simulator.city.cli import Place, app

        place = Place(layout, content)
        app(args=["describe", *arguments], prog_name="freshrank source", standalone_mode=False, obj=place)

    def simulation(self, layout: Layout, seed: int, *, small: bool = False, options: Sequence[str] = ()) -> City:
        """A city whose photos and truth are kept.

        Args:
            layout: Where.
            seed: The city's seed.
            small: The small city of the tests.
            options: `name=value` of `CityConfig`.

        Raises:
            UsageError: If an option is none.
        """
        from simulator.city.album import Album
        from simulator.city.simulate import City
        from simulator.city.truth import TruthFiles

        return City(_config(options, small), seed, photos=Album(layout), truth=TruthFiles(layout.truth("city")))

    def oracle(self, layout: Layout, day: dt.date) -> Known:
        """The truth of a lived day.

        Args:
            layout: Where it was written.
            day: The day.

        Raises:
            NotReadyError: If the day was not lived to its end.
        """
        from simulator.city.known import known_truth

        return known_truth(layout, day)


def _config(options: Sequence[str], small: bool) -> CityConfig:
    from features.configuration import read

    return read(CityConfig, (SMALL if small else {}) | _nested(options), prefix="city.", text=True)


def _nested(options: Sequence[str]) -> JsonObject:
    """`a.b=c` as `{"a": {"b": "c"}}`, unknown names refused."""
    values: JsonObject = {}
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
