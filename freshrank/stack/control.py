"""Bring the stack up, take it down."""

from __future__ import annotations

import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from features.atomic import lock
from features.errors import FreshrankError, NotReadyError, UsageError
from freshrank.checkout import find_checkout
from freshrank.stack import addresses, processes, wanted
from freshrank.stack.server import NotYet, Server, project_root
from freshrank.stack.servers import all_servers
from freshrank.stack.servers.airflow import ensure_secret
from freshrank.stack.servers.triton import remove_leftovers
from freshrank.stack.supervisor import Supervisor

if TYPE_CHECKING:
    from freshrank.settings import Settings

_RUNS = ("RUNNING", "STARTING", "BACKOFF")


def say(line: str) -> None:
    """A line of progress on stderr."""
    print(line, file=sys.stderr, flush=True)


def select(settings: Settings, only: Iterable[str] | None = None) -> list[Server]:
    """The servers to start: all, or those named; external ones are left out.

    Raises:
        UsageError: If a name is none of a server.
    """
    known = all_servers()
    names = list(known) if only is None else [name.strip() for name in only if name.strip()]
    for name in names:
        if name not in known:
            raise UsageError("no such server", field="only", value=name, remedy=f"name some of {', '.join(known)}")
    return [known[name] for name in known if name in names and not known[name].is_external(settings)]


def supervisor_of(settings: Settings) -> Supervisor:
    """The stack's supervisor, whether it lives or not; an installed package has no program for it to run."""
    known = all_servers().values() if find_checkout() else ()
    local = [server for server in known if not server.is_external(settings)]
    return Supervisor(settings, [program for server in local for program in server.programs(settings)])


def up(settings: Settings, only: Iterable[str] | None = None, tell: Callable[[str], None] = say) -> dict[str, float]:
    """Start what does not run and wait until each server did one real operation.

    Safe to run at any time: what runs is left alone and probed; what a killed supervisor or server left behind is ended
    first; where settings have changed since, the whole stack is started again with the new ones.

    Args:
        settings: All settings.
        only: Names of servers; all by default.
        tell: Called with lines of progress.

    Returns:
        Seconds until each server was ready, by name.

    Raises:
        UsageError: If a port is taken, a name is wrong, or there is no checkout with servers to start.
        NotReadyError: If a part is missing or a server does not become ready in time.
    """
    chosen = select(settings, only)
    project_root()
    with lock(settings.layout.lock("stack"), timeout_s=300):
        ensure_secret(settings)  # the supervisor's file holds it
        supervisor = supervisor_of(settings)
        chosen = _with_survivors(settings, supervisor, chosen, tell)
        wanted.add(settings, [server.name for server in chosen])
        states = supervisor.states()
        for server in chosen:  # before anything is started: what cannot be is said at once
            if len(_idle(settings, server, states)) == len(server.programs(settings)):
                _check_ports(settings, server)
        with ThreadPoolExecutor(len(chosen) or 1) as pool:
            jobs = {server.name: pool.submit(_bring, settings, supervisor, server, tell) for server in chosen}
        failed = [job.exception() for job in jobs.values() if job.exception() is not None]
        for error in sorted(failed, key=lambda one: not isinstance(one, FreshrankError)):
            assert error is not None
            raise error
        return {name: job.result() for name, job in jobs.items()}


def _with_survivors(
    settings: Settings, supervisor: Supervisor, chosen: list[Server], tell: Callable[[str], None]
) -> list[Server]:
    """Make sure of a supervisor with today's settings; returns the servers to bring up."""
    if supervisor.is_alive():
        if supervisor.is_current():
            processes.sweep(supervisor.identity, grace_s=5, root=supervisor.pid())
            return chosen
        tell("stack: settings have changed; starting the stack again")
        running = {name for name, one in supervisor.states().items() if one["statename"] in _RUNS}
        known = [server for server in all_servers().values() if not server.is_external(settings)]
        chosen = [
            server
            for server in known
            if server in chosen
            or server.name in {one.name for one in chosen}
            or any(program.name in running for program in server.programs(settings))
        ]
        supervisor.shutdown()
    if processes.find(supervisor.identity):
        tell("stack: ending what an earlier supervisor left")
        processes.sweep(supervisor.identity)
    supervisor.start()
    return chosen


def _bring(settings: Settings, supervisor: Supervisor, server: Server, tell: Callable[[str], None]) -> float:
    began = time.monotonic()
    names = [program.name for program in server.programs(settings)]
    idle = _idle(settings, server, supervisor.states())
    if len(idle) == len(names):
        server.prepare(settings)
    for name in idle:
        supervisor.start_program(name)
    deadline, reason = began + server.ready_within_s, "no answer yet"
    while True:
        try:
            server.probe(settings)
            break
        except NotYet as error:
            reason = str(error)
        _check_alive(settings, supervisor, server, names)
        if time.monotonic() > deadline:
            raise NotReadyError(
                f"{server.name} is not ready after {server.ready_within_s:.0f} s: {reason}",
                remedy=f"see `freshrank logs {names[0]}`",
            )
        time.sleep(0.25)
    server.settle(settings)
    seconds = time.monotonic() - began
    tell(f"stack: {server.name} ready at {server.address(settings)} in {seconds:.1f} s")
    return seconds


def _idle(settings: Settings, server: Server, states: dict[str, dict[str, object]]) -> list[str]:
    names = [program.name for program in server.programs(settings)]
    return [name for name in names if states.get(name, {}).get("statename") not in _RUNS]


def _check_ports(settings: Settings, server: Server) -> None:
    for port in server.ports(settings):
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind((addresses.HOST, port))
            except OSError as error:
                raise UsageError(
                    f"port {port} of {server.name} is taken{_holder(port)}", field="stack.port_base",
                    value=settings.stack.port_base,
                    remedy="stop what listens there, or set another FRESHRANK_STACK__PORT_BASE",
                ) from error  # fmt: skip


def _holder(port: int) -> str:
    import psutil

    try:
        for one in psutil.net_connections("tcp"):
            if one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port == port and one.pid:
                return f" by {psutil.Process(one.pid).name()} (process {one.pid})"
    except psutil.Error:
        pass
    return ""


def _check_alive(settings: Settings, supervisor: Supervisor, server: Server, names: list[str]) -> None:
    states = supervisor.states()
    for name in names:
        if states.get(name, {}).get("statename") == "FATAL":
            log = settings.layout.logs / f"{name}.log"
            lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.exists() else []
            raise NotReadyError(
                f"{server.name} ends as soon as it is started: {lines[-1][:300] if lines else 'it says nothing'}",
                remedy=f"see `freshrank logs {name}`",
            )


def down(settings: Settings, tell: Callable[[str], None] = say) -> int:
    """Stop the stack: ask, wait, then kill every process that belongs to it.

    Args:
        settings: All settings.
        tell: Called with lines of progress.

    Returns:
        The number of processes that were ended.

    Raises:
        UsageError: If there is no checkout, so that no stack can have been started.
    """
    project_root()
    if not settings.layout.root.exists():
        return 0
    with lock(settings.layout.lock("stack"), timeout_s=300):
        supervisor = supervisor_of(settings)
        before = len(processes.find(supervisor.identity))
        supervisor.shutdown()
        processes.sweep(supervisor.identity, grace_s=10)
        remove_leftovers(settings)
        shutil.rmtree(settings.layout.run, ignore_errors=True)
    tell(f"stack: down, {before} processes ended")
    return before
