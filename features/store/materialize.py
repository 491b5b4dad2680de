"""A day's materialisation: the snapshots that training reads, and the newest of them into the online store."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from features import atomic, facts
from features.errors import NotReadyError, UnreachableError
from features.layout import Layout
from features.settings import FeatureSettings
from features.store.definitions import ITEM, USER, Definitions, define
from features.store.registry import OnlineStore, apply, open_store
from features.store.snapshot import fingerprints, mark_file, snapshots
from features.times import format_us, run_cut

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection
    from feast import FeatureStore

_ROWS = 2_000  # written to the online store at once


@dataclass(frozen=True)
class Materialized:
    """What a materialisation did.

    Args:
        date: The run's day.
        cut_us: Its cut: values are as of it.
        service: The feature service.
        snapshots: How many snapshots there are for the run; `written` of them were made now.
        written: See `snapshots`.
        users: Users written to the online store.
        items: Items written to the online store.
    """

    date: str
    cut_us: int
    service: str
    snapshots: int
    written: int
    users: int
    items: int


def cuts_of(date: dt.date, days: int) -> list[int]:
    """Cuts whose snapshots a run needs: those that its window's requests were served from, and its own.

    Requests before 02:00 UTC were served from the cut of two days before.
    """
    return [run_cut(date - dt.timedelta(days=back)) for back in range(days + 2, -1, -1)]


def materialize(
    layout: Layout,
    settings: FeatureSettings,
    online: OnlineStore,
    date: dt.date,
    *,
    days: int,
    progress: Callable[[str], None] = lambda _: None,
) -> Materialized:
    """Make the snapshots of the run's days and put that of its cut into the online store.

    Args:
        layout: Where things lie.
        settings: Which fields become features.
        online: The online store.
        date: The run's day D; values are as of its cut.
        days: Days of the window before D.
        progress: Called with a line now and then.

    Returns:
        What was done.

    Raises:
        NotReadyError: If the event log is not complete up to the cut.
        UnreachableError: If the online store does not answer.
        LockedError: If another process materialises at the moment.
    """
    cut = run_cut(date)
    facts.need_complete(layout, cut)
    definitions = define(settings)
    with atomic.lock(layout.lock("materialize")):
        with facts.connection(layout) as con:
            made = []
            for snapshot in snapshots(con, layout, settings, cuts_of(date, days)):
                made.append(snapshot)
                if snapshot.written:
                    progress(f"snapshot as of {format_us(snapshot.cut_us)}")
        service = apply(layout, settings, online)
        counts = {}
        with _reachable(online):
            store = open_store(layout, service, online)
            for entity, file in ((USER, made[-1].users), (ITEM, made[-1].items)):
                counts[entity] = _push(store, definitions, entity, file)
                progress(f"{counts[entity]} {entity}s online")
        _note_live(layout, service, cut)
    return Materialized(
        date=date.isoformat(), cut_us=cut, service=service, snapshots=len(made),
        written=sum(snapshot.written for snapshot in made), users=counts[USER], items=counts[ITEM],
    )  # fmt: skip


def check_snapshots(con: DuckDBPyConnection, layout: Layout, settings: FeatureSettings, cuts: list[int]) -> None:
    """Make sure that the snapshots of the cuts are there, made from what was known then.

    Raises:
        NotReadyError: If one is missing or was made from other facts.
    """
    definitions = define(settings)
    for cut, mark in fingerprints(con, layout, cuts).items():
        file = mark_file(layout, definitions, cut)
        if not file.exists() or file.read_text(encoding="utf-8") != mark:
            raise NotReadyError(
                "there is no snapshot of features as of the cut", field="cut", value=format_us(cut),
                remedy="run `freshrank features materialize` for the run's day first",
            )  # fmt: skip


def live_cut(layout: Layout, service: str) -> int | None:
    """The cut of the newest snapshot that is wholly in the online store, or None."""
    file = _live_file(layout, service)
    return int(json.loads(file.read_text(encoding="utf-8"))["cut_us"]) if file.exists() else None


def _note_live(layout: Layout, service: str, cut: int) -> None:
    if cut > (live_cut(layout, service) or 0):
        atomic.write_text(_live_file(layout, service), json.dumps({"cut_us": cut}) + "\n")


def _live_file(layout: Layout, service: str) -> Path:
    return layout.feast / service / "live.json"


def _push(store: FeatureStore, definitions: Definitions, entity: str, file: Path) -> int:
    """Write a snapshot's rows to the online store, some at a time."""
    import pyarrow.parquet as pq

    rows = 0
    with pq.ParquetFile(file) as source:
        for batch in source.iter_batches(batch_size=_ROWS):
            store.write_to_online_store(definitions.view(entity), df=batch.to_pandas(), transform_on_write=False)
            rows += batch.num_rows
    return rows


@contextlib.contextmanager
def _reachable(online: OnlineStore) -> Iterator[None]:
    import redis

    try:
        yield
    except redis.exceptions.ConnectionError as error:
        raise UnreachableError(
            "the online store does not answer", field="redis.url", value=online.redis.url if online.redis else None,
            remedy="start it (`freshrank up`) or mend the address",
        ) from error  # fmt: skip
