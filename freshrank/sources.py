"""What a source of events offers, and where one is found: by entry point, because no source is part of the product.

A package makes its source known to `freshrank source`, `demo` and the report under the group `freshrank.sources`:

    [project.entry-points."freshrank.sources"]
    city = "simulator.city.source:CitySource"
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from features.errors import UsageError
from features.layout import Layout
from features.record import Record

if TYPE_CHECKING:
    import pyarrow as pa

    from features.settings import ContentSettings

GROUP = "freshrank.sources"
INSTALL = "pip install 'freshrank[simulator]'; in a checkout: make setup"


class Asking(Protocol):
    """A request before it is ranked: who asks for a ranking of what."""

    @property
    def request_id(self) -> str:
        """Names it."""

    @property
    def user_id(self) -> str:
        """Who asks."""

    @property
    def time_us(self) -> int:
        """When, µs UTC."""

    @property
    def context(self) -> Mapping[str, object]:
        """Fields of the context, as impressions carry them."""

    @property
    def candidates(self) -> Sequence[str]:
        """Item ids."""


class Simulation(Protocol):
    """Users who ask for lists and act on what they get. Days are lived in their order, each once."""

    def history(self, first_day: dt.date, days: int) -> Iterator[Record]:
        """Records of logged days in the order of their times; what follows from them later is at the end.

        Args:
            first_day: The first day wanted.
            days: How many.
        """

    def catalogue_events(self, day: dt.date) -> Iterator[Record]:
        """What changes in items and users as a day begins."""

    def requests(self, day: dt.date) -> Iterator[Asking]:
        """A day's requests, in the order of their times."""

    def answer(self, request: Asking, shown: Sequence[str], policy: str) -> Sequence[Record]:
        """What the user does with a list: clicks, carts, purchases; the impression is the ranker's to publish.

        Args:
            request: A request of the open day.
            shown: Item ids, first place first.
            policy: What ranked them; kept with the truth.
        """


class Oracle(Protocol):
    """What a source that knows the truth says of a day's rankings."""

    @property
    def candidates(self) -> pa.Table:
        """A row a candidate: `request_id, item_id`, `relevance` (probability of purchase if looked at), `purchase` (at
        the place shown; null where it was not shown)."""

    @property
    def dirty(self) -> Mapping[str, str]:
        """Item → kinds of dirt, of the listings that are dirty."""

    def expected(self, lists: Mapping[str, Sequence[str]]) -> dict[str, float]:
        """True expected purchases of lists: request → items, first place first."""

    def paired(
        self, lists: Mapping[str, Mapping[str, Sequence[str]]], treatment: str, control: str
    ) -> dict[str, object]:
        """Arms compared on the same requests.

        Args:
            lists: Request → arm → items.
            treatment: An arm.
            control: The arm it is compared with.

        Returns:
            `requests`, `means` by arm and of the best list, `<treatment>_minus_<control>` with its 95% interval.
        """

    def precision(self, suspects: Sequence[tuple[str, float]]) -> dict[str, object]:
        """How many of the most suspicious listings are dirty.

        Args:
            suspects: Items and scores, most suspicious first.
        """


@runtime_checkable
class Source(Protocol):
    """A source of events."""

    @property
    def about(self) -> str:
        """What its events are, as a sentence begins: `A simulated city's events`."""

    @property
    def first_day(self) -> dt.date:
        """The first day of the history that a demo replays."""

    @property
    def judged_day(self) -> dt.date:
        """The last day of that history: it judges the first model."""

    @property
    def features(self) -> Mapping[str, Sequence[str]]:
        """Settings `features.*` that its events want; what is not named keeps its default."""

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
        """Records of a range, in the order of their times; the same ones whenever it is asked.

        Args:
            from_us: Begins it, µs UTC.
            to_us: Ends it, not included, µs UTC.
            layout: Where photos and truth go.
            seed: Of what the source draws.
            photos: Folder of photos to use.
            options: `name=value` of the source's own settings.

        Raises:
            UsageError: At once, if it cannot give that range, or knows no such photos or options.
        """

    def describe(self, arguments: Sequence[str], layout: Layout, content: ContentSettings) -> None:
        """Measure the source and write a report.

        Args:
            arguments: Of the command line; `--help` explains them.
            layout: Where what was computed is kept.
            content: Encoders of texts and photos.

        Raises:
            UsageError: If it has no report.
        """

    def simulation(
        self, layout: Layout, seed: int, *, small: bool = False, options: Sequence[str] = ()
    ) -> Simulation | None:
        """Users who can be asked; None where nobody answers, as in logs of real purchases.

        Args:
            layout: Where photos and truth go.
            seed: Of everything.
            small: Small enough for tests.
            options: `name=value` of the source's own settings.
        """

    def oracle(self, layout: Layout, day: dt.date) -> Oracle | None:
        """What is known of a lived day's truth; None where nobody knows.

        Args:
            layout: Where the truth was written.
            day: The day.
        """


def find(name: str) -> Source:
    """The installed source of a name.

    Args:
        name: Such as `city`.

    Raises:
        UsageError: If no installed package offers it, or one that it needs is not installed.
    """
    points = {point.name: point for point in entry_points(group=GROUP)}
    if name not in points:
        what = "no such source" if points else "no source of events is installed"
        remedy = f"use one of {', '.join(sorted(points))}" if points else INSTALL
        raise UsageError(what, field="source", value=name, remedy=remedy)
    try:
        made: Source = points[name].load()()
    except ImportError as error:
        raise UsageError(f"the source lacks a package ({error})", field="source", value=name, remedy=INSTALL) from error
    return made
