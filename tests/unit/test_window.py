"""Windows: named by what they hold, immutable, safe to kill."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features import dictionary
from features.configuration import read
from features.content.store import TokenWriter, Widths
from features.dictionary import arrow_schema
from features.errors import NotReadyError
from features.eventlog.compact import compact_closed
from features.labels import run
from features.layout import Layout
from features.settings import FeatureSettings, LabelSettings
from features.store.columns import request_columns
from features.store.definitions import define
from features.store.materialize import materialize
from features.store.registry import OnlineStore
from features.window.build import BuiltWindow, build
from features.window.columns import columns
from tests.lake import Lake, us
from tests.unit.test_database import ODD
from trainer.tokens import TokenStore

pytestmark = pytest.mark.slow

FEATURES = FeatureSettings()
LABELS = LabelSettings()
DAY = dt.date(2026, 1, 9)
DAYS = 2
ENCODERS = {"content": "0123456789abcdef"}


def tell(lake: Lake, order: int = 1) -> None:
    """A few days of a few users; `order` -1 publishes them the other way round."""
    for item in "abcd"[::order]:
        lake.item(item, us("01-01 05:00"), category_id=f"k{item}", image_uri="blob:" + item * 64)
    lake.gone("items", "d", us("01-08 20:00"))
    moments = [(day, hour) for day in range(6, 10) for hour in range(3, 23, 4)]
    for day, hour in moments[::order]:
        at = us(f"01-0{day} {hour:02}:00")
        user = f"u{(day + hour) % 3}"
        lake.show(f"r-{day}-{hour}", user, ["a", "b", "c", "d"], at, policy="uniform")
        lake.buy(user, "abc"[hour % 3], at + 60_000_000, amount=hour)


def prepare(layout: Layout) -> None:
    run.label(layout, FEATURES, LABELS, DAY, days=DAYS)
    materialize(layout, FEATURES, OnlineStore(sqlite=layout.root / "online.db"), DAY, days=DAYS)


def build_window(layout: Layout, encoders: dict[str, str] = ENCODERS) -> BuiltWindow:
    return build(layout, FEATURES, LABELS, encoders, DAY, days=DAYS)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lake, BuiltWindow]:
    lake = Lake(tmp_path_factory.mktemp("window"))
    tell(lake)
    layout = lake.write()
    prepare(layout)
    return lake, build_window(layout)


def types(schema: pa.Schema) -> list[tuple[str, str]]:
    """Names and types, without what lists call their elements."""
    return [(field.name, str(field.type).replace("element: ", "item: ")) for field in schema]


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_window_holds_its_days_in_order(made: tuple[Lake, BuiltWindow]) -> None:
    lake, window = made
    folder = lake.layout.window(window.window_id)
    names = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
    assert names == [
        "columns.json", "eval/2026-01-09.parquet", "items.parquet", "manifest.json", "provenance.json",
        "requests/2026-01-07.parquet", "requests/2026-01-08.parquet",
    ]  # fmt: skip
    for name in names:
        if name.startswith(("requests", "eval")):
            levels = {column.name: column.level for column in request_columns(define(FEATURES))}
            assert types(pq.read_schema(folder / name)) == types(arrow_schema(request_columns(define(FEATURES))))
            rows = pl.read_parquet(folder / name)
            assert rows["event_time"].is_sorted()
            assert len(rows) == 5
            for column in rows.columns:
                if levels[column] == "candidate":
                    assert rows[column].list.len().to_list() == [4] * 5
    assert (window.rows, window.eval_rows, window.candidates, window.purchases) == (10, 5, 40, 10)
    items = pl.read_parquet(folder / "items.parquet")
    assert items["item_id"].to_list() == list("abcd")
    assert items["gone"].to_list() == [False, False, False, True]
    assert items["title"].to_list()[3] == "title of d", "histories still hold it"


def test_the_dictionary_tells_every_column_of_the_files(made: tuple[Lake, BuiltWindow]) -> None:
    lake, window = made
    folder = lake.layout.window(window.window_id)
    told = json.loads((folder / "columns.json").read_text(encoding="utf-8"))["columns"]
    for column in told:
        assert {"name", "level", "kind", "dtype", "group", "unit", "meaning"} <= set(column)
        assert column["meaning"]
    assert dictionary.read(folder) == columns(FEATURES)
    rows = [column for column in dictionary.read(folder) if column.level != "item"]
    items = [column for column in dictionary.read(folder) if column.level == "item"]
    for name in ("requests/2026-01-08.parquet", "eval/2026-01-09.parquet"):
        assert types(pq.read_schema(folder / name)) == types(arrow_schema(rows))
    assert types(pq.read_schema(folder / "items.parquet")) == types(arrow_schema(items))


def test_the_id_is_the_hash_of_what_it_is_made_of(made: tuple[Lake, BuiltWindow]) -> None:
    lake, window = made
    folder = lake.layout.window(window.window_id)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    for name, digest in manifest["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    parts = ("format", "date", "cut", "horizon_us", "feature_service", "feature_hash", "encoders", "files")
    canonical = json.dumps({part: manifest[part] for part in parts}, sort_keys=True, separators=(",", ":"))
    assert hashlib.sha256(canonical.encode()).hexdigest() == window.window_id == manifest["window_id"]
    assert manifest["encoders"] == ENCODERS


def test_the_same_facts_give_the_same_id_however_they_came(made: tuple[Lake, BuiltWindow], tmp_path: Path) -> None:
    """Another order of publishing, several commits, compaction, and facts from after the cut."""
    _, window = made
    lake = Lake(tmp_path)
    tell(lake, order=-1)
    rows = {topic: list(rows) for topic, rows in lake.rows.items()}
    for part in range(3):
        for topic, all_rows in rows.items():
            lake.rows[topic] = all_rows[part::3]
        lake.write()
    lake.show("later", "u1", ["a"], us("01-10 12:00"))
    lake.buy("u1", "a", us("01-09 12:00"), known=us("01-10 02:00"))
    layout = lake.write()
    assert compact_closed(layout) > 0
    prepare(layout)
    assert build_window(layout).window_id == window.window_id


@pytest.mark.parametrize("folder", [ODD, "user_id=5"])
def test_a_stack_folder_of_any_name_gives_the_same_window(
    made: tuple[Lake, BuiltWindow], tmp_path: Path, folder: str
) -> None:
    """A blank, an umlaut, `#`, `%`, a quote or a wildcard in `stack.dir`, and a folder that reads like a column."""
    _, window = made
    lake = Lake(tmp_path / folder / "stack")
    tell(lake)
    rows = {topic: list(rows) for topic, rows in lake.rows.items()}
    for part in range(2):
        lake.rows |= {topic: all_rows[part::2] for topic, all_rows in rows.items()}
        lake.write()
    layout = lake.layout
    assert compact_closed(layout) > 0
    prepare(layout)
    assert build_window(layout).window_id == window.window_id
    tokens = TokenWriter(layout.tokens("0" * 16), Widths(2, 3, 4), {})
    tokens.add_texts(["a" * 64], np.ones((1, 2, 3), np.float16), np.ones(1, np.uint8))
    tokens.commit()
    assert TokenStore(layout.tokens("0" * 16)).rows(["a" * 64, None]).tolist() == [0, -1]


def test_building_again_keeps_the_window_as_it_is(made: tuple[Lake, BuiltWindow]) -> None:
    lake, window = made
    folder = lake.layout.window(window.window_id)
    before = content_of(folder)
    again = build_window(lake.layout)
    assert (again.window_id, again.new) == (window.window_id, False)
    assert content_of(folder) == before
    assert list(lake.layout.windows.glob(".*")) == []


def test_other_encoders_or_facts_give_another_id(made: tuple[Lake, BuiltWindow], tmp_path: Path) -> None:
    lake, window = made
    other = build_window(lake.layout, {"content": "f" * 16})
    assert other.window_id != window.window_id
    shutil.rmtree(lake.layout.window(other.window_id))
    build_window(lake.layout)
    copy = Lake(tmp_path)
    tell(copy)
    copy.buy("u1", "b", us("01-08 12:00"))
    layout = copy.write()
    prepare(layout)
    assert build_window(layout).window_id != window.window_id


def test_it_refuses_labels_or_features_of_another_cut(made: tuple[Lake, BuiltWindow], tmp_path: Path) -> None:
    lake, _ = made
    shutil.copytree(lake.root, tmp_path / "copy")
    copy = Lake(tmp_path / "copy")
    copy.buy("u1", "b", us("01-08 12:00"), known=us("01-09 12:00"))
    layout = copy.write()
    with pytest.raises(NotReadyError, match="freshrank labels --date 2026-01-09"):
        build_window(layout)
    run.label(layout, FEATURES, LABELS, DAY, days=DAYS)
    build_window(layout)
    copy.buy("u1", "b", us("01-06 12:00"), known=us("01-06 12:00"))
    copy.write()
    run.label(layout, FEATURES, LABELS, DAY, days=DAYS)
    with pytest.raises(NotReadyError, match="features materialize"):
        build_window(layout)


def test_a_window_without_requests_is_refused(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.item("a", us("01-01 05:00"))
    lake.show("r", "u", ["a"], us("01-09 12:00"))
    layout = lake.write()
    prepare(layout)
    with pytest.raises(NotReadyError, match="no requests on the training days"):
        build_window(layout)


@pytest.mark.parametrize(("horizon", "ripe"), [(24.0, True), (200.0, False)])
def test_one_request_bought_whole_makes_a_window_ripe_or_not(tmp_path: Path, horizon: float, ripe: bool) -> None:
    """No negative, nothing on the other days, nothing to judge by: whether that is enough is training's to say."""
    lake = Lake(tmp_path)
    lake.show("r", "u", ["a"], us("01-08 12:00"))
    lake.buy("u", "a", us("01-08 12:01"), request="r")
    layout, labels = lake.write(), read(LabelSettings, {"horizon_hours": horizon})
    run.label(layout, FEATURES, labels, DAY, days=DAYS)
    materialize(layout, FEATURES, OnlineStore(sqlite=tmp_path / "online.db"), DAY, days=DAYS)
    window = build(layout, FEATURES, labels, ENCODERS, DAY, days=DAYS)
    assert (window.rows, window.eval_rows, window.candidates, window.purchases, window.items) == (1, 0, 1, 1, 0)
    rows = pl.concat(pl.read_parquet(file) for file in layout.window(window.window_id).glob("*/*.parquet"))
    assert rows["mature"].to_list() == [ripe]


def test_killed_between_two_files_the_next_build_gives_the_same_window(
    made: tuple[Lake, BuiltWindow], tmp_path: Path
) -> None:
    lake, window = made
    root = tmp_path / "copy"
    shutil.copytree(lake.root, root, ignore=lambda *_: ["windows", "online.db"])
    layout = Layout(root)
    build_and_die(layout)
    left = [folder.name for folder in layout.windows.iterdir()]
    assert left
    assert all(name.startswith(".") for name in left), "half a window under its name"
    again = build_window(layout)
    assert again.window_id == window.window_id
    assert again.new
    files = content_of(layout.window(window.window_id))
    whole = content_of(lake.layout.window(window.window_id))
    assert {name: files[name] for name in files if name != "provenance.json"} == {
        name: whole[name] for name in whole if name != "provenance.json"
    }
    assert list(layout.windows.glob(".*")) == [], "what the killed builds left is swept"


def build_and_die(layout: Layout) -> None:
    """Build in a process of its own that is killed with SIGKILL when the days are written and the items are not."""
    code = f"""
import signal, datetime as dt, pathlib
from features.layout import Layout
from features.settings import FeatureSettings, LabelSettings
from features.window import build as module
def stop(*_):
    print("here", flush=True)
    signal.pause()
module._write_items = stop
module.build(Layout(pathlib.Path({str(layout.root)!r})), FeatureSettings(),
    LabelSettings(), {ENCODERS!r}, dt.date(2026, 1, 9), days={DAYS})
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, encoding="utf-8")
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait(timeout=60)
