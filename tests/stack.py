"""A stack for tests: its own folder and ports beside a user's, started as tests ask for servers, always taken down.

A test takes the session's fixture `stack` and says what it needs::

    def test_round_trip(stack):
        settings = stack.need("kafka", "redis")

Tests that kill the supervisor or change settings make a `Stack` of their own with `own_stack`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from features.configuration import read
from freshrank.settings import Settings
from freshrank.stack import addresses, processes

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".freshrank-tests"
ODD = " ä 5%#'"  # every stack of the tests lies in a folder whose name means something to a server or a shell
_given: set[int] = set()  # first ports that stacks of this process have

# What tests want other than the defaults. A run's days are long past, so clients say what time it is.
SETTINGS = """\
[airflow]
schedule = ""

[gateway]
accept_client_time = true
"""


class Stack:
    """One stack of real servers in a folder of its own.

    Args:
        root: Its folder.
        toml: Its settings file.
    """

    def __init__(self, root: Path, toml: str = SETTINGS) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root, self.file = root, root / "freshrank.toml"
        self.file.write_text(toml, encoding="utf-8")
        self.port_base = free_ports()
        self.started: set[str] = set()
        self.extra: dict[str, str] = {}  # more of the environment, such as secrets

    @property
    def env(self) -> dict[str, str]:
        """The environment in which the command line means this stack and no user's settings."""
        own = {name: value for name, value in os.environ.items() if not name.startswith("FRESHRANK_")}
        return own | {
            "FRESHRANK_SETTINGS": str(self.file),
            "FRESHRANK_STACK__DIR": str(self.root),
            "FRESHRANK_STACK__PORT_BASE": str(self.port_base),
            **self.extra,
        }

    @property
    def settings(self) -> Settings:
        """Its settings with every address filled in."""
        import tomllib

        values = tomllib.loads(self.file.read_text(encoding="utf-8"))
        values.setdefault("stack", {}).update(dir=self.root, port_base=self.port_base)
        return addresses.resolve(read(Settings, values))

    def run(self, *words: str, check: bool = True, timeout_s: float = 500) -> subprocess.CompletedProcess[str]:
        """Run `freshrank` with these words against this stack.

        Args:
            words: Command and arguments.
            check: Fail the test when it does not exit with 0.
            timeout_s: Kill it after so many seconds.
        """
        ended = subprocess.run(
            [sys.executable, "-m", "freshrank.cli", *words],
            env=self.env, cwd=ROOT, capture_output=True, encoding="utf-8", timeout=timeout_s,
        )  # fmt: skip
        if check:
            assert ended.returncode == 0, f"freshrank {' '.join(words)}: {ended.returncode}\n{ended.stderr[-3000:]}"
        return ended

    def json(self, *words: str, timeout_s: float = 500) -> dict[str, Any]:
        """Run `freshrank … --json` and decode its one line."""
        answer: dict[str, Any] = json.loads(self.run(*words, "--json", timeout_s=timeout_s).stdout)
        return answer

    def need(self, *servers: str) -> Settings:
        """Make sure that servers run; those that were started for an earlier test are taken as they are.

        Args:
            servers: Names such as `kafka`.

        Returns:
            The stack's settings with every address filled in.
        """
        if missing := [name for name in servers if name not in self.started]:
            self.up(*missing)
        return self.settings

    def up(self, *servers: str) -> dict[str, Any]:
        """`freshrank up`, of these servers or of all; probes them again also when they run."""
        answer = self.json("up", *(["--only", ",".join(servers)] if servers else []))
        self.started.update(answer["ready_s"])
        return answer

    def down(self) -> None:
        """Take it down."""
        self.started.clear()
        self.run("down")

    def pids(self, program: str | None = None) -> list[int]:
        """Process ids of a program, children included, or of the whole stack."""
        found = processes.find(processes.stack_id(self.root))
        return [one.pid for one in found if program in (None, one.program)]

    def kill(self, program: str) -> None:
        """SIGKILL the processes of a program."""
        for pid in self.pids(program):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def free_ports() -> int:
    """First of 20 free ports in a row, below those that the kernel gives to clients.

    None is given twice: a stack that is down for a while, such as a finished demo's, may come up again at its own.
    """
    start = 22_000 + os.getpid() * 20 % 8_000
    for shift in range(0, 8_000, addresses.PORTS):
        base = 22_000 + (start - 22_000 + shift) % 8_000
        if base not in _given and all(_is_free(base + offset) for offset in range(addresses.PORTS)):
            _given.add(base)
            return base
    raise RuntimeError("no free ports")


def _is_free(port: int) -> bool:
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((addresses.HOST, port))
        except OSError:
            return False
    return True


@contextlib.contextmanager
def own_stack(name: str = "own", toml: str = SETTINGS) -> Iterator[Stack]:
    """A stack for the block, taken down and removed at its end whatever happens.

    Yields:
        The stack, nothing of it started.
    """
    _sweep_dead()
    stack = Stack(FOLDER / f"{os.getpid()}-{name}{ODD}", toml)
    try:
        yield stack
    finally:
        stack.down()
        shutil.rmtree(stack.root, ignore_errors=True)


def _sweep_dead() -> None:
    """Take down what earlier test runs left that were killed themselves."""
    for folder in FOLDER.glob("*-*"):
        owner = folder.name.split("-")[0]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists():
            processes.sweep(processes.stack_id(folder), grace_s=5)
            shutil.rmtree(folder, ignore_errors=True)


def until(condition: Callable[[], Any], what: str, timeout_s: float = 60) -> Any:
    """Poll until a condition holds.

    Args:
        condition: Called until it returns something true.
        what: Named when it does not come true.
        timeout_s: Longest wait.

    Returns:
        What the condition returned.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        if answer := condition():
            return answer
        assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s: {what}"
        time.sleep(0.05)
