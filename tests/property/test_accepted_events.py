"""What decoding accepts goes through everything: labels, snapshots, window, online fetch, encoding and scoring."""

from __future__ import annotations

import datetime as dt
import random
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pyarrow.parquet as pq
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from features.configuration import read
from features.events import Cart, Click, Impression, InvalidEvent, Purchase, decode, encode, impression_id
from features.labels import run
from features.layout import Layout
from features.settings import FeatureSettings, KafkaSettings, LabelSettings, RedisSettings
from features.store.materialize import materialize
from features.store.online import OnlineFeatures
from features.store.registry import OnlineStore
from features.times import DAY, HOUR, MINUTE, format_us, run_cut
from features.window.build import build
from serving.gateway.app import GatewayConfig, create_app
from serving.inputs import to_array
from serving.settings import GatewaySettings, TritonSettings
from tests.lake import Lake, us
from trainer.data.derive import derive, item_table
from trainer.data.window import Window, chunks, raw
from trainer.popularity import make_popularity
from trainer.runtime.scorer import Scorer, inputs_of
from trainer.settings import TrainSettings

FEATURES = read(FeatureSettings, {"item_numbers": ("delivery_minutes", "stars"), "item": ("zone", "order")})
LABELS = LabelSettings()
TODAY = dt.date(2026, 1, 9)
SERVED = run_cut(TODAY - dt.timedelta(days=1))  # the online store's cut through the evaluation day
END = run_cut(TODAY)
FEW = 3
THOROUGH = settings.get_current_profile_name() == "thorough"  # pytest --hypothesis-profile=thorough
Record = tuple[str, str, dict[str, Any] | None, int]  # topic, key, value, known time
Parts = tuple[str, dict[str, Any], dict[str, Any]]  # topic, fields that it needs, and others

STRANGE = [
    "苹果", "🍎👩\u200d👧", "a,b", "a/b", "../..", 'the "big" one', "it's", " ", "\t\n", "\x00", "é", "e\u0301",
    "x" * 256, "null", "NaN", "inf", "-Infinity", "1e400", "0", "-0", "9.0", "52.5", "true", "{}", "[]", "$.a", "a.b",
    "%41", "a=b;c=d", "\\", "\u202e", "\ufeff", "#", "\U0010ffff", "__index_level_0__",
]  # fmt: skip
FIELDS = (
    "zone", "hour", "weekday", "weather", "payday", "household", "income", "age", "delivery_minutes", "stars", "order",
)  # fmt: skip
texts = st.sampled_from(STRANGE) | st.text(max_size=20)
names = st.sampled_from(STRANGE) | st.text(min_size=1, max_size=20)
finite = st.floats(allow_nan=False, allow_infinity=False)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    texts,
    st.integers(-100, 100),
    st.integers(-(10**30), 10**30),
    finite,
    st.floats(-180, 180),
)
places = st.floats(-95, 95) | st.sampled_from((None, "52.5", "inf", 1e308))
objects = st.tuples(
    st.dictionaries(texts, scalars, max_size=2), st.dictionaries(st.sampled_from(FIELDS), scalars, min_size=6),
    st.fixed_dictionaries({"latitude": places, "longitude": places}),
).map(lambda parts: parts[0] | parts[1] | parts[2])  # fmt: skip
nested = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=5
)
KINDS = ("request", "request", "listing", "listing", "profile", "deed", "deed", "deed", "gone")
EDGES = (0, SERVED - 1, SERVED, END - 1, END, us("01-08 00:00"), us("01-09 00:00"), us("12-31 00:00"))
DELAYS = (0, 0, 0, 0, 1, -HOUR, 5 * MINUTE, HOUR, 9 * HOUR, 30 * DAY)
CUTOFFS = (
    *[None] * 3, format_us(SERVED), format_us(END), "0001-01-01T00:00:00Z", "1969-12-31T23:59:59Z",
    "9999-12-31T23:59:59-14:00",
)  # fmt: skip
PHOTOS = ("blob:" + "a" * 64, "file:ä b/#1?.jpg", "https://[x/", "s3://b/%41")


@dataclass(frozen=True)
class World:
    """Names and values that a story is told with, as strange as the topics' schemas let them be."""

    users: list[str]
    items: list[str]
    texts: list[str]
    objects: list[dict[str, Any]]
    nested: list[Any]
    money: list[int]

    def record(self, number: int, kind: str, draw: random.Random) -> Record:
        """One record of a kind; who and when is drawn, a time of the last three days or an odd one."""
        at = draw.choice((*[END - draw.randrange(3 * DAY) // MINUTE * MINUTE] * 9, draw.choice(EDGES)))
        user, item = draw.choice(self.users), draw.choice(self.items)
        if kind == "gone":
            return (*draw.choice((("items", item), ("users", user))), None, at)
        if kind == "request":
            at = draw.choice((at, *[SERVED + draw.randrange(22 * HOUR)] * 5))
        topic, needed, optional = getattr(self, kind)(user, item, number, draw)
        value = {
            "event_id": f"e{number}",
            "event_time": format_us(at),
            "schema_version": 1,
        } | needed
        value |= {name: field for name, field in optional.items() if draw.random() < 0.8}
        return topic, item if topic == "items" else user, value, max(at + draw.choice(DELAYS), 0)

    def name(self, number: int) -> str:
        return f"{self.texts[number % len(self.texts)][:250]}{number}"

    def request(self, user: str, item: str, number: int, draw: random.Random) -> Parts:
        request, step = self.name(number), draw.choice((1, 20_000))
        shown = [item, *draw.sample(self.texts, 2)]
        items = [
            {"item_id": each, "position": place * step, "price_minor": draw.choice(self.money)}
            | draw.choice(({}, {"score": -1e300, "propensity": 5e-324}, {"score": None, "propensity": 1}))
            for place, each in enumerate(dict.fromkeys([*shown, *self.items]))
        ]
        needed = {"event_id": impression_id(request), "request_id": request, "user_id": user, "items": items[::-1]}
        return "impressions", needed, {
            "policy": draw.choice(self.texts), "bundle_id": draw.choice([None, *self.texts]),
            "context": draw.choice(self.objects), "feature_cutoff": draw.choice(CUTOFFS),
            "experiments": dict(zip(self.texts[: draw.randrange(3)], self.texts, strict=False)),
            "features_seen": draw.choice([None, {draw.choice(self.texts): draw.choice(self.nested)}]),
        }  # fmt: skip

    def listing(self, _user: str, item: str, _number: int, draw: random.Random) -> Parts:
        price, available = draw.choice(self.money), draw.random() < 0.8
        needed = {"item_id": item, "shop_id": draw.choice(self.items), "price_minor": price, "available": available}
        return "items", needed, {
            "brand_id": draw.choice(self.items), "category_id": draw.choice(self.users),
            "title": draw.choice(self.texts), "description": draw.choice([None, *self.texts]),
            "image_uri": draw.choice(PHOTOS), "weight_g": draw.choice((0, 0.1, 1e9)),
            "attributes": draw.choice(self.objects),
        }  # fmt: skip

    def profile(self, user: str, _item: str, _number: int, draw: random.Random) -> Parts:
        return "users", {"user_id": user}, {"profile": draw.choice(self.objects)}

    def deed(self, user: str, item: str, number: int, draw: random.Random) -> Parts:
        topic = draw.choice(("clicks", "carts", "purchases"))
        bought = {"quantity": draw.choice((1, 2, 10**6)), "amount_minor": draw.choice(self.money), "currency": "EUR"}
        needed = {"user_id": user, "item_id": item} | (bought if topic == "purchases" else {})
        return topic, needed, {"request_id": draw.choice((None, None, self.name(draw.randrange(number + 1))))}


def some(values: st.SearchStrategy[Any], least: int, most: int) -> st.SearchStrategy[list[Any]]:
    return st.lists(values, min_size=least, max_size=most, unique_by=repr)


worlds = st.builds(
    World, users=some(names, 1, 3), items=some(names, 1, 4), texts=some(names, 3, 6),
    objects=some(objects, 2, 4), nested=some(nested, 1, 3),
    money=some(st.sampled_from((0, 1, 100, 10**15)) | st.integers(0, 10**15), 1, 4),
)  # fmt: skip
plots = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 2**30)), min_size=25, max_size=60)


def tell(lake: Lake, told: list[Record]) -> tuple[dict[str, Impression], set[str]]:
    """Put into the lake what is accepted, after an ordinary request.

    Returns:
        The impressions, and the requests that deeds named before they were served: those deeds count as outcomes of
        the request offline, online nobody can know it.
    """
    lake.item("plain", us("01-02 05:00"))
    lake.show("plain", "plain", ["plain"], us("01-08 12:00"))
    asked, foretold = {}, set()
    for topic, key, value, known in told:
        try:
            event = lake.put(topic, key, None if value is None else msgspec.json.encode(value), known)
        except InvalidEvent:
            continue
        if isinstance(event, Impression):
            asked[event.request_id] = event
        elif isinstance(event, Click | Cart | Purchase) and event.request_id and known < SERVED:
            foretold.add(event.request_id)
    return asked, foretold


# What once ended labels, window or `/rank`, or was one text in training and another when served.
KNOWN = World(
    users=["苹果", "plain"], items=["a,b", "🍎"], texts=['the "big" one', "e\u0301", "\x00"], nested=[{"": [None]}],
    objects=[
        {"zone": True, "hour": 9.0, "weekday": 1e20, "weather": 1e-7, "latitude": "inf", "longitude": 8},
        {"": "", "age": -0.0, "order": 2**53 + 1, "payday": 2**64, "stars": "1e400", "latitude": 91, "longitude": 9},
        {"zone": "true", "household": "1e20", "delivery_minutes": "nan", "latitude": "52.5", "longitude": -13.4},
    ],
    money=[0, 10**15],
)  # fmt: skip


@settings(
    max_examples=settings().max_examples if THOROUGH else FEW, derandomize=not THOROUGH, deadline=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
@example(KNOWN, [(kind, 0) for kind in KINDS * 8])
@given(worlds, plots)
def test_what_decoding_accepts_goes_through_everything(world: World, plot: list[tuple[str, int]]) -> None:
    told = [world.record(number, kind, random.Random(f"{seed} {number}")) for number, (kind, seed) in enumerate(plot)]
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(Path(folder))
        asked, foretold = tell(lake, told)
        layout, online = lake.write(), OnlineStore(sqlite=lake.root / "online.db")
        run.label(layout, FEATURES, LABELS, TODAY, days=1)
        service = materialize(layout, FEATURES, online, TODAY - dt.timedelta(days=1), days=0).service
        path = layout.window(build(layout, FEATURES, LABELS, {"content": "0" * 16}, TODAY, days=1).window_id)
        reader = OnlineFeatures(layout, service, online)
        served = {}
        for row in pq.read_table(path / "eval").to_pylist():
            event = asked[row["request_id"]]
            shown = sorted(event.items, key=lambda item: item.position)
            assert (row["user_id"], row["cand_item"]) == (event.user_id, [item.item_id for item in shown])
            found = reader.fetch(event.user_id, row["cand_item"], event.context).columns
            if row["feature_cutoff"] == SERVED and event.request_id not in foretold:
                differs = {name: (row[name], value) for name, value in found.items() if row[name] != value}
                assert not differs, "offline and online"
                served[event.request_id] = event, found
        scored(path, served)
        ranked(layout, online, served)


def scored(path: Path, served: dict[str, tuple[Impression, dict[str, Any]]]) -> None:
    """What is served becomes the same indices, and the same scores, as the window's row."""
    window = Window(path)
    encoding, _ = derive(window, read(TrainSettings, {"min_count": 1}), None)
    items = item_table(path / "items.parquet", encoding)
    popularity = Scorer(path.parent / make_popularity(window, path.parent))
    everything: Any = SimpleNamespace(inputs=inputs_of(encoding))
    columns = [*encoding.columns(), "request_id"]
    for chunk in chunks(window.evaluation, columns, 1):
        row, name = raw(chunk, columns), chunk.column("request_id")[0]
        offline = encoding.encode(row, items)
        assert all((ids >= 0).all() for ids in offline.ids.values())
        if name not in served:
            continue
        event, found = served[name]
        found = found | {"user_id": event.user_id, "event_time": event.event_time_us}
        values = {spec.name: to_array(found[spec.column], spec.kind) for spec in everything.inputs}
        online = encoding.encode(Scorer.raw(everything, values), items)
        for feature, ids in offline.ids.items():
            assert ids.tolist() == online.ids[feature].tolist(), feature
        (logits,) = popularity.score({spec.name: values[spec.name] for spec in popularity.inputs}).values()
        assert np.isfinite(logits).all()
        assert logits.tolist() == popularity.score_raw(row)["cvr_logit"].tolist()


def ranked(layout: Layout, online: OnlineStore, served: dict[str, tuple[Impression, dict[str, Any]]]) -> None:
    """A gateway ranks the requests, or says which field it does not take, and logs a valid event."""
    config = GatewayConfig(
        layout=layout,
        gateway=read(GatewaySettings, {"accept_client_time": True, "timeout_ms": 20_000}),
        kafka=read(KafkaSettings, {"bootstrap_servers": "127.0.0.1:1"}),
        redis=RedisSettings(),
        triton=read(TritonSettings, {"url": "127.0.0.1:1"}),
        online=online,
    )
    with TestClient(create_app(config)) as gateway:
        for name, (event, found) in served.items():
            body = {"request_id": name, "user_id": event.user_id, "candidates": found["cand_item"]}
            answer = gateway.post("/rank", json=body | {"context": event.context, "time": event.event_time})
            assert answer.status_code == 200 or answer.json()["error"]["field"].startswith("context"), answer.text
        for logged in list(gateway.app.state.impressions._queue.queue):  # type: ignore[attr-defined]
            again = decode("impressions", logged.user_id.encode(), encode(logged), logged.event_time_us)
            assert isinstance(again, Impression) and again.features_seen is not None
            event, found = served[again.request_id]
            order = [found["cand_item"].index(item.item_id) for item in again.items]
            for column, value in found.items():
                listed = column.startswith(("cand_", "i_", "x_"))
                assert again.features_seen[column] == ([value[at] for at in order] if listed else value), column
