"""The Complete Journey as the command line and the demo meet it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from features.errors import UsageError
from features.layout import Layout
from features.record import Record

if TYPE_CHECKING:
    from features.settings import ContentSettings


class JourneySource:
    """A year of household baskets: nobody answers, and nobody knows a truth."""

    about = "Real purchases of grocery households"
    first_day = dt.date(2017, 9, 1)  # six weeks of purchases, then the day judged
    judged_day = dt.date(2017, 10, 12)
    features: Mapping[str, Sequence[str]] = {
        "context": ("zone", "hour", "weekday"),
        "item": ("department", "package_size"),
        "user": ("age", "income", "home_ownership", "marital_status", "household_size", "kids_count"),
        "item_numbers": (),
    }

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
        """Records of the baskets paid in a range.

        Arguments are those of `Source.records`: the seed draws negatives and the order of the lists, `photos` is the
        folder of the GroceryStoreDataset (None: items have no photos), and there are no options.
        """
        from simulator.completejourney.photos import ClassPhotos
        from simulator.completejourney.replay import replay

        if options:
            raise UsageError("this source has no options", field="set", value=options[0], remedy="leave it out")
        return replay(from_us, to_us, seed=seed, photo=ClassPhotos(photos, layout) if photos else None)

    def describe(self, arguments: Sequence[str], layout: Layout, content: ContentSettings) -> None:  # noqa: ARG002
        """There is no report.

        Raises:
            UsageError: Always.
        """
        raise UsageError("this source has no report", field="source", value="completejourney", remedy="describe city")

    def simulation(
        self,
        layout: Layout,  # noqa: ARG002
        seed: int,  # noqa: ARG002
        *,
        small: bool = False,  # noqa: ARG002
        options: Sequence[str] = (),  # noqa: ARG002
    ) -> None:
        """Nobody answers: these purchases happened long ago."""
        return

    def oracle(self, layout: Layout, day: dt.date) -> None:  # noqa: ARG002
        """Nobody knows the truth."""
        return
