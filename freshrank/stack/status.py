"""Say how each server is, and change nothing."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from features.errors import FreshrankError, NotReadyError, UnreachableError, UsageError
from freshrank.checkout import find_checkout
from freshrank.stack import processes, wanted
from freshrank.stack.control import supervisor_of
from freshrank.stack.server import NotYet, Server
from freshrank.stack.servers import all_servers

if TYPE_CHECKING:
    from freshrank.settings import Settings


@dataclass(frozen=True)
class Status:
    """How one server is.

    Args:
        name: The server.
        state: `ready`, `starting`, `stopped` or `failed`; `not ready` where it runs and does not work, `no answer` and
            `refused` of one elsewhere.
        address: Where clients find it.
        external: Whether it is one that settings name, and not the stack's own.
        wanted: Whether it should work: one elsewhere always, the stack's own as `up` was asked.
        pss_mb: Proportional set size of all its processes, in MiB.
        age_s: Seconds since the oldest of its programs was started last.
        reason: Why it is not ready, or what of it works in part only.
        remedy: What to do about it.
        exit_code: What this row makes of the command: 0, 2, 4 or 5.
    """

    name: str
    state: str
    address: str
    external: bool = False
    wanted: bool = True
    pss_mb: float = 0.0
    age_s: float = 0.0
    reason: str = ""
    remedy: str = ""
    exit_code: int = 0


def status(settings: Settings) -> list[Status]:
    """How every server is, the supervisor last; all are asked, those that settings name elsewhere too.

    Nothing is changed: neither files nor processes nor what servers hold.
    """
    supervisor = supervisor_of(settings)
    states = supervisor.states() if find_checkout() else {}
    memory: dict[str, float] = {}
    ages: dict[str, float] = {}
    for one in processes.find(supervisor.identity):
        memory[one.program] = memory.get(one.program, 0.0) + processes.pss_bytes(one.pid) / 2**20
        ages[one.program] = max(ages.get(one.program, 0.0), processes.age_s(one.pid))
    servers = list(all_servers().values())
    with ThreadPoolExecutor(len(servers)) as pool:
        rows = list(pool.map(lambda server: _status(settings, server, states, memory, ages), servers))
    own = [row for row in rows if not row.external and row.wanted]
    alive = Status(
        "supervisor", "ready" if states else "stopped", str(supervisor.socket), wanted=bool(own),
        pss_mb=round(memory.get("supervisor", 0.0), 1), age_s=round(ages.get("supervisor", 0.0), 1),
    )  # fmt: skip
    if own and not states:
        alive = replace(
            alive, reason="it does not answer", remedy="run `freshrank up`", exit_code=NotReadyError.exit_code
        )
    return [*rows, alive]


def _status(
    settings: Settings,
    server: Server,
    states: Mapping[str, Mapping[str, object]],
    memory: dict[str, float],
    ages: dict[str, float],
) -> Status:
    row = Status(server.name, "ready", server.address(settings))
    if server.is_external(settings):
        row = replace(row, external=True)
        state, code, remedy = "no answer", UnreachableError.exit_code, "start it, or mend its address in the settings"
    elif find_checkout() is None:
        return replace(row, state="stopped", wanted=False, reason="an installed package starts none")
    else:
        names = [program.name for program in server.programs(settings)]
        found = [states.get(name, {}).get("statename", "STOPPED") for name in names]
        row = replace(
            row,
            wanted=server.name in wanted.names(settings),
            pss_mb=round(sum(memory.get(name, 0.0) for name in names), 1),
            age_s=round(max(ages.get(name, 0.0) for name in names), 1),
        )
        code, see = NotReadyError.exit_code, f"see `freshrank logs {names[0]}`"
        if stopped := [name for name, one in zip(names, found, strict=True) if one in ("STOPPED", "EXITED")]:
            which = "" if len(stopped) == len(names) else f"of it {', '.join(stopped)} does not run"
            if not row.wanted:
                return replace(row, state="stopped", reason=which)
            why = which or "it does not run"
            return replace(row, state="stopped", reason=why, remedy="run `freshrank up`", exit_code=code)
        if "FATAL" in found:
            why = "it ends as soon as it is started"
            return replace(row, state="failed", reason=why, remedy=see, exit_code=code)
        starting = "STARTING" in found or "BACKOFF" in found
        state, remedy = ("starting", "wait") if starting else ("not ready", f"{see}, or run `freshrank up`")
    try:
        return replace(row, reason=server.look(settings))
    except NotYet as error:
        return replace(row, state=state, reason=str(error), remedy=remedy, exit_code=code)
    except UsageError as error:  # asking again does not help
        refused = "refused" if row.external else state
        return replace(
            row, state=refused, reason=_line(error), remedy=error.remedy or remedy, exit_code=error.exit_code
        )
    except FreshrankError as error:
        return replace(row, state=state, reason=_line(error), remedy=error.remedy or remedy, exit_code=code)


def _line(error: FreshrankError) -> str:
    """An error without its remedy, which has a place of its own."""
    return str(FreshrankError(error.what, field=error.field, value=error.value))
