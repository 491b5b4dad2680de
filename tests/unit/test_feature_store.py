"""Features: the same values offline and online, as of the cut."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from features import facts, times
from features.configuration import read
from features.dictionary import arrow_schema
from features.errors import LockedError, NotReadyError, UnreachableError, UsageError
from features.labels import run
from features.settings import FeatureSettings, LabelSettings, RedisSettings
from features.store import registry
from features.store.columns import request_columns
from features.store.definitions import define
from features.store.materialize import check_snapshots, live_cut, materialize
from features.store.offline import join
from features.store.online import Fetched, OnlineFeatures
from features.store.registry import OnlineStore
from features.store.snapshot import fingerprints, snapshots
from tests.lake import Lake, us

FEATURES = FeatureSettings()
LABELS = LabelSettings()
SERVICE = define(FEATURES).service
DAY = dt.date(2026, 1, 8)
CUT = us("01-09 02:00")


def small_world(root: Path) -> Lake:
    """Two users, four items, one of them gone, one repriced, one not yet listed at the cut."""
    lake = Lake(root)
    place = {"zone": "z1", "latitude": 52.1, "longitude": 13.2, "delivery_minutes": 30}
    for item, category in (("a", "fruit"), ("b", "fruit"), ("c", "milk"), ("d", "milk")):
        lake.item(item, us("01-01 05:00"), category_id=category, attributes=place, weight_g=250.5, brand_id="br")
    lake.item("a", us("01-07 05:00"), category_id="fruit", price_minor=80, attributes=place)
    lake.gone("items", "d", us("01-08 05:00"))
    lake.item("late", us("01-09 02:00"))
    lake.user("u", us("01-01 05:00"), zone="z1", household="2", latitude=52.0, longitude=13.0)
    lake.show("r1", "u", ["a", "b", "c"], us("01-07 12:00"))
    lake.show("r2", "v", ["a", "d"], us("01-07 13:00"))
    lake.click("u", "a", us("01-07 12:01"), request="r1")
    lake.buy("u", "a", us("01-07 12:30"), request="r1", amount=160)
    lake.buy("u", "c", us("01-08 12:30"), amount=40)
    lake.cart("v", "d", us("01-08 13:30"))
    lake.buy("v", "b", us("01-08 15:00"), known=us("01-09 02:00"))  # known too late for the cut
    return lake


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lake, OnlineFeatures]:
    lake = small_world(tmp_path_factory.mktemp("store"))
    online = OnlineStore(sqlite=lake.root / "online.db")
    materialize(lake.write(), FEATURES, online, DAY, days=1)
    return lake, OnlineFeatures(lake.layout, SERVICE, online)


def offline(lake: Lake, requests: dict[str, tuple[str, list[str], int, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """What training would see for requests that were served: the rows with features, by request."""
    for name, (user, items, cutoff, context) in requests.items():
        from features.times import format_us

        lake.show(name, user, items, us("01-09 12:00"), feature_cutoff=format_us(cutoff), context=context)
    layout = lake.write()
    day = dt.date(2026, 1, 9)
    run.label(layout, FEATURES, LABELS, day, days=1)
    with facts.connection(layout) as con:
        table = pl.read_delta(str(layout.table("requests"))).filter(pl.col("event_date") == day).to_arrow()
        con.register("rows", table)
        con.execute("CREATE TABLE day AS FROM rows")
        batches = list(join(con, layout, SERVICE, "day", arrow_schema(request_columns(define(FEATURES)))))
    return {row["request_id"]: row for batch in batches for row in batch.to_pylist()}


def test_offline_equals_online(served: tuple[Lake, OnlineFeatures]) -> None:
    lake, online = served
    asked: dict[str, tuple[str, list[str], dict[str, Any]]] = {
        "all": ("u", ["a", "b", "c", "d", "late", "never"], {"zone": "z1", "hour": 3, "payday": True}),
        "little known": ("v", ["b", "a"], {"zone": "z9"}),
        "unknown": ("nobody", ["never"], {}),
    }
    fetched: dict[str, Fetched] = {name: online.fetch(*question) for name, question in asked.items()}
    assert {found.feature_cutoff for found in fetched.values()} == {CUT}
    rows = offline(
        lake, {name: (user, items, CUT, context) for name, (user, items, context) in asked.items()}
    )  # fmt: skip
    for name, found in fetched.items():
        row = {column: rows[name][column] for column in found.columns}
        assert found.columns == row
    features = [column for column in request_columns(define(FEATURES)) if column.group and column.kind != "sha"]
    assert set(found.columns) == {column.name for column in features} - {"user_id"}
    assert {name for name, level in found.levels.items() if level == "candidate"} >= {"cand_item", "i_price"}


def test_what_is_served_is_as_of_the_cut(served: tuple[Lake, OnlineFeatures]) -> None:
    _, online = served
    found = online.fetch("u", ["a", "b", "c", "d", "late"], {"zone": "z1"})
    columns = found.columns
    assert found.unknown_items == ("late",)
    assert found.known_user
    assert columns["buy_item"] == ["a", "c"]
    assert columns["buy_category"] == ["fruit", "milk"]
    assert columns["beh_type"] == [0, 2, 2]
    assert (columns["u_zone"], columns["u_income"]) == ("z1", None)
    assert (columns["u_buys_30d"], columns["u_spend_30d"], columns["u_mean_price"]) == (2.0, 200.0, 100.0)
    assert columns["u_days_since_last"] == pytest.approx(13.5 / 24)
    assert columns["i_price"] == [80.0, 100.0, 100.0, None, None]
    assert columns["i_discount"][:2] == [pytest.approx(0.2), 0.0]
    assert columns["i_available"] == [1.0, 1.0, 1.0, 0.0, None]
    assert columns["i_exposures_7d"] == [2.0, 1.0, 1.0, None, None]
    assert columns["i_purchases_7d"] == [1.0, 0.0, 1.0, None, None], "a purchase that became known later is in"
    # 2 purchases and 5 exposures in all: the mean is 2/5, weighing 20 exposures
    assert columns["i_cvr_7d"][0] == pytest.approx((1 + 20 * 0.4) / (2 + 20))
    assert columns["x_item_buys"] == [1.0, 0.0, 1.0, 0.0, 0.0]
    assert columns["x_category_buys"] == [1.0, 1.0, 1.0, 0.0, 0.0]
    assert columns["x_category_days"][0] == pytest.approx(37.5 / 24)
    assert columns["x_item_clicks"] == [1.0, 0.0, 0.0, 0.0, 0.0]
    assert columns["x_price_ratio"][0] == 0.8
    assert columns["x_same_zone"] == [1.0, 1.0, 1.0, None, None]
    assert columns["x_distance_km"][0] == pytest.approx(17.6, abs=0.1)


def test_materialising_again_changes_nothing(served: tuple[Lake, OnlineFeatures]) -> None:
    lake, online = served
    before = online.fetch("u", ["a", "b"], {})
    files = {file: file.stat().st_mtime_ns for file in (lake.layout.feast / SERVICE).rglob("*.parquet")}
    store = OnlineStore(sqlite=lake.root / "online.db")
    again = materialize(lake.layout, FEATURES, store, DAY, days=1)
    assert again.written == 0
    assert {file: file.stat().st_mtime_ns for file in (lake.layout.feast / SERVICE).rglob("*.parquet")} == files
    assert online.fetch("u", ["a", "b"], {}) == before
    assert live_cut(lake.layout, SERVICE) == CUT


def test_a_snapshot_is_made_anew_where_it_was_left_half_done(tmp_path: Path) -> None:
    lake = small_world(tmp_path)
    layout = lake.write()
    with facts.connection(layout) as con:
        (first,) = snapshots(con, layout, FEATURES, [CUT])
        content = first.users.read_bytes(), first.items.read_bytes()
        check_snapshots(con, layout, FEATURES, [CUT])
        (layout.feast / SERVICE / "marks" / "2026-01-08").unlink()  # killed before the mark
        first.items.write_bytes(b"half")
        with pytest.raises(NotReadyError, match="features materialize"):
            check_snapshots(con, layout, FEATURES, [CUT])
        (second,) = snapshots(con, layout, FEATURES, [CUT])
    assert second.written
    assert (second.users.read_bytes(), second.items.read_bytes()) == content


def test_the_fingerprint_of_a_cut_counts_what_was_known_before_it_and_nothing_else(tmp_path: Path) -> None:
    early = CUT - times.DAY
    lake = small_world(tmp_path)

    def marks(*cuts: int) -> dict[int, str]:
        layout = lake.write()
        with facts.connection(layout) as con:
            return fingerprints(con, layout, cuts)

    def learn(known: int) -> None:
        at = known - times.MINUTE
        lake.show(f"r{known}", "u", ["a"], at, known)
        for deed in (lake.click, lake.cart, lake.buy):
            deed("u", "a", at, known)
        lake.item("a", at, known)
        lake.add("users", "u", at, known, user_id="u")

    before = marks(early, CUT)
    assert marks(early) == {early: before[early]}, "what later cuts are asked about changes nothing"
    learn(CUT)
    learn(CUT + times.HOUR)
    assert marks(early, CUT) == before
    learn(early)
    after = marks(early, CUT)
    assert after[early] == before[early] and after[CUT] != before[CUT]
    learn(early - 1)
    assert marks(early, CUT)[early] != before[early]


def test_definitions_decide_the_services_name() -> None:
    fewer = read(FeatureSettings, {"context": ("zone",)})
    assert define(fewer).service != SERVICE
    assert define(FeatureSettings()).service == SERVICE
    for taken in ("price", "gone"):
        with pytest.raises(UsageError, match=f"i_{taken}"):
            define(read(FeatureSettings, {"item": (taken,)}))


def test_snapshots_have_the_defined_features(served: tuple[Lake, OnlineFeatures]) -> None:
    lake, _ = served
    definitions = define(FEATURES)
    for entity in ("user", "item"):
        file = lake.layout.feast / SERVICE / f"{entity}s" / "2026-01-08.parquet"
        names = pl.read_parquet_schema(file).keys()
        wanted = [f"{entity}_id", *(feature.name for feature in definitions.features(entity))]
        assert list(names) == [*wanted, "event_timestamp", "created_timestamp"]


def test_a_published_registry_reads_back(served: tuple[Lake, OnlineFeatures]) -> None:
    lake, _ = served
    assert registry.read_definitions(lake.layout, SERVICE) == define(FEATURES)
    published = registry.published_folder(lake.layout) / f"{SERVICE}.db"
    before = published.read_bytes()
    assert registry.apply(lake.layout, FEATURES, OnlineStore(sqlite=lake.root / "online.db")) == SERVICE
    assert published.read_bytes() == before
    with pytest.raises(NotReadyError, match="features apply"):
        OnlineFeatures(lake.layout, "ranker_00000000", OnlineStore(sqlite=lake.root / "online.db"))


def test_registry_writers_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from features import atomic

    layout = Lake(tmp_path).write()
    monkeypatch.setattr(registry, "LOCK_WAIT_S", 0.0)
    with atomic.lock(layout.lock("feast")), pytest.raises(LockedError):
        registry.apply(layout, FEATURES, OnlineStore(sqlite=tmp_path / "online.db"))


def test_a_dead_store_is_a_clear_error(served: tuple[Lake, OnlineFeatures]) -> None:
    lake, _ = served
    nowhere = OnlineStore(redis=read(RedisSettings, {"url": "127.0.0.1:1"}))
    with pytest.raises(UnreachableError, match="does not answer"):
        OnlineFeatures(lake.layout, SERVICE, nowhere).fetch("u", ["a"], {})
    with pytest.raises(UnreachableError, match="does not answer"):
        materialize(lake.layout, FEATURES, nowhere, DAY, days=1)


@pytest.mark.slow
def test_the_reader_loads_no_torch_and_nothing_heavy() -> None:
    code = (
        "import sys, json, features.store.online;"
        "light = sorted({'torch', 'feast', 'duckdb', 'pandas'} & set(sys.modules));"
        "from features.store.registry import import_feast; import_feast();"
        "import feast; print(json.dumps([light, 'torch' in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    assert json.loads(done.stdout) == [[], False]
