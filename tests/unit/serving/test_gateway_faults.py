"""What goes wrong behind a gateway's requests lasts no longer than its cause, is told meanwhile, and ends nothing."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from features.configuration import read
from features.errors import DataError, UnreachableError
from features.events import Impression, Shown
from features.layout import Layout
from features.settings import KafkaSettings, RedisSettings
from features.store.registry import OnlineStore
from serving.acknowledgements import gateways_at, gateways_folder
from serving.gateway import impressions
from serving.gateway.app import GatewayConfig, create_app
from serving.gateway.background import Health, Repeated
from serving.gateway.impressions import ImpressionLog
from serving.settings import GatewaySettings, TritonSettings
from serving.state import Serving, ServingFile, Version, VersionState
from tests.serving.bundles import ITEMS
from tests.serving.world import NOON, SERVICE
from tests.stack import until

NOWHERE = "127.0.0.1:1"
UNIFORM = '[{}.arms]\nall = {{ share = 1, policy = "uniform" }}\n'


@pytest.fixture
def running(shop: tuple[Layout, OnlineStore], tmp_path: Path) -> Iterator[TestClient]:
    """A gateway over the shop that reads `tmp_path/experiments.toml`, with neither Triton nor Kafka."""
    layout, online = shop
    experiments = tmp_path / "experiments.toml"
    experiments.write_text(UNIFORM.format("first"), encoding="utf-8")
    gateway = {"accept_client_time": True, "timeout_ms": 20_000, "experiments": experiments}
    config = GatewayConfig(
        layout=layout,
        gateway=read(GatewaySettings, gateway),
        kafka=read(KafkaSettings, {"bootstrap_servers": NOWHERE}),
        redis=RedisSettings(),
        triton=read(TritonSettings, {"url": NOWHERE}),
        online=online,
    )
    with TestClient(create_app(config)) as client:
        yield client
    for path in (layout.serving_state, layout.bundles, gateways_folder(layout)):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def experiment(client: TestClient) -> str:
    """The experiment that a request is in."""
    answer = client.post("/rank", json={"user_id": "u", "candidates": list(ITEMS[:3]), "time": NOON})
    assert answer.status_code == 200, answer.text
    return "".join(answer.json()["experiments"])


def ready(client: TestClient) -> bool:
    """Whether the gateway says that it is ready."""
    return bool(client.get("/readyz").status_code == 200)


def live(layout: Layout, bundle: str) -> int:
    """Make a bundle champion; the generation."""
    version = Version("model", 1, VersionState.LIVE)
    change = ServingFile(layout).change(
        lambda now: Serving(now.generation, 2, {"champion": bundle}, None, {**now.versions, bundle: version})
    )
    return change.generation


def bundle(layout: Layout, name: str) -> None:
    """A bundle's folder, as far as a gateway reads it."""
    folder = layout.bundle(name)
    folder.mkdir(parents=True)
    item = '{"name": "cand__item_id", "kind": "string", "column": "cand_item", "level": "candidate"}'
    info = f'{{"inputs": [{item}], "outputs": ["cvr_logit"]}}'
    (folder / "bundle.json").write_text(info, encoding="utf-8")
    (folder / "manifest.json").write_text(f'{{"feature_service": "{SERVICE}"}}', encoding="utf-8")


def in_the_way(path: Path) -> None:
    """A folder where a file should be."""
    path.unlink(missing_ok=True)
    path.mkdir()


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes('[größer.arms]\na = { share = 1, alias = "champion" }\n'.encode("latin-1")),
        lambda path: path.write_bytes(b"[first"),
        lambda path: path.write_bytes(b"x = " + b"[" * 50_000),
        in_the_way,
    ],
    ids=["latin-1", "half a table", "too deep", "a folder"],
)
def test_a_wrong_experiments_file_is_survived_and_told(
    running: TestClient, shop: tuple[Layout, OnlineStore], tmp_path: Path, damage: Callable[[Path], Any]
) -> None:
    path = tmp_path / "experiments.toml"
    assert ready(running) and experiment(running) == "first"
    damage(path)
    until(lambda: not ready(running), "the gateway says that it is behind")
    error = running.get("/readyz").json()["error"]
    assert error["code"] == "behind" and error["field"] == "experiments" and str(path) in error["remedy"]
    assert error["value"].startswith("since 20") and error["value"].endswith("Z")
    assert experiment(running) == "first" and running.get("/livez").status_code == 200
    assert running.get("/healthz").json()["status"] == "ok"
    bundle(shop[0], "champion")
    generation = live(shop[0], "champion")  # what else changes is followed meanwhile
    until(lambda: running.get("/healthz").json()["generation"] == generation, "the deployment is followed")
    assert not gateways_at(shop[0], generation).behind and not ready(running)
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    path.write_text(UNIFORM.format("second"), encoding="utf-8")
    until(lambda: ready(running), "the gateway is ready again")
    assert experiment(running) == "second"


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"generation": "x"}', b"[" * 50_000])
def test_a_damaged_serving_state_leaves_what_was_live(
    running: TestClient, shop: tuple[Layout, OnlineStore], tmp_path: Path, content: bytes
) -> None:
    bundle(shop[0], "champion")
    generation = live(shop[0], "champion")
    until(lambda: running.get("/healthz").json()["generation"] == generation, "the deployment is followed")
    whole = shop[0].serving_state.read_bytes()
    shop[0].serving_state.write_bytes(content)
    until(lambda: not ready(running), "the gateway says that it is behind")
    assert running.get("/readyz").json()["error"]["field"] == "serving_state"
    assert running.get("/healthz").json()["aliases"] == {"champion": "champion"}
    (tmp_path / "experiments.toml").write_text(UNIFORM.format("second"), encoding="utf-8")
    until(lambda: experiment(running) == "second", "experiments are followed meanwhile")
    shop[0].serving_state.write_bytes(whole)
    until(lambda: ready(running), "the gateway is ready again")


def test_a_bundle_that_cannot_be_read_leaves_what_was_live_and_is_tried_again(
    running: TestClient, shop: tuple[Layout, OnlineStore]
) -> None:
    bundle(shop[0], "old")
    before = live(shop[0], "old")
    until(lambda: running.get("/healthz").json()["generation"] == before, "the deployment is followed")
    after = live(shop[0], "new")
    until(lambda: not ready(running), "the gateway says that it is behind")
    assert "'new'" in running.get("/readyz").json()["error"]["remedy"]
    assert running.get("/healthz").json()["generation"] == before and len(gateways_at(shop[0], after).behind) == 1
    bundle(shop[0], "new")
    until(lambda: ready(running), "the gateway is ready again")
    assert running.get("/healthz").json()["generation"] == after and not gateways_at(shop[0], after).behind


def test_a_damaged_catalogue_stops_nothing_else(
    running: TestClient, shop: tuple[Layout, OnlineStore], tmp_path: Path
) -> None:
    path = shop[0].state / "catalogue" / f"{10**19}.npy"
    path.write_bytes(b"\x93NUMPY")
    until(lambda: not ready(running), "the gateway says that it is behind")
    assert running.get("/readyz").json()["error"]["field"] == "catalogue"
    (tmp_path / "experiments.toml").write_text(UNIFORM.format("second"), encoding="utf-8")
    until(lambda: experiment(running) == "second", "experiments are followed meanwhile")
    path.unlink()
    until(lambda: ready(running), "the gateway is ready again")


def test_a_gateway_that_cannot_acknowledge_is_not_ready(running: TestClient, shop: tuple[Layout, OnlineStore]) -> None:
    folder = gateways_folder(shop[0])
    shutil.rmtree(folder)
    folder.write_bytes(b"")
    until(lambda: not ready(running), "the gateway says that it is behind")
    assert running.get("/readyz").json()["error"]["field"] == "acknowledgement" and experiment(running) == "first"
    folder.unlink()
    until(lambda: ready(running), "the gateway is ready again")


def test_a_gateway_starts_beside_damage_and_says_so(shop: tuple[Layout, OnlineStore], tmp_path: Path) -> None:
    root = tmp_path / "stack"
    (root / "state").mkdir(parents=True)
    (root / "state" / "serving.json").write_bytes(b"\xff")
    (root / "experiments.toml").write_bytes(b"\xff")
    config = GatewayConfig(
        layout=Layout(root),
        gateway=GatewaySettings(),
        kafka=read(KafkaSettings, {"bootstrap_servers": NOWHERE}),
        redis=RedisSettings(),
        triton=read(TritonSettings, {"url": NOWHERE}),
        online=shop[1],
    )
    with TestClient(create_app(config)) as client:
        assert client.get("/livez").status_code == 200
        error = client.get("/readyz").json()["error"]
    assert set(error["field"].split(", ")) == {"serving_state", "experiments", "features"}
    assert "features apply" in error["remedy"]


def test_a_gateway_whose_features_cannot_be_read_is_not_ready(
    running: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    state: Any = running.app.state  # type: ignore[attr-defined]
    away = True

    def fetch(*_: Any, **__: Any) -> None:
        if away:
            raise UnreachableError("the online store does not answer")

    (reader,) = state.live._readers.values()
    monkeypatch.setattr(reader, "fetch", fetch)
    state.live._looker._pause_s = 0.05
    state.live._looker.wake()
    until(lambda: not ready(running), "the gateway says that it cannot rank")
    assert running.get("/readyz").json()["error"]["field"] == "features"
    away = False
    until(lambda: ready(running), "the gateway is ready again")


def test_a_follower_whose_task_ends_begins_again(running: TestClient, tmp_path: Path) -> None:
    state: Any = running.app.state  # type: ignore[attr-defined]
    task = state.live._follower._task
    task.get_loop().call_soon_threadsafe(task.cancel)
    until(task.done, "the task has ended")
    (tmp_path / "experiments.toml").write_text(UNIFORM.format("second"), encoding="utf-8")
    until(lambda: experiment(running) == "second", "it follows again")
    until(lambda: ready(running), "the gateway is ready again")
    assert 'freshrank_errors_total{kind="CancelledError",part="follower"} 1.0' in running.get("/metrics").text


def test_a_failure_is_counted_each_time_and_logged_when_it_changes(
    running: TestClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def counted() -> float:
        lines = running.get("/metrics").text.splitlines()
        start = 'freshrank_errors_total{kind="usage",part="experiments"} '
        return sum(float(line.removeprefix(start)) for line in lines if line.startswith(start))

    path = tmp_path / "experiments.toml"
    with caplog.at_level(logging.WARNING, "serving.gateway.background"):
        path.write_bytes(b"[first")
        until(lambda: counted() >= 5, "it fails a few times")
        path.write_bytes(b"\xff")
        until(lambda: counted() >= 10, "it fails otherwise")
        path.write_bytes(b"")
        until(lambda: ready(running), "the gateway is ready again")
    said = [record.getMessage() for record in caplog.records]
    assert [line.split(",")[0] for line in said[:2]] == ["experiments fails", "experiments fails"]
    assert "not TOML" in said[0] and "not UTF-8" in said[1] and said[2].startswith("experiments works again")
    assert len(said) == 3


def test_a_step_goes_on_after_whatever_it_raises() -> None:
    """Exceptions of every kind, and the end of the task itself."""
    errors: list[BaseException] = [ValueError("v"), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no"), KeyError(1)]
    errors += [RecursionError(), MemoryError(), asyncio.CancelledError(), AssertionError(), StopAsyncIteration()]
    counted: list[tuple[str, str]] = []

    async def run() -> None:
        done = asyncio.Event()
        health = Health(lambda part, kind: counted.append((part, kind)))
        left = list(errors)

        async def step() -> None:
            if left:
                raise left.pop(0)
            done.set()

        repeated = Repeated("step", step, 0.001, health)
        repeated.start()
        await asyncio.wait_for(done.wait(), 30)
        while health.troubles(blocking=True):
            await asyncio.sleep(0)
        await repeated.stop()

    asyncio.run(run())
    assert counted == [("step", type(error).__name__) for error in errors]


def test_a_bug_has_the_common_body_and_is_counted_and_logged(
    running: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def rank(_: Any) -> None:
        raise ZeroDivisionError("planted")

    state: Any = running.app.state  # type: ignore[attr-defined]
    monkeypatch.setattr(state.ranker, "rank", rank)
    answer = running.post("/rank", json={"user_id": "u", "candidates": ["a"]})
    assert answer.status_code == 500
    error = answer.json()["error"]
    assert set(error) == {"code", "field", "value", "remedy"} and error["code"] == "bug" and "log" in error["remedy"]
    assert "planted" not in answer.text
    (record,) = (record for record in caplog.records if record.exc_info)
    assert record.exc_info is not None and record.exc_info[0] is ZeroDivisionError
    assert 'freshrank_requests_total{status="500"} 1.0' in running.get("/metrics").text


def test_a_body_that_is_too_large_is_counted(running: TestClient) -> None:
    answer = running.post("/rank", content=b"x" * 1_000_001)
    assert answer.status_code == 413 and answer.json()["error"]["code"] == "body_too_large"
    assert 'freshrank_requests_total{status="413"} 1.0' in running.get("/metrics").text


def test_what_cannot_be_scored_is_told_and_does_not_make_the_gateway_unready(
    running: TestClient, shop: tuple[Layout, OnlineStore], tmp_path: Path
) -> None:
    (tmp_path / "experiments.toml").write_bytes(b"")
    bundle(shop[0], "champion")
    generation = live(shop[0], "champion")
    until(lambda: running.get("/healthz").json()["generation"] == generation, "the deployment is followed")
    until(lambda: experiment(running) == "", "the experiment has ended")
    answer = running.get("/readyz")
    assert answer.status_code == 200 and "scoring_champion" in answer.json()["degraded"]


def some(name: str, **fields: Any) -> Impression:
    """An impression."""
    values: dict[str, Any] = {
        "event_id": name, "event_time": NOON, "schema_version": 1, "request_id": name, "user_id": "u",
        "items": [Shown("a", 0)], **fields,
    }  # fmt: skip
    return Impression(**values)


class _Sent:
    """What a producer's `send` gives back."""

    def add_callback(self, done: Callable[[Any], Any]) -> None:
        done(None)

    def add_errback(self, _: Any) -> None:
        """Nothing fails."""


class _Producer:
    """A producer that refuses what is called bad, and breaks down at what is called fatal."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send(self, _: str, value: bytes, **__: Any) -> _Sent:
        if b'"bad"' in value:
            raise RuntimeError("refused")
        self.sent.append(value)
        return _Sent()


def test_impressions_go_on_after_whatever_goes_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    client = _Producer()
    breakdowns: list[Exception] = [
        UnreachableError("away"),
        ValueError("a bug"),
        UnicodeDecodeError("u", b"", 0, 1, ""),
    ]

    @contextlib.contextmanager
    def producer(*_: Any, **__: Any) -> Iterator[Any]:
        if breakdowns:
            raise breakdowns.pop(0)
        yield client

    monkeypatch.setattr(impressions, "producer", producer)
    monkeypatch.setattr(impressions, "RETRY_S", 0.001)
    results: list[str] = []
    kinds: list[tuple[str, str]] = []
    health = Health(lambda part, kind: kinds.append((part, kind)))
    log = ImpressionLog(KafkaSettings(), event_clock=True, count=results.append, health=health)
    for impression in (some("good1"), some("bad"), some("when", event_time="never"), some("good2")):
        log.put(impression)
    log.start()
    until(lambda: len(results) == 4, "all are dealt with")
    log.put(some("good3"))
    log.close()
    assert results == ["sent", "failed", "failed", "sent", "sent"] and len(client.sent) == 3
    assert kinds[:3] == [
        ("impressions", "unreachable"),
        ("impressions", "ValueError"),
        ("impressions", "UnicodeDecodeError"),
    ]
    assert not health.troubles(blocking=True)


def test_impressions_that_find_no_place_are_counted_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(impressions, "QUEUE", 2)
    results: list[str] = []
    health = Health(lambda *_: None)
    log = ImpressionLog(
        read(KafkaSettings, {"bootstrap_servers": NOWHERE}),
        event_clock=True, count=results.append, health=health,
    )  # fmt: skip
    for name in "abc":
        log.put(some(name))
    assert results == ["lost"]
    (trouble,) = health.troubles(blocking=False)
    assert trouble.part == "impression_queue"
    log.start()
    log.close()
    assert results == ["lost"] * 3


def test_health_keeps_the_first_moment_of_a_trouble_and_its_newest_words() -> None:
    health = Health(lambda *_: None)
    health.failed("part", DataError("first"))
    (first,) = health.troubles(blocking=True)
    health.failed("part", DataError("\ud800 second"))
    (second,) = health.troubles(blocking=True)
    assert second.since_us == first.since_us and second.what == "? second"
    health.well("part")
    assert health.troubles(blocking=True) == []
