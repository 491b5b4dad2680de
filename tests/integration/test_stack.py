"""The stack comes up whatever state things are in, and leaves nothing when it goes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from freshrank.stack import addresses, processes
from freshrank.stack.servers.kafka import PROBE_TOPIC
from tests.stack import Stack, own_stack, until

pytestmark = pytest.mark.integration


@pytest.fixture
def own() -> Iterator[Stack]:
    with own_stack("lifecycle") as made:
        yield made


def listens(port: int) -> bool:
    with socket.socket() as trial:
        return trial.connect_ex((addresses.HOST, port)) == 0


def test_after_the_supervisor_was_killed_up_recovers_and_nothing_acknowledged_is_lost(own: Stack) -> None:
    settings = own.need("kafka", "redis")
    host, _, port = settings.redis.url.partition(":")
    redis.Redis(host=host, port=int(port)).set("trial", "acknowledged")
    with contextlib.closing(KafkaProducer(bootstrap_servers=settings.kafka.bootstrap_servers)) as producer:
        offset = producer.send(PROBE_TOPIC, b"acknowledged", partition=0).get(10).offset

    (supervisor,) = own.pids("supervisor")
    orphans = own.pids("redis") + own.pids("kafka")
    os.kill(supervisor, signal.SIGKILL)
    until(lambda: supervisor not in own.pids(), "the supervisor to be gone")
    own.up("kafka", "redis")
    assert not set(orphans) & set(own.pids())

    assert redis.Redis(host=host, port=int(port)).get("trial") == b"acknowledged"
    options = {"bootstrap_servers": settings.kafka.bootstrap_servers, "consumer_timeout_ms": 5000}
    with contextlib.closing(KafkaConsumer(**options)) as consumer:
        place = TopicPartition(PROBE_TOPIC, 0)
        consumer.assign([place])
        consumer.seek(place, offset)
        assert next(iter(consumer)).value == b"acknowledged"


def test_down_leaves_no_process_no_port_and_nothing_in_the_temp_directory(own: Stack) -> None:
    temp = Path(tempfile.gettempdir())
    before = {entry.name for entry in temp.iterdir()}
    own.need("redis", "triton")
    own.run("features", "apply")
    own.kill("redis")
    own.run("down")
    left = {entry.name for entry in temp.iterdir()} - before
    ours = ("feast_metrics_", "torchelastic_", "hsperfdata_", "duckdb", "kafka", "airflow")
    assert not [name for name in left if name.startswith(ours)]
    assert not (own.root / "run").exists()
    assert own.pids() == []
    assert not any(listens(own.port_base + offset) for offset in range(addresses.PORTS))
    assert not list(Path("/dev/shm").glob(f"freshrank_{processes.stack_id(own.root)}_*"))
    own.run("down")  # a second time does no harm


def test_down_ends_orphans_when_the_supervisor_is_gone(own: Stack) -> None:
    own.need("redis")
    (supervisor,) = own.pids("supervisor")
    os.kill(supervisor, signal.SIGKILL)
    assert own.pids("redis")
    own.run("down")
    assert own.pids() == []


def test_up_ends_what_a_killed_server_left_behind(own: Stack) -> None:
    own.need("redis")
    # A process as a killed scheduler leaves its workers: of this stack, and nobody's child.
    command = "sleep 600 >/dev/null 2>&1 & echo $!"
    env = own.env | {processes.VARIABLE: processes.stack_id(own.root)}
    stray = int(subprocess.run(["sh", "-c", command], env=env, capture_output=True, encoding="utf-8").stdout)
    assert stray in own.pids()
    before = own.pids("redis")
    own.up("redis")
    assert stray not in own.pids()
    assert own.pids("redis") == before


def test_a_taken_port_gives_one_line_that_says_what_to_do(own: Stack) -> None:
    port = own.port_base + addresses.REDIS
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of an earlier stack may linger
        taken.bind((addresses.HOST, port))
        taken.listen()
        ended = own.run("up", "--only", "redis", check=False)
    assert ended.returncode == 2
    last = ended.stderr.strip().splitlines()[-1]
    assert f"port {port} of redis is taken by" in last
    assert f"process {os.getpid()}" in last
    assert "FRESHRANK_STACK__PORT_BASE" in last


def test_a_server_that_cannot_start_gives_one_line_with_its_own_words(own: Stack) -> None:
    (own.root / "redis").mkdir()
    (own.root / "redis" / "appendonlydir").write_text("not a folder", encoding="utf-8")
    ended = own.run("up", "--only", "redis", check=False)
    assert ended.returncode == 4
    last = ended.stderr.strip().splitlines()[-1]
    assert last.startswith("freshrank: redis")
    assert "freshrank logs redis" in last


def test_an_unknown_server_is_a_usage_error(own: Stack) -> None:
    ended = own.run("up", "--only", "redis,kaffka", check=False)
    assert ended.returncode == 2
    assert "kaffka" in ended.stderr


def test_a_server_named_by_settings_is_not_started(own: Stack, stack: Stack) -> None:
    elsewhere = stack.need("redis").redis.url
    own.file.write_text(own.file.read_text(encoding="utf-8") + f'\n[redis]\nurl = "{elsewhere}"\n', encoding="utf-8")
    assert own.up("redis", "gateway")["ready_s"].keys() == {"gateway"}
    assert own.pids("redis") == []
    states = {one["name"]: one for one in own.json("status")["servers"]}
    redis = states["redis"]
    assert (redis["state"], redis["external"], redis["address"]) == ("ready", True, elsewhere)
    assert states["gateway"]["state"] == "ready"
    assert "impressions" in states["gateway"]["reason"], "Kafka, which was not asked for, is missed and told"
    assert (states["kafka"]["state"], states["kafka"]["wanted"]) == ("stopped", False)


def test_changed_settings_start_the_servers_again(own: Stack) -> None:
    own.need("redis")
    before = own.pids("redis")
    own.up("redis")
    assert own.pids("redis") == before
    own.file.write_text(
        own.file.read_text(encoding="utf-8").replace("accept_client_time = true", "accept_client_time = false"),
        encoding="utf-8",
    )
    own.up("redis")
    assert own.pids("redis") != before


def test_every_listener_is_on_loopback_and_the_idle_stack_fits_its_memory(stack: Stack) -> None:
    import psutil

    stack.need("kafka", "redis", "triton", "airflow", "gateway")
    stack.up()
    own = set(stack.pids())
    bound = {
        one.laddr.ip for one in psutil.net_connections("tcp") if one.status == "LISTEN" and one.laddr and one.pid in own
    }
    assert bound <= {addresses.HOST, f"::ffff:{addresses.HOST}", "::1"}
    status = stack.json("status")
    assert {one["name"]: one["state"] for one in status["servers"]} == dict.fromkeys(
        ("kafka", "redis", "triton", "airflow", "gateway", "supervisor"), "ready"
    )
    assert all(one["pss_mb"] > 0 and one["age_s"] > 0 and one["address"] for one in status["servers"])
    assert status["pss_mb"] < 3 * 1024


def test_status_tells_of_a_dead_process_and_leaves_it_to_up(own: Stack) -> None:
    own.need("triton")

    def stubs() -> list[int]:
        names = {pid: Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip() for pid in own.pids("triton")}
        return [pid for pid, name in names.items() if name.startswith("triton_python")]

    assert own.json("status")["ok"] is True
    files = sorted(path.name for path in own.root.rglob("*"))
    (stub,) = stubs()
    os.kill(stub, signal.SIGKILL)
    until(lambda: stub not in own.pids("triton"), "the process to be gone")
    for _ in range(2):  # the second looks at what the first left
        ended = own.run("status", "--json", check=False)
        assert ended.returncode == 4
        (triton,) = (one for one in json.loads(ended.stdout)["servers"] if one["name"] == "triton")
        assert triton["state"] == "not ready"
        assert "a process has died of freshrank_probe" in triton["reason"]
    assert stubs() == []
    assert sorted(path.name for path in own.root.rglob("*")) == files
    own.up("triton")
    assert len(stubs()) == 1
    assert own.json("status")["ok"] is True


def test_killed_programs_are_started_again_and_leave_no_strays(stack: Stack) -> None:
    stack.need("airflow", "gateway")
    killed = ("airflow-api", "airflow-scheduler", "airflow-dags", "gateway")
    before = {pid for program in killed for pid in stack.pids(program)}
    (scheduler, *_) = stack.pids("airflow-scheduler")
    os.kill(scheduler, signal.SIGKILL)  # its workers stay, as nobody's children
    for program in ("airflow-api", "airflow-dags", "gateway"):
        stack.kill(program)
    until(lambda: all(set(stack.pids(program)) - before for program in killed), "all to be started again")
    assert stack.up("airflow", "gateway")["ready_s"].keys() == {"airflow", "gateway"}
    assert not before & set(stack.pids())
