"""Features through the real command line, Redis and the gateway's environment: what is served is what is trained on."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
from typing import Any

import polars as pl
import pytest
from deltalake import DeltaTable

from features import facts
from features.dictionary import arrow_schema
from features.settings import FeatureSettings
from features.store.columns import request_columns
from features.store.definitions import define
from features.store.offline import join
from features.store.online import OnlineFeatures
from features.store.registry import OnlineStore
from features.times import format_us
from tests.lake import Lake, us
from tests.stack import ROOT, Stack, own_stack

pytestmark = pytest.mark.integration
FEATURES = FeatureSettings()
SERVICE = define(FEATURES).service
CUT = us("01-09 02:00")


@pytest.fixture(scope="module")
def told() -> Any:
    """A stack with Redis alone, whose event log holds three days of three users."""
    with own_stack("features") as stack:
        stack.need("redis")
        lake = Lake(stack.root)
        for number, item in enumerate("abcd"):
            lake.item(
                item, us("01-01 05:00"), category_id=f"k{number % 2}", price_minor=100 + number,
                attributes={"zone": "z1", "latitude": 52.1, "longitude": 13.2 + number},
            )  # fmt: skip
        lake.user("u0", us("01-01 05:00"), zone="z1", household=2, latitude=52.0, longitude=13.0)
        for day in (6, 7, 8, 9):
            for hour in range(3, 24, 2):
                user, at = f"u{hour % 3}", us(f"01-0{day} {hour:02}:00")
                lake.show(f"r-{day}-{hour}", user, ["a", "b", "c", "d"], at, context={"zone": "z1", "hour": hour})
                lake.buy(user, "abcd"[(day + hour) % 4], at + 60_000_000, amount=hour * 7)
        lake.write()
        done = stack.json("features", "materialize", "--date", "2026-01-08")
        assert (done["service"], done["users"], done["items"]) == (SERVICE, 3, 4)
        yield stack, lake


def test_the_gateway_serves_what_training_reads(told: tuple[Stack, Lake]) -> None:
    stack, lake = told
    online = OnlineFeatures(lake.layout, SERVICE, OnlineStore(redis=stack.settings.redis))
    asked: dict[str, tuple[str, list[str], dict[str, Any]]] = {
        "known": ("u0", ["a", "d", "never"], {"zone": "z1", "hour": 9, "payday": False}),
        "no profile": ("u1", ["b"], {}),
        "nobody": ("nobody", ["never"], {"zone": "z2"}),
    }
    fetched = {name: online.fetch(*question) for name, question in asked.items()}
    for name, (user, items, context) in asked.items():
        lake.show(name, user, items, us("01-09 12:00"), feature_cutoff=format_us(CUT), context=context)
    layout = lake.write()
    stack.run("labels", "--date", "2026-01-09")
    with facts.connection(layout) as con:
        table = pl.DataFrame(DeltaTable(layout.table("requests")).to_pyarrow_table())
        rows = table.filter(pl.col("event_date") == dt.date(2026, 1, 9))
        con.register("rows", rows.to_arrow())
        con.execute("CREATE TABLE day AS FROM rows")
        schema = arrow_schema(request_columns(define(FEATURES)))
        found = {row["request_id"]: row for batch in join(con, layout, SERVICE, "day", schema)
                 for row in batch.to_pylist()}  # fmt: skip
    for name, served in fetched.items():
        assert served.feature_cutoff == CUT
        assert served.columns == {column: found[name][column] for column in served.columns}


def test_an_older_day_never_overwrites_a_newer_one(told: tuple[Stack, Lake]) -> None:
    stack, lake = told
    stack.run("features", "materialize", "--date", "2026-01-07")
    online = OnlineFeatures(lake.layout, SERVICE, OnlineStore(redis=stack.settings.redis))
    assert online.fetch("u0", ["a"], {}).feature_cutoff == CUT


def test_the_gateways_environment_can_read_features_without_torch(told: tuple[Stack, Lake]) -> None:
    stack, lake = told
    code = f"""
import json, pathlib, sys
from features.layout import Layout
from features.settings import RedisSettings
from features.store.online import OnlineFeatures
from features.store.registry import OnlineStore
online = OnlineStore(redis=RedisSettings(url={stack.settings.redis.url!r}))
found = OnlineFeatures(Layout(pathlib.Path({str(lake.root)!r})), {SERVICE!r}, online).fetch("u0", ["a", "b"], {{}})
print(json.dumps([found.columns, "torch" in sys.modules]))
"""
    python = ROOT / ".envs" / "gateway" / "bin" / "python"
    done = subprocess.run([python, "-c", code], capture_output=True, encoding="utf-8", cwd=ROOT, check=True)
    columns, torch = json.loads(done.stdout)
    assert not torch
    here = OnlineFeatures(lake.layout, SERVICE, OnlineStore(redis=stack.settings.redis)).fetch("u0", ["a", "b"], {})
    assert columns == here.columns


def test_a_window_is_built_from_the_command_line(told: tuple[Stack, Lake]) -> None:
    stack, lake = told
    stack.run("labels", "--date", "2026-01-08")
    window = stack.json("window", "build", "--date", "2026-01-08")
    assert (window["rows"], window["eval_rows"], window["new"]) == (22, 11, True)
    assert (lake.layout.window(window["window_id"]) / "manifest.json").exists()
    refused = stack.run("window", "build", "--date", "2026-01-10", check=False)
    assert refused.returncode == 4
    assert "freshrank labels --date 2026-01-10" in refused.stderr
