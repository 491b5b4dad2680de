"""The gateway by itself: what it takes and refuses, arms, uniform lists, and popularity where no model answers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.configuration import read
from features.content.catalogue import Catalogue
from features.content.hash import text_sha
from features.events import decode, encode
from features.layout import Layout
from features.settings import KafkaSettings, RedisSettings
from features.store.registry import OnlineStore
from features.times import format_us
from serving.acknowledgements import gateways_at
from serving.gateway import ranking
from serving.gateway.app import GatewayConfig, create_app
from serving.gateway.experiments import variation
from serving.settings import GatewaySettings, TritonSettings
from tests.serving.bundles import ITEMS, ODD_BRAND, ODD_CATEGORY, ODD_ITEMS, ODD_USER, USERS
from tests.serving.world import CUT, NOON, PLACES

NOWHERE = "127.0.0.1:1"
EXPERIMENTS = """
[ranker.arms]
uniform = { share = 0.5, policy = "uniform" }
camenn = { share = 0.5, alias = "champion" }
"""


def client(shop: tuple[Layout, OnlineStore], **settings: Any) -> TestClient:
    """A gateway over the shop, with neither Triton nor Kafka."""
    layout, online = shop
    config = GatewayConfig(
        layout=layout,
        gateway=read(GatewaySettings, {"accept_client_time": True, "timeout_ms": 20_000, **settings}),
        kafka=read(KafkaSettings, {"bootstrap_servers": NOWHERE}),
        redis=RedisSettings(),
        triton=read(TritonSettings, {"url": NOWHERE}),
        online=online,
    )
    return TestClient(create_app(config))


@pytest.fixture(scope="module")
def gateway(shop: tuple[Layout, OnlineStore], tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A running gateway with an experiment."""
    path = tmp_path_factory.mktemp("arms") / "experiments.toml"
    path.write_text(EXPERIMENTS, encoding="utf-8")
    with client(shop, experiments=path) as running:
        yield running


def user_of(arm: str) -> str:
    """A user of an arm."""
    at = {"uniform": 0, "camenn": 1}[arm]
    return next(name for name in (f"user{n}" for n in range(1000)) if variation("ranker", name, [0.5, 0.5]) == at)


def ask(gateway: TestClient, status: int = 200, **body: Any) -> dict[str, Any]:
    """POST /rank; the answer's body."""
    response = gateway.post("/rank", json={"user_id": user_of("camenn"), "candidates": list(ITEMS[:5]), **body})
    assert response.status_code == status, response.text
    return dict(response.json())


def queue_of(gateway: TestClient) -> Any:
    """Impressions that wait for Kafka."""
    app: Any = gateway.app
    return app.state.impressions._queue.queue


def impression(gateway: TestClient, request_id: str) -> Any:
    """The impression of a request, from the queue that waits for Kafka; it has to be a valid event."""
    waiting = [each for each in queue_of(gateway) if each.request_id == request_id]
    assert len(waiting) == 1
    return decode("impressions", waiting[0].user_id.encode(), encode(waiting[0]), waiting[0].event_time_us)


def test_popularity_stands_in_where_no_model_is_deployed(gateway: TestClient) -> None:
    answer = ask(gateway, request_id="fallback", candidates=[ITEMS[5], ITEMS[0], "never", ITEMS[9]], time=NOON)
    assert [item["item_id"] for item in answer["items"]] == [ITEMS[0], ITEMS[5], ITEMS[9], "never"]
    assert [item["score"] for item in answer["items"]] == [10.0, 5.0, 1.0, 0.0]
    assert answer["fallback"] == "popularity" and answer["bundle_id"] is None and answer["triton_version"] is None
    assert answer["experiments"] == {"ranker": "camenn"} and answer["unknown_items"] == ["never"]
    event = impression(gateway, "fallback")
    assert event.policy == "popularity" and event.feature_cutoff == format_us(CUT)
    assert [item.price_minor for item in event.items] == [100, 105, 109, None]
    assert event.features_seen["i_purchases_7d"] == [10.0, 5.0, 1.0, None]
    assert event.features_seen["cand_item"] == [ITEMS[0], ITEMS[5], ITEMS[9], "never"]
    assert event.features_seen["cand_text_sha"][0] == text_sha(f"title of {ITEMS[0]}", None)


def test_uniform_lists_have_exact_propensities_and_repeat(gateway: TestClient) -> None:
    answer = ask(gateway, user_id=user_of("uniform"), request_id="uniform", time=NOON)
    assert answer["experiments"] == {"ranker": "uniform"} and answer["fallback"] is None
    assert sorted(item["item_id"] for item in answer["items"]) == sorted(ITEMS[:5])
    assert {item.propensity for item in impression(gateway, "uniform").items} == {0.2}
    assert ranking.uniform("uniform", 5, 5) == ranking.uniform("uniform", 5, 5)


def test_a_short_uniform_list_logs_its_chance_among_all_candidates(
    shop: tuple[Layout, OnlineStore], tmp_path: Path
) -> None:
    """Each candidate is as likely as any other at a place: 1 / C, however few places there are."""
    path = tmp_path / "experiments.toml"
    path.write_text('[ranker.arms]\nall = { share = 1, policy = "uniform" }\n', encoding="utf-8")
    with client(shop, experiments=path, list_length=2) as gateway:
        answer = ask(gateway, candidates=list(ITEMS[:8]), request_id="short", time=NOON)
        assert len(answer["items"]) == 2
        assert [item.propensity for item in impression(gateway, "short").items] == [1 / 8, 1 / 8]
    draws = 4000
    counts = Counter((place, p.index) for n in range(draws) for place, p in enumerate(ranking.uniform(f"r{n}", 8, 2)))
    propensity = ranking.uniform("r", 8, 2)[0].propensity
    chi_square = sum((counts[place, index] - draws * propensity) ** 2 for place in range(2) for index in range(8))
    assert chi_square / (draws * propensity) < 36.1  # the 0.1 % point of 14 degrees of freedom


def test_uniform_orders_are_uniform() -> None:
    draws = 6000
    orders = Counter(tuple(p.index for p in ranking.uniform(f"r{n}", 3, 3)) for n in range(draws))
    assert len(orders) == 6
    chi_square = sum((count - draws / 6) ** 2 / (draws / 6) for count in orders.values())
    assert chi_square < 20.5  # the 0.1 % point of 5 degrees of freedom


def test_a_repeated_request_gets_its_answer_and_one_impression(gateway: TestClient) -> None:
    first = ask(gateway, request_id="twice", time=NOON)
    assert ask(gateway, request_id="twice", time=NOON) == first
    impression(gateway, "twice")
    error = ask(gateway, 422, request_id="twice", candidates=["other"], time=NOON)["error"]
    assert (error["code"], error["field"]) == ("request_id_reused", "request_id")


def test_unknown_users_are_served(gateway: TestClient) -> None:
    assert len(ask(gateway, user_id="stranger", time=NOON)["items"]) == 5


@pytest.mark.parametrize(
    ("change", "status", "code", "field"),
    [
        ({"candidates": []}, 422, "invalid", "candidates"),
        ({"candidates": [f"i{n}" for n in range(10_000)]}, 413, "too_many_candidates", "candidates"),
        ({"candidates": ["x" * 200] * 6000}, 413, "body_too_large", "body"),
        ({"candidates": ["a", "a"]}, 422, "repeated_candidate", "candidates"),
        ({"candidates": ["a", ""]}, 422, "invalid", "candidates.1"),
        ({"candidates": [1]}, 422, "invalid", "candidates.0"),
        ({"user_id": ""}, 422, "invalid", "user_id"),
        ({"user_id": "\ud800"}, 422, "invalid", "user_id"),
        ({"user_id": None}, 422, "invalid", "user_id"),
        ({"request_id": ""}, 422, "invalid", "request_id"),
        ({"time": "yesterday"}, 422, "not_a_time", "time"),
        ({"time": "0001-01-01T00:00:00+23:59"}, 422, "not_a_time", "time"),
        ({"time": "9999-12-31T23:59:59-14:00"}, 422, "not_a_time", "time"),
        ({"time": "9999-12-31T23:59:59.999999-00:01"}, 422, "not_a_time", "time"),
        ({"time": "1970-01-01T00:59:59.999999+01:00"}, 422, "not_a_time", "time"),
        ({"context": {"zone": [1]}}, 422, "invalid", None),
        ({"context": {"hour": 10**400}}, 422, "invalid", None),
        ({"surprise": 1}, 422, "invalid", "surprise"),
    ],
)
def test_wrong_requests_are_told_what_is_wrong(
    gateway: TestClient, change: dict[str, Any], status: int, code: str, field: str | None
) -> None:
    body = {"user_id": "u", "candidates": ["a"], **change}
    response = gateway.post("/rank", content=json.dumps(body), headers={"content-type": "application/json"})
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (status, code)
    assert set(error) == {"code", "field", "value", "remedy"} and error["remedy"]
    assert field is None or error["field"] == field


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b'{"user_id": "u"}', b"null", b'{"a": NaN}'])
def test_bodies_that_are_no_request_are_refused(gateway: TestClient, body: bytes) -> None:
    response = gateway.post("/rank", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 422 and response.json()["error"]["remedy"]


def test_client_time_is_refused_unless_allowed(shop: tuple[Layout, OnlineStore]) -> None:
    with client(shop, accept_client_time=False) as gateway:
        assert ask(gateway, 422, time=NOON)["error"]["code"] == "client_time"
        assert ask(gateway)["fallback"] == "popularity"


def test_without_features_there_is_no_list(tmp_path: Path) -> None:
    with client((Layout(tmp_path), OnlineStore(sqlite=tmp_path / "online.db"))) as gateway:
        error = ask(gateway, 503)["error"]
    assert error["code"] == "not_ready" and "features apply" in error["remedy"]


def test_young_listings_get_their_places(shop: tuple[Layout, OnlineStore]) -> None:
    with client(shop, list_length=4, young_slots=2) as gateway:
        answer = ask(gateway, candidates=[*ITEMS[:6], ITEMS[-1], "new"], time="2026-01-09T06:00:00Z")
        assert [item["item_id"] for item in answer["items"]] == [ITEMS[0], ITEMS[1], ITEMS[-1], "new"]
        later = ask(gateway, candidates=[*ITEMS[:6], ITEMS[-1]], time="2026-01-10T12:00:00Z")  # a day has passed
        assert [item["item_id"] for item in later["items"]] == list(ITEMS[:4])


def test_health_and_metrics(gateway: TestClient, shop: tuple[Layout, OnlineStore]) -> None:
    ask(gateway, time=NOON)
    assert gateway.get("/healthz").json()["status"] == "ok"
    text = gateway.get("/metrics").text
    assert 'freshrank_requests_total{status="200"}' in text and "freshrank_request_seconds_bucket" in text
    assert gateway.get("/nothing").json()["error"]["code"] == "not_found"
    assert not gateways_at(shop[0], 0).behind and len(gateways_at(shop[0], 1).behind) == 1


def test_the_catalogue_knows_listings_of_its_cut(shop: tuple[Layout, OnlineStore]) -> None:
    catalogue = Catalogue(shop[0])
    assert catalogue.shas([ITEMS[0]]) == ([None], [None])
    catalogue.refresh()
    assert catalogue.shas([ITEMS[3], "never"]) == ([text_sha(f"title of {ITEMS[3]}", None), None], [None, None])


@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_the_gateway_answers_what_its_openapi_says(gateway: TestClient, mode: str) -> None:
    import schemathesis
    from schemathesis.generation import GenerationMode

    operation = schemathesis.openapi.from_dict(gateway.get("/openapi.json").json())["/rank"]["POST"]
    cases = operation.as_strategy(generation_mode=GenerationMode(mode))

    @settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
    @given(case=cases)
    def check(case: Any) -> None:
        if mode == "positive":
            # What a schema cannot say: an id names one request, a time lies after 1970, an arm exists.
            free = ("time", "request_id", "preview")
            case.body = {name: value for name, value in case.body.items() if name not in free}
        sent = case.as_transport_kwargs(base_url="http://testserver")
        sent.pop("cookies", None)
        case.validate_response(gateway.request(**sent))

    check()


EDGES = [
    "1970-01-01T00:00:00Z", "1969-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59-14:00",
    "0001-01-01T00:00:00+14:00", "2026-02-29T00:00:00Z", "2026-01-09T24:00:00Z", "2026-01-09T12:00:60Z", "2026-01-09",
    "2026-01-09T12:00:00+99:99", NOON,
]  # fmt: skip
IDS = st.one_of(st.sampled_from([*ITEMS, ODD_USER]), st.text(min_size=1, max_size=30), st.text(max_size=300))
NUMBERS = st.one_of(st.floats(), st.integers(), st.sampled_from([1e15, -1e15, 1e16, 5e-324, 10**15, 10**30, -0.0]))
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, st.text(st.characters(), max_size=300))
FIELDS = st.one_of(st.sampled_from(["zone", "hour", "weekday", "weather", "payday"]), st.text(max_size=70))
TIMES = st.one_of(
    st.sampled_from(EDGES),
    st.datetimes(timezones=st.timezones()).map(lambda moment: moment.isoformat()),
    st.text(max_size=45),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    user=IDS,
    candidates=st.lists(IDS, max_size=8),
    context=st.dictionaries(FIELDS, SCALARS, max_size=5),
    time=st.none() | TIMES,
)
def test_no_request_meets_a_bug_and_every_list_leaves_a_valid_impression(
    gateway: TestClient, user: str, candidates: list[str], context: dict[str, Any], time: str | None
) -> None:
    body = {"user_id": user, "candidates": candidates, "context": context, "time": time}
    queue = queue_of(gateway)
    before = len(queue)
    response = gateway.post("/rank", content=json.dumps(body), headers={"content-type": "application/json"})
    assert response.status_code in (200, 422), response.text
    if response.status_code == 422:
        assert set(response.json()["error"]) == {"code", "field", "value", "remedy"} and len(queue) == before
        return
    logged = queue[-1]
    event: Any = decode("impressions", logged.user_id.encode(), encode(logged), logged.event_time_us)
    assert [item.item_id for item in event.items] == [item["item_id"] for item in response.json()["items"]]
    assert sorted(item.item_id for item in event.items) == sorted(candidates) and event.user_id == user


@pytest.mark.parametrize("user", USERS)
def test_listings_with_odd_names_and_places_are_ranked(gateway: TestClient, user: str) -> None:
    """Ids, categories, brands and coordinates that decoding accepts; `inf` is no latitude, and its distance unknown."""
    answer = ask(gateway, user_id=user, candidates=list(ITEMS), request_id=f"odd {user}", time=NOON)
    assert answer["unknown_items"] == [] and {item["item_id"] for item in answer["items"]} == set(ITEMS)
    event = impression(gateway, f"odd {user}")
    seen = event.features_seen
    brands = dict(zip(seen["cand_item"], seen["i_brand"], strict=True))
    assert {brands[item] for item in ODD_ITEMS} == {ODD_BRAND} and ODD_CATEGORY in seen["i_category"]
    distances = dict(zip(seen["cand_item"], seen["x_distance_km"], strict=True))
    known = {item for item, distance in distances.items() if distance is not None}
    assert known == {item for item in ODD_ITEMS if PLACES[ITEMS.index(item) % len(PLACES)] == PLACES[2]}


def test_the_gateway_runs_without_torch() -> None:
    """In its own environment: importing the application and the online features loads no torch."""
    python = Path(__file__).resolve().parents[3] / ".envs" / "gateway" / "bin" / "python"
    code = (
        "import sys, importlib.util, serving.gateway.app, features.store.online\n"
        "assert 'torch' not in sys.modules and importlib.util.find_spec('torch') is None"
    )
    subprocess.run([str(python) if python.exists() else sys.executable, "-c", code], check=True, cwd=python.parents[3])
