"""Build a window: files that never change, under a name made of what they hold."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from features import atomic, dictionary, facts
from features.database import literal, local_path, read_parquet
from features.errors import NotReadyError
from features.labels import columns as own
from features.labels.run import TABLE, check_current, days_of, horizon_us
from features.layout import Layout
from features.scalars import text_sql
from features.settings import FeatureSettings, LabelSettings
from features.store.columns import request_columns
from features.store.definitions import define
from features.store.materialize import check_snapshots, cuts_of
from features.store.offline import join
from features.times import format_us, run_cut
from features.window.columns import columns

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

FORMAT = 2  # of the files; part of the id
_ROW_GROUP = 2_048  # requests: what a reader holds at once
_TOPICS = ("impressions", *facts.ACTIONS, "items", "users")


@dataclass(frozen=True)
class BuiltWindow:
    """A window that was built.

    Args:
        window_id: Its name.
        date: The run's day D.
        days: Training days.
        rows: Requests of the training days.
        eval_rows: Requests of day D.
        candidates: Shown items of the training days.
        purchases: Those of them that were bought.
        items: Items in `items.parquet`.
        new: False where the same window was there already.
    """

    window_id: str
    date: str
    days: list[str]
    rows: int
    eval_rows: int
    candidates: int
    purchases: int
    items: int
    new: bool


def build(
    layout: Layout,
    features: FeatureSettings,
    labels: LabelSettings,
    encoders: Mapping[str, str],
    date: dt.date,
    *,
    days: int,
    progress: Callable[[str], None] = lambda _: None,
) -> BuiltWindow:
    """Build the window of a day from labelled requests and snapshots.

    Args:
        layout: Where things lie.
        features: Which fields become features.
        labels: The horizon.
        encoders: Hashes of the content encoders, by name.
        date: The run's day D.
        days: Training days before D.
        progress: Called with a line for each file.

    Returns:
        The window.

    Raises:
        NotReadyError: If the log, labels or snapshots are not those known at the cut.
        LockedError: If another process builds a window at the moment.
    """
    cut, span = run_cut(date), days_of(date, days)
    definitions = define(features)
    service = definitions.service
    facts.need_complete(layout, cut)
    with atomic.lock(layout.lock("window")), facts.connection(layout) as con:
        _sweep(layout)
        check_current(con, layout, features, labels, span, cut)
        check_snapshots(con, layout, features, cuts_of(date, days)[:-1])
        work = Path(tempfile.mkdtemp(dir=layout.windows, prefix=".build-"))
        try:
            schema = dictionary.arrow_schema(request_columns(definitions))
            stored = [column.name for column in own.columns(definitions.context)]
            counts = {}
            for day in span:
                file = work / ("eval" if day == date else "requests") / f"{day.isoformat()}.parquet"
                file.parent.mkdir(exist_ok=True)
                counts[day] = _write_day(con, layout, service, schema, stored, day, file, work / "part.parquet")
                progress(f"{file.parent.name}/{day}: {counts[day][0]} requests")
            if not sum(count[0] for day, count in counts.items() if day != date):
                raise NotReadyError(
                    "there are no requests on the training days", field="date", value=date.isoformat(),
                    remedy="ingest older days, or choose a later date",
                )  # fmt: skip
            items = _write_items(con, layout, features, cut, work / "items.parquet")
            dictionary.save(work, columns(features))
            manifest = {
                "format": FORMAT, "date": date.isoformat(), "cut": format_us(cut), "horizon_us": horizon_us(labels),
                "feature_service": service, "feature_hash": definitions.hash, "encoders": dict(encoders),
                "files": {str(file.relative_to(work)): _sha256(file) for file in sorted(work.rglob("*.parquet"))},
            }  # fmt: skip
            window_id = hashlib.sha256(_canonical(manifest)).hexdigest()
            training = [counts[day] for day in span if day != date]
            window = BuiltWindow(
                window_id=window_id, date=date.isoformat(), days=[day.isoformat() for day in span if day != date],
                rows=sum(c[0] for c in training), eval_rows=counts[date][0], candidates=sum(c[1] for c in training),
                purchases=sum(c[2] for c in training), items=items, new=not layout.window(window_id).exists(),
            )  # fmt: skip
            told = {key: value for key, value in asdict(window).items() if key not in ("new", "window_id", "date")}
            atomic.write_text(
                work / "manifest.json", json.dumps({"window_id": window_id} | manifest | told, indent=1) + "\n"
            )
            atomic.write_text(work / "provenance.json", json.dumps(_provenance(con, layout, cut), indent=1) + "\n")
            with atomic.new_folder(layout.window(window_id)) as target:
                for entry in work.iterdir():
                    entry.rename(target / entry.name)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return window


def _write_day(
    con: DuckDBPyConnection,
    layout: Layout,
    service: str,
    schema: pa.Schema,
    stored: list[str],
    day: dt.date,
    file: Path,
    part: Path,
) -> tuple[int, int, int]:
    """Write a day's requests with features; returns requests, candidates, purchases.

    `stored` are the columns that `lake/requests` has; Feast has the others.
    """
    import pyarrow.parquet as pq
    from deltalake import DeltaTable

    table = DeltaTable(str(layout.table(TABLE)))
    uris = table.file_uris(file_pruning_predicate=[("event_date", "=", day.isoformat())])
    if uris:
        source = f"SELECT {', '.join(stored)} FROM {read_parquet(map(local_path, uris))}"
    else:
        con.register("no_requests", schema.empty_table().select(stored))
        source = "SELECT * FROM no_requests"
    con.execute(f"CREATE OR REPLACE TABLE day_requests AS {source}")
    with pq.ParquetWriter(part, schema) as writer:
        for batch in join(con, layout, service, "day_requests", schema):
            writer.write_batch(batch)
    con.execute("DROP TABLE day_requests")
    rows = read_parquet([part])
    con.execute(
        f"COPY (SELECT * FROM {rows} ORDER BY event_time, request_id) TO {literal(file)} "
        f"(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {_ROW_GROUP})"
    )
    counted = con.execute(
        f"SELECT count(*), coalesce(sum(len(cand_item)), 0), coalesce(sum(list_sum(purchased)), 0) FROM {rows}"
    ).fetchall()[0]
    part.unlink()
    return int(counted[0]), int(counted[1]), int(counted[2])


def _write_items(con: DuckDBPyConnection, layout: Layout, features: FeatureSettings, cut_us: int, file: Path) -> int:
    """Write every item known at the cut with its last content; returns how many."""
    facts.load_items(con, layout, known_before_us=cut_us)
    attributes = "".join(f'{text_sql("attributes", name)} AS "{name}", ' for name in features.item)
    con.execute(
        f"""COPY (
            WITH last AS (
                SELECT item_id, arg_max(gone, known_time) AS gone, min(known_time) AS first_known
                FROM f_items GROUP BY item_id
            ),
            listing AS (
                SELECT * FROM f_items WHERE NOT gone
                QUALIFY row_number() OVER (PARTITION BY item_id ORDER BY known_time DESC) = 1
            )
            SELECT item_id, text_sha, image_sha, title, description, image_uri, shop_id AS shop, brand_id AS brand,
                category_id AS category, {attributes} price_minor::DOUBLE AS price, weight_g AS weight,
                available AND NOT last.gone AS available, last.gone AS gone, first_known
            FROM listing JOIN last USING (item_id) ORDER BY item_id
        ) TO {literal(file)} (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {_ROW_GROUP})"""
    )
    return int(con.execute(f"SELECT count(*) FROM {read_parquet([file])}").fetchall()[0][0])


def _provenance(con: DuckDBPyConnection, layout: Layout, cut_us: int) -> dict[str, object]:
    """Which tables and offsets the window came from; not part of its id."""
    from deltalake import DeltaTable

    from features.eventlog.read import EventLog

    log = EventLog(layout)
    return {
        "topics": {topic: asdict(log.standing(con, topic, cut_us)) for topic in _TOPICS},
        "requests_version": DeltaTable(str(layout.table(TABLE))).version(),
    }


def _sweep(layout: Layout) -> None:
    """Remove what killed builds left; the lock is held, so that no living one is hit."""
    layout.windows.mkdir(parents=True, exist_ok=True)
    for left in layout.windows.glob(".*"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)


def _canonical(content: Mapping[str, object]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _sha256(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
