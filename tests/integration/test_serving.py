"""Serving on real servers: deploy, score as the trainer did, swap under traffic, roll back, survive kills."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np
import pytest

from features.eventlog.ingest import ingest
from features.events import Gone, encode
from features.kafka import consumer
from features.layout import Layout
from features.publish import publish
from features.record import Record
from features.settings import KafkaSettings
from features.store.registry import OnlineStore
from features.times import parse_us
from freshrank.settings import Settings
from serving.inputs import to_array
from serving.probes import BUNDLE_ONLY
from serving.state import ServingFile, VersionState
from serving.triton import TritonClient
from tests.integration.broker import rows
from tests.serving.bundles import (
    ITEMS,
    ODD_BRAND,
    ODD_CATEGORY,
    ODD_ITEMS,
    ODD_USER,
    make_bundle,
    names,
    raw_request,
    sha,
    write_tokens,
)  # fmt: skip
from tests.serving.world import CUT, NOON, SERVICE, happened, serve
from tests.stack import ROOT, Stack, own_stack, until
from trainer.runtime.scorer import Scorer

pytestmark = pytest.mark.integration
ARMS = ("--arm", "uniform=0.2:uniform", "--arm", "camenn=0.8:champion")


class Site:
    """A stack with a shop, bundles and a gateway.

    Args:
        stack: The stack, its servers running.
        layout: Its folders.
    """

    def __init__(self, stack: Stack, layout: Layout) -> None:
        self.stack, self.layout = stack, layout
        self.settings: Settings = stack.settings
        self.ids = names(layout.bundles)
        self.url = f"http://127.0.0.1:{stack.port_base + 7}"
        self.client = httpx.Client(base_url=self.url, timeout=70, trust_env=False)
        self._asked = 0

    def deploy(self, name: str, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """`freshrank deploy` by the tests' name of a bundle."""
        return self.stack.run("deploy", "--bundle", self.ids[name], "--unblessed", *words, check=check)

    def ask(self, status: int = 200, **body: Any) -> dict[str, Any]:
        """POST /rank."""
        self._asked += 1
        whole = {"user_id": "ann", "candidates": list(ITEMS[:6]), "time": NOON, "context": {"zone": "south"}, **body}
        response = self.client.post("/rank", json=whole)
        assert response.status_code == status, response.text
        return dict(response.json())

    def served_by(self, name: str) -> dict[str, Any]:
        """Wait until a bundle answers."""
        return until(lambda: (a := self.ask())["bundle_id"] == self.ids[name] and a, f"{name} answers")

    def impressions(self) -> list[dict[str, Any]]:
        """All impressions in Kafka that the gateway sent."""
        from kafka import TopicPartition

        found = []
        topic = self.settings.kafka.topic("impressions")
        with consumer(self.settings.kafka) as client:
            parts = [TopicPartition(topic, number) for number in client.partitions_for_topic(topic)]
            client.assign(parts)
            client.seek_to_beginning(*parts)
            ends = client.end_offsets(parts)
            while any(client.position(part) < ends[part] for part in parts):
                for records in client.poll(timeout_ms=500).values():
                    found += [{**json.loads(record.value), "stamp_us": record.timestamp * 1000} for record in records]
        return [impression for impression in found if impression["stamp_us"] >= CUT]

    @contextmanager
    def traffic(self) -> Iterator[list[dict[str, Any]]]:
        """Requests without a pause while the block runs.

        Yields:
            The answers so far, each with its HTTP status.
        """
        answers: list[dict[str, Any]] = []
        stop = threading.Event()

        def run() -> None:
            with httpx.Client(base_url=self.url, timeout=70, trust_env=False) as client:
                while not stop.is_set():
                    body = {"user_id": "bob", "candidates": list(ITEMS[:4]), "time": NOON}
                    response = client.post("/rank", json=body)
                    answers.append({"status": response.status_code, **response.json()})

        threads = [threading.Thread(target=run) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            yield answers
        finally:
            stop.set()
            for thread in threads:
                thread.join()


def from_kafka(kafka: KafkaSettings, layout: Layout) -> None:
    """What happened in the shop, through Kafka into the event log."""
    records = []
    for topic, found in happened(layout.root).rows.items():
        key = "item_id" if topic == "items" else "user_id"
        events = [(row.known_time, row.event) for row in found if not isinstance(row.event, Gone)]
        records += [Record(topic, getattr(event, key), known, encode(event)) for known, event in events]
    publish(kafka, sorted(records, key=lambda record: record.time_us))
    done = ingest(kafka, layout, until=CUT)
    assert (sum(run.events for run in done.values()), sum(run.dead for run in done.values())) == (len(records), 0)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """A site of its own, for tests here kill Triton; its servers run in the plain C locale."""
    toml = '[airflow]\nschedule = ""\n[gateway]\naccept_client_time = true\ntimeout_ms = 20000\n'
    with own_stack("serving", toml) as stack:
        stack.extra |= {"LANG": "C", "LC_ALL": "C"}
        settings = stack.need("kafka", "redis", "triton")
        stack.run("topics")
        layout = Layout(stack.root)
        from_kafka(settings.kafka, layout)
        serve(layout, OnlineStore(redis=settings.redis))
        layout.bundles.mkdir(exist_ok=True)
        for seed, name in enumerate(("one", "two", "three", "four")):
            make_bundle(layout.bundles, name, seed=seed, probes=8, service=SERVICE, known=len(ITEMS) - 4)
        make_bundle(layout.bundles, "wrong", seed=9, probes=2, service=SERVICE, wrong=0.01)
        stack.up("gateway")
        yield Site(stack, layout)


def test_without_a_model_popularity_answers(site: Site) -> None:
    answer = site.ask()
    assert answer["fallback"] == "popularity" and answer["items"][0]["item_id"] == ITEMS[0]


def test_a_deployed_bundle_scores_as_the_trainer_does(site: Site) -> None:
    report = json.loads(site.deploy("one", "--json").stdout)
    assert report["probes"] == 8 and report["probe_max_abs"] <= 1e-4
    answer = site.served_by("one")
    assert (answer["triton_version"], answer["fallback"]) == (report["version"], None)
    asked = site.ask(request_id="parity", candidates=[*ITEMS[2:9], "never"], user_id="stranger")
    assert asked["unknown_items"] == ["never"]
    logged = until(lambda: [i for i in site.impressions() if i["request_id"] == "parity"], "the impression is in Kafka")
    assert len(logged) == 1 and logged[0]["stamp_us"] == parse_us(NOON)
    seen, shown = logged[0]["features_seen"], logged[0]["items"]
    scorer = Scorer(site.layout.bundle(site.ids["one"]))
    again = scorer.score({spec.name: to_array(seen[spec.column], spec.kind) for spec in scorer.inputs})["cvr_logit"]
    assert seen["cand_item"] == [item["item_id"] for item in shown]
    assert np.abs(again - [item["score"] for item in shown]).max() <= 1e-4
    assert [item["score"] for item in asked["items"]] == [item["score"] for item in shown]


def test_any_name_goes_from_kafka_through_triton_to_lists_and_impressions(site: Site) -> None:
    """Ids, categories and brands in any script, with commas, slashes, quotes, blanks, emoji, 256 characters long."""
    request, wanted = "長/🥛, 1", [*ODD_ITEMS, ITEMS[0]]
    answer = site.ask(request_id=request, user_id=ODD_USER, candidates=wanted)
    assert (answer["bundle_id"], answer["fallback"], answer["unknown_items"]) == (site.ids["one"], None, [])
    (logged,) = until(lambda: [i for i in site.impressions() if i["request_id"] == request], "the impression is there")
    seen, shown = logged["features_seen"], {item["item_id"]: item["score"] for item in logged["items"]}
    assert logged["user_id"] == ODD_USER and sorted(shown) == sorted(wanted)
    assert shown == {item["item_id"]: item["score"] for item in answer["items"]}
    assert set(seen["buy_item"]) == set(ODD_ITEMS[:3]) and ODD_CATEGORY in seen["i_category"]
    assert {*seen["i_brand"]} == {ODD_BRAND, None}
    scorer = Scorer(site.layout.bundle(site.ids["one"]))

    def score(**changed: Any) -> Any:
        inputs = {spec.name: to_array({**seen, **changed}[spec.column], spec.kind) for spec in scorer.inputs}
        return scorer.score(inputs)["cvr_logit"]

    assert np.abs(score() - [shown[item] for item in seen["cand_item"]]).max() <= 1e-4
    unknown = ["never"] * len(wanted)
    for strange in ({"cand_item": unknown}, {"user_id": "stranger"}, {"buy_item": unknown[: len(seen["buy_item"])]}):
        assert np.abs(score() - score(**strange)).min() > 1e-3, f"{[*strange]} was known"
    typed = [f"--candidate={item}" for item in wanted]
    printed = site.stack.run("rank", "--user", ODD_USER, *typed, "--context", "zone=south", "--time", NOON).stdout
    for item, value in shown.items():
        assert any(line.endswith(f"{value:+.4f}  {item}") for line in printed.splitlines()), item
    ingest(site.settings.kafka, site.layout)
    (kept,) = (row for row in rows(site.layout, "impressions", "request_id, user_id, items") if row[0] == request)
    assert kept[1] == ODD_USER and [item["item_id"] for item in kept[2]] == seen["cand_item"]


def test_deploying_what_is_live_changes_nothing(site: Site) -> None:
    before = site.layout.serving_state.read_bytes()
    assert json.loads(site.deploy("one", "--json").stdout)["already"]
    assert site.layout.serving_state.read_bytes() == before


def test_bad_requests_are_told_so(site: Site) -> None:
    assert site.ask(422, candidates=[])["error"]["field"] == "candidates"
    assert site.ask(413, candidates=[f"i{n}" for n in range(10_000)])["error"]["value"] == 10_000
    assert len(site.ask(candidates=[f"i{n}" for n in range(1000)])["items"]) == 1000
    refused = site.stack.run("rank", "--user", "ann", "--candidates", "", check=False)
    assert refused.returncode == 3 and "candidates" in refused.stderr


def test_rank_from_the_shell(site: Site) -> None:
    words = ("rank", "--user", "ann", "--candidates", "item1,item2,never", "--context", "zone=south", "--time", NOON)
    assert [item["position"] for item in site.stack.json(*words)["items"]] == [0, 1, 2]
    assert "never  (unknown)" in site.stack.run(*words).stdout


def test_a_swap_and_a_rollback_under_traffic_lose_nothing(site: Site) -> None:
    with site.traffic() as answers:
        until(lambda: len(answers) > 20, "traffic flows")
        site.deploy("two")
        site.served_by("two")
        until(lambda: answers[-1].get("bundle_id") == site.ids["two"], "traffic has moved")
        site.deploy("three")  # one retires while requests keep coming
        until(lambda: answers[-1].get("bundle_id") == site.ids["three"], "traffic has moved again")
        site.stack.run("rollback")
        until(lambda: answers[-1].get("bundle_id") == site.ids["two"], "traffic has moved back")
    assert {answer["status"] for answer in answers} == {200}
    assert {answer["fallback"] for answer in answers} == {None}
    order = [answer["bundle_id"] for answer in answers]
    assert {site.ids[name] for name in ("one", "two", "three")} == set(order)
    assert ServingFile(site.layout).read().versions[site.ids["one"]].state is VersionState.RETIRED


def test_corrupt_and_wrong_bundles_are_refused(site: Site) -> None:
    wrong = site.deploy("wrong", check=False)
    assert wrong.returncode == 3 and "not the trainer's" in wrong.stderr
    file = site.layout.bundle(site.ids["four"]) / "dense.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    corrupt = site.deploy("four", check=False)
    file.write_bytes(whole)
    assert corrupt.returncode == 3 and len(corrupt.stderr.strip().splitlines()) == 1
    assert "corrupt" in corrupt.stderr and "dense.safetensors" in corrupt.stderr
    assert site.ask()["bundle_id"] == site.ids["two"]


@pytest.mark.parametrize("state", [VersionState.STAGED, VersionState.LOADED])
def test_a_killed_deployment_goes_on(site: Site, state: VersionState) -> None:
    name = "three" if state is VersionState.STAGED else "one"
    command = [sys.executable, "-m", "freshrank.cli", "deploy", "--bundle", site.ids[name], "--unblessed"]
    child = subprocess.Popen(command, env=site.stack.env, cwd=ROOT)
    file = ServingFile(site.layout)

    def reached() -> bool:
        version = file.read().versions.get(site.ids[name])
        return version is not None and version.state is state

    until(reached, f"the deployment is {state}")
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    number = file.read().versions[site.ids[name]].version
    site.deploy(name)
    assert site.served_by(name)["triton_version"] == number


def test_listings_newer_than_the_bundle_get_their_content(site: Site) -> None:
    version = ServingFile(site.layout).read().versions[site.ids["one"]]
    bundle = site.layout.bundle(site.ids["one"])
    row = raw_request(3, candidates=4)
    row["cand_item"] = list(ITEMS[-2:] + ITEMS[:2])
    row["cand_text_sha"] = [sha("text", item) for item in row["cand_item"]]
    row["cand_image_sha"] = [sha("image", item) for item in row["cand_item"]]
    triton, scorer = TritonClient(site.settings.triton.url), Scorer(bundle)
    inputs = {spec.name: to_array(row[spec.column], spec.kind) for spec in scorer.inputs}
    masked = triton.infer(version.triton_model, version.version, inputs, {})["cvr_logit"]
    write_tokens(site.layout.tokens("tiny"), ITEMS)
    seen = triton.infer(version.triton_model, version.version, inputs, {})["cvr_logit"]
    alone = triton.infer(version.triton_model, version.version, inputs, {BUNDLE_ONLY: True})["cvr_logit"]
    assert np.abs(seen[:2] - masked[:2]).min() > 1e-3, "new listings are no longer masked"
    np.testing.assert_allclose(seen[2:], masked[2:], atol=1e-5)
    np.testing.assert_allclose(alone, masked, atol=1e-6)


def test_experiments_move_users(site: Site) -> None:
    site.stack.run("experiment", "create", "ranker", *ARMS)
    answers = [until(lambda: (a := site.ask(user_id="u0"))["experiments"] and a, "the experiment is taken up")]
    answers += [site.ask(user_id=f"u{n}") for n in range(1, 40)]
    arms = {answer["experiments"]["ranker"]: answer for answer in answers}
    assert arms["uniform"]["bundle_id"] is None and arms["uniform"]["items"][0]["score"] is None
    assert arms["camenn"]["bundle_id"] == site.ids["one"]
    site.stack.run("experiment", "stop", "ranker")
    until(lambda: not site.ask()["experiments"], "the experiment has stopped")


def test_without_triton_popularity_answers_and_after_its_restart_the_model_again(site: Site) -> None:
    site.stack.kill("triton")
    assert site.ask()["fallback"] == "popularity"
    site.stack.up("triton")
    site.served_by("one")
    assert site.deploy("one").returncode == 0


def test_every_answered_request_has_one_impression(site: Site) -> None:
    until(lambda: len({i["request_id"] for i in site.impressions()}) >= site._asked - 3, "impressions arrive")
    ids = [impression["event_id"] for impression in site.impressions()]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("model", ["marn", "din", "fm"])
def test_other_kinds_of_models_score_as_in_the_trainer(site: Site, model: str) -> None:
    bundle = make_bundle(site.layout.bundles, model, seed=5, probes=6, service=SERVICE, model=model)
    report = site.stack.json("deploy", "--bundle", bundle, "--unblessed")
    assert report["probes"] == 6 and report["probe_max_abs"] <= 1e-4
    answer = until(lambda: (a := site.ask())["bundle_id"] == bundle and a, f"{model} answers")
    assert answer["fallback"] is None and len({item["score"] for item in answer["items"]}) > 1
