"""`freshrank status` says what is wrong, ends with it, and changes nothing."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from features.configuration import read
from features.errors import UsageError
from freshrank.settings import Settings
from freshrank.stack import addresses, status, wanted
from freshrank.stack.server import NotYet
from freshrank.stack.servers.gateway import Gateway
from freshrank.stack.servers.redis import Redis
from freshrank.stack.servers.triton import TritonServer
from tests.stack import free_ports

ROOT = Path(__file__).resolve().parents[2]
EVERYTHING = ["kafka", "redis", "triton", "airflow", "gateway"]


def settings(root: Path, **sections: dict[str, object]) -> Settings:
    return read(Settings, {"stack": {"dir": root, "port_base": free_ports()}, **sections})


def run(root: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("FRESHRANK_")}
    own |= {"FRESHRANK_STACK__DIR": str(root), "FRESHRANK_STACK__PORT_BASE": str(free_ports())} | variables
    command = [sys.executable, "-m", "freshrank.cli", "status", *words]
    return subprocess.run(command, env=own, cwd=ROOT, capture_output=True, encoding="utf-8", timeout=60)


def test_with_everything_down_it_ends_with_4_and_leaves_no_trace(tmp_path: Path) -> None:
    ended = run(tmp_path / "none", "--json")
    assert ended.returncode == 4
    assert ended.stderr.startswith("freshrank: not every server works: kafka (stopped)")
    assert ended.stderr.count("\n") == 1
    answer = json.loads(ended.stdout)
    assert answer["ok"] is False
    assert {row["name"]: row["state"] for row in answer["servers"]} == dict.fromkeys(
        [*EVERYTHING, "supervisor"], "stopped"
    )
    assert all(row["reason"] and row["remedy"] == "run `freshrank up`" for row in answer["servers"])
    assert not (tmp_path / "none").exists()


def test_servers_elsewhere_are_asked_and_end_with_5(tmp_path: Path) -> None:
    nobody = f"127.0.0.1:{free_ports()}"
    ended = run(
        tmp_path, "--json",
        FRESHRANK_KAFKA__BOOTSTRAP_SERVERS=nobody, FRESHRANK_REDIS__URL=nobody, FRESHRANK_TRITON__URL=nobody,
    )  # fmt: skip
    assert ended.returncode == 5
    rows = {row["name"]: row for row in json.loads(ended.stdout)["servers"]}
    for name in ("kafka", "redis", "triton"):
        assert (rows[name]["state"], rows[name]["external"]) == ("no answer", True)
        assert nobody.rpartition(":")[2] in rows[name]["reason"] + rows[name]["address"]
        assert rows[name]["remedy"]
    assert not any(rows[name]["wanted"] for name in ("airflow", "gateway", "supervisor")), "there is no stack here"
    assert "kafka (no answer)" in ended.stderr


def test_what_should_run_is_what_up_was_asked_for(tmp_path: Path) -> None:
    own = settings(tmp_path)
    assert wanted.names(own) == EVERYTHING
    wanted.add(own, ["redis"])
    assert wanted.names(own) == ["redis"]
    wanted.add(own, ["kafka"])
    assert wanted.names(own) == ["kafka", "redis"]
    rows = {row.name: row for row in status.status(own)}
    assert {name for name, row in rows.items() if row.exit_code} == {"kafka", "redis", "supervisor"}
    assert rows["triton"].state == "stopped"
    elsewhere = settings(tmp_path / "b", kafka={"bootstrap_servers": "a:1"}, redis={"url": "b:2"})
    assert wanted.names(elsewhere) == ["triton", "airflow", "gateway"]


@pytest.fixture
def answers() -> Iterator[Any]:
    """A server of HTTP that answers every request with what it is given."""
    servers: list[socket.socket] = []

    def serve(port: int, status: int, body: object) -> None:
        listener = socket.create_server(("127.0.0.1", port))
        servers.append(listener)
        text = json.dumps(body).encode()
        head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(text)}\r\nConnection: close\r\n\r\n".encode()

        def loop() -> None:
            while True:
                try:
                    link, _ = listener.accept()
                except OSError:
                    return
                with link:
                    link.recv(65536)
                    link.sendall(head + text)

        threading.Thread(target=loop, daemon=True).start()

    yield serve
    for one in servers:
        one.close()


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (200, {"aliases": {"champion": "b"}, "behind": {"experiments": {"what": "no TOML"}}}, "experiments: no TOML"),
        (200, {"aliases": {"champion": "b"}, "behind": {"features": {"what": "no service"}}}, "features: no service"),
        (200, {"aliases": {}, "behind": {"features": {"what": "no service"}}}, None),  # nothing is live that needs them
        (200, {"aliases": {"champion": "b"}, "behind": {}}, None),
        (503, {"no": 1}, "answers 503"),
        (200, "what", "dictionary"),
    ],
)
def test_a_gateway_that_is_behind_is_not_ready(
    tmp_path: Path, answers: Any, status: int, body: object, says: str | None
) -> None:
    own = settings(tmp_path)
    answers(addresses.port(own, addresses.GATEWAY), status, body)
    if says is None:
        assert Gateway().look(own) == ""
        return
    with pytest.raises(NotYet, match=says):
        Gateway().look(own)


def test_what_works_in_part_is_told_beside_ready(tmp_path: Path, answers: Any) -> None:
    own = settings(tmp_path)
    body = {"aliases": {}, "behind": {}, "degraded": {"impressions": {"what": "Kafka does not answer"}}}
    answers(addresses.port(own, addresses.GATEWAY), 200, body)
    assert Gateway().look(own) == "impressions: Kafka does not answer"


def test_loopback_is_asked_past_a_proxy(tmp_path: Path, answers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_ports()}")
    own = settings(tmp_path)
    answers(addresses.port(own, addresses.GATEWAY), 200, {})
    assert Gateway().look(own) == ""


@pytest.mark.parametrize("server", [Redis(), TritonServer(), Gateway()])
def test_a_server_that_is_not_there_is_not_ready(tmp_path: Path, server: Any) -> None:
    with pytest.raises(NotYet, match=re.compile("connect|refused", re.IGNORECASE)):
        server.look(settings(tmp_path))


def test_who_is_refused_is_told_so_and_need_not_ask_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> str:
        raise UsageError("Redis refuses us", field="redis.password", value="***", remedy="set it")

    monkeypatch.setattr(Redis, "look", refuse)
    rows = {row.name: row for row in status.status(settings(tmp_path, redis={"url": "b:2"}))}
    redis = rows["redis"]
    assert (redis.state, redis.exit_code, redis.remedy) == ("refused", 2, "set it")
