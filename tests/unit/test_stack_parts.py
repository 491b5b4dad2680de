"""The stack's parts that need no server: addresses, processes, the supervisor's file."""

from __future__ import annotations

import configparser
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from features.errors import UsageError
from freshrank.settings import Settings
from freshrank.stack import addresses, control, processes
from freshrank.stack.server import Program
from freshrank.stack.servers import all_servers
from freshrank.stack.supervisor import Supervisor
from tests.stack import until


def settings(root: Path, **sections: dict[str, object]) -> Settings:
    return Settings.model_validate({"stack": {"dir": root, "port_base": 20_000}, **sections})


def test_every_port_is_used_once_and_lies_in_the_range(tmp_path: Path) -> None:
    every = settings(tmp_path)
    ports = [port for server in all_servers().values() for port in server.ports(every)]
    assert len(set(ports)) == len(ports)
    assert set(ports) <= set(range(20_000, 20_000 + addresses.PORTS))


def test_empty_addresses_mean_the_local_stack_and_named_ones_are_kept(tmp_path: Path) -> None:
    own = addresses.resolve(settings(tmp_path))
    assert own.kafka.bootstrap_servers == "127.0.0.1:20000"
    assert own.redis.url == "127.0.0.1:20002"
    assert own.triton.url == "127.0.0.1:20004"
    assert own.triton.repository == tmp_path / "triton" / "repository"
    named = settings(tmp_path, kafka={"bootstrap_servers": "a:1,b:2"}, triton={"url": "c:3"})
    assert addresses.resolve(named).kafka.bootstrap_servers == "a:1,b:2"
    assert addresses.triton_http(named) is None


def test_external_servers_are_never_started(tmp_path: Path) -> None:
    named = settings(tmp_path, kafka={"bootstrap_servers": "a:1"}, redis={"url": "b:2"}, triton={"url": "c:3"})
    assert [server.name for server in control.select(named)] == ["airflow", "gateway"]
    assert control.select(named, ["kafka"]) == []


def test_an_unknown_server_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"kafkaa.*kafka, redis, triton, airflow, gateway"):
        control.select(settings(tmp_path), ["kafkaa"])


def test_the_sweep_ends_also_what_ignores_the_first_signal_and_nothing_else(tmp_path: Path) -> None:
    program = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
    identity = processes.stack_id(tmp_path)
    children = [
        subprocess.Popen([sys.executable, "-c", program], env=os.environ | extra, stdout=subprocess.PIPE)
        for extra in ({processes.VARIABLE: identity, "SUPERVISOR_PROCESS_NAME": "stubborn"}, {})
    ]
    try:
        for child in children:
            assert child.stdout is not None
            child.stdout.readline()
        assert processes.find(identity) == [processes.Tagged(children[0].pid, "stubborn")]
        assert processes.pss_bytes(children[0].pid) > 0
        assert processes.strays(identity, children[0].pid) == []
        assert processes.sweep(identity, grace_s=0.2) == 1
        assert children[0].wait(10) == -signal.SIGKILL
        assert children[1].poll() is None
    finally:
        for child in children:
            child.kill()
            child.wait()


def test_a_process_that_is_asked_ends_without_being_killed(tmp_path: Path) -> None:
    identity = processes.stack_id(tmp_path)
    child = subprocess.Popen(["sleep", "60"], env=os.environ | {processes.VARIABLE: identity})
    until(lambda: processes.find(identity), "the child to be there")
    assert processes.sweep(identity) == 1
    assert child.wait(10) == -signal.SIGTERM


def test_the_supervisors_file_survives_percent_signs_and_spaces(tmp_path: Path) -> None:
    root = tmp_path / "a 100% folder"
    program = Program("one", ("/bin/a b", "--x=50%", "plain"), {"KEY": "20%"})
    supervisor = Supervisor(settings(root), [program])
    parser = configparser.RawConfigParser()
    parser.read_string(supervisor._config())
    assert parser["program:one"]["command"] == '"/bin/a b" --x=50%% plain'
    assert parser["program:one"]["environment"] == 'KEY="20%%"'
    assert "100%%" in parser["supervisord"]["logfile"]
    assert parser["program:one"]["autorestart"] == "true"


def test_a_folder_too_deep_for_a_socket_is_refused_before_anything_starts(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 100)
    with pytest.raises(UsageError, match=r"stack\.dir"):
        Supervisor(settings(deep), []).start()
    assert not deep.exists()


def test_changed_settings_change_the_digest(tmp_path: Path) -> None:
    before = Supervisor(settings(tmp_path), []).digest()
    assert Supervisor(settings(tmp_path), []).digest() == before
    assert Supervisor(settings(tmp_path, window={"days": 3}), []).digest() != before
