"""The stack's parts that need no server: addresses, processes, the supervisor's file."""

from __future__ import annotations

import configparser
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from features.configuration import read
from features.errors import UsageError
from freshrank import stack
from freshrank.demo.steps import MemoryWatch
from freshrank.settings import Settings
from freshrank.stack import addresses, control, processes
from freshrank.stack.server import Program
from freshrank.stack.servers import all_servers
from freshrank.stack.supervisor import Supervisor
from tests.stack import until


def settings(root: Path, **sections: dict[str, object]) -> Settings:
    return read(Settings, {"stack": {"dir": root, "port_base": 20_000}, **sections})


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


def test_what_ended_has_no_memory_and_no_age_and_what_lives_has_both(tmp_path: Path) -> None:
    identity = processes.stack_id(tmp_path)
    child = subprocess.Popen(["sleep", "60"], env=os.environ | {processes.VARIABLE: identity})
    try:
        until(lambda: processes.find(identity), "the child to be there")
        assert processes.find(identity) == [processes.Tagged(child.pid, "supervisor")]
        rollup = Path(f"/proc/{child.pid}/smaps_rollup").read_text(encoding="utf-8")
        (pss,) = (int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Pss:"))
        assert processes.pss_bytes(child.pid) == pytest.approx(pss, rel=0.5)  # others map and unmap what it shares
        assert 0 <= processes.age_s(child.pid) < 60
        assert processes.strays(identity, os.getpid()) == []
    finally:
        child.kill()
        child.wait()
    assert (processes.pss_bytes(child.pid), processes.age_s(child.pid), processes.find(identity)) == (0, 0.0, [])
    assert processes.strays(identity, child.pid) == []


def test_the_demos_peak_of_memory_counts_the_stacks_processes_and_its_own(tmp_path: Path) -> None:
    identity = processes.stack_id(tmp_path)
    hold = "held = bytearray(2**26); held[::4096] = b'x' * len(held[::4096]); print(1, flush=True); input()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    variables = os.environ | {processes.VARIABLE: identity}
    # started by a shell that ends, so that it is found by its variable alone
    shell = subprocess.Popen(
        ["setsid", "--fork", sys.executable, "-c", hold],
        env=variables,
        **pipes,  # type: ignore[call-overload]
    )
    with shell:
        shell.stdout.readline()
        with MemoryWatch(identity, every_s=0.02) as memory:
            until(lambda: memory.peak_mb > 0, "a look at the memory")
        (held,) = processes.find(identity)
        own = processes.pss_bytes(os.getpid()) / 2**20
        assert processes.pss_bytes(held.pid) >= 2**26
        assert memory.peak_mb >= 64 + own / 2
        shell.stdin.close()
    until(lambda: not processes.find(identity), "the process to end")


ODD = 'ä b 100%s#1\'x ;y #z, "q"'  # what means something to an ini file, to properties, to a shell or to a format


def test_nothing_of_the_folders_name_stands_in_the_supervisors_file(tmp_path: Path) -> None:
    root = tmp_path / ODD
    supervisor = Supervisor(settings(root), [Program("one", ("/bin/a b", f"--x={root}"), {"KEY": f"{root}"})])
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"))
    parser.read_string(supervisor._config())
    assert "ä" not in supervisor._config()
    assert parser["program:one"]["autorestart"] == "true"
    programs = json.loads(supervisor._programs())
    assert programs["one"]["command"] == ["/bin/a b", f"--x={root}"]
    assert programs["one"]["environment"] == {"KEY": str(root)}


def test_a_program_is_started_with_its_very_words_variables_and_folder(tmp_path: Path) -> None:
    root = tmp_path / ODD
    (root / "run").mkdir(parents=True)
    show = "import json, os, sys; print(json.dumps([sys.argv[1:], os.environ['KEY'], os.getcwd()]))"
    program = Program("one", (sys.executable, "-c", show, "a b", ODD), {"KEY": ODD}, directory=root)
    (root / "run" / "programs.json").write_text(Supervisor(settings(root), [program])._programs(), encoding="utf-8")
    launch = [sys.executable, str(Path(stack.__file__).with_name("launch.py")), "one"]
    env = os.environ | {"FRESHRANK_STACK__DIR": str(root), "KEY": "another"}
    said = subprocess.run(launch, env=env, capture_output=True, encoding="utf-8", check=True)
    assert json.loads(said.stdout) == [["a b", ODD], ODD, str(root)]


def test_servers_are_told_of_a_folder_whose_name_means_something_to_them(tmp_path: Path) -> None:
    root = tmp_path / ODD
    every = settings(root)
    (root / "run").mkdir(parents=True)
    kafka, redis, triton = (all_servers()[name] for name in ("kafka", "redis", "triton"))
    # Kafka and Triton get names below their working folder alone: one splits at commas, one starts a shell
    for server in (kafka, triton):
        (program,) = server.programs(every)
        assert program.directory == root
        assert not any("ä" in word for word in program.command)
    (root / "kafka").mkdir()
    (root / "kafka" / "meta.properties").touch()
    kafka.prepare(every)
    assert "log.dirs=kafka\n" in (root / "run" / "kafka.properties").read_text(encoding="utf-8")
    redis.prepare(every)
    config = (root / "run" / "redis.conf").read_text(encoding="utf-8")
    quoted = str(root / "redis").replace('"', '\\"')
    assert f'dir "{quoted}"' in config.splitlines()


def test_children_speak_to_loopback_past_any_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "shop.example, localhost")
    found = Supervisor(settings(tmp_path), [])._environment()
    assert found["no_proxy"] == found["NO_PROXY"] == "shop.example,localhost,127.0.0.1,::1"
    assert found["http_proxy"] == "http://127.0.0.1:9"


def test_what_killed_children_leave_in_their_temp_directory_goes_with_the_run(tmp_path: Path) -> None:
    supervisor = Supervisor(settings(tmp_path), [])
    assert supervisor._environment()["TMPDIR"] == str(tmp_path / "run" / "tmp")
    left = tmp_path / "run" / "tmp" / "airflowtmpabc"
    left.mkdir(parents=True)
    supervisor.start()
    try:
        assert list((tmp_path / "run" / "tmp").iterdir()) == []
    finally:
        supervisor.shutdown()
        processes.sweep(supervisor.identity)


def test_a_folder_too_deep_for_a_socket_is_refused_before_anything_starts(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 100)
    with pytest.raises(UsageError, match=r"stack\.dir"):
        Supervisor(settings(deep), []).start()
    assert not deep.exists()


def test_changed_settings_change_the_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = Supervisor(settings(tmp_path), []).digest()
    monkeypatch.setenv("FRESHRANK_PORT", "tcp://10.0.0.1:80")  # a Service's, which a restarted pod finds changed
    assert Supervisor(settings(tmp_path), []).digest() == before
    assert Supervisor(settings(tmp_path, window={"days": 3}), []).digest() != before
