"""The processes of a stack: found by a variable in their environment, measured, and swept.

Every child of a stack carries `FRESHRANK_STACK_ID`. A supervisor knows its own children alone; this finds what outlived
it too, so that `down` leaves nothing, whatever state things are in.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "FRESHRANK_STACK_ID"


def stack_id(root: Path) -> str:
    """The identity of the stack that lives in a folder; the same for the same folder, so that nothing has to be kept.

    Args:
        root: The stack's folder, absolute.

    Returns:
        16 hexadecimal digits.
    """
    return hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Tagged:
    """A living process of a stack.

    Args:
        pid: Process id.
        program: The supervisor's name of the program it belongs to, children included; `supervisor` for itself.
    """

    pid: int
    program: str


def find(identity: str) -> list[Tagged]:
    """All living processes of a stack, this one and those it was started by left out.

    Args:
        identity: The stack's identity.

    Returns:
        The processes, by process id.
    """
    import psutil

    found = []
    own = _ancestors()
    for process in psutil.process_iter(
        ["environ"]
    ):  # None where it is another user's; who ended meanwhile is passed over
        environ: dict[str, str] = process.info["environ"] or {}
        if environ.get(VARIABLE) == identity and process.pid not in own:
            found.append(Tagged(process.pid, environ.get("SUPERVISOR_PROCESS_NAME", "supervisor")))
    return sorted(found, key=lambda one: one.pid)


def strays(identity: str, root: int) -> list[Tagged]:
    """Processes of a stack that descend from no living supervisor, such as the workers of a server that was killed.

    Args:
        identity: The stack's identity.
        root: The supervisor's process id.

    Returns:
        The processes, by process id.
    """
    return [one for one in find(identity) if root not in _ancestors(one.pid)]


def _ancestors(pid: int | None = None) -> set[int]:
    """A process, by default this one, and those that started it."""
    import psutil

    pid = os.getpid() if pid is None else pid
    try:
        return {pid, *(parent.pid for parent in psutil.Process(pid).parents())}
    except psutil.Error:  # ended meanwhile
        return {pid}


def sweep(identity: str, grace_s: float = 20.0, root: int | None = None) -> int:
    """End every process of a stack, or every stray: ask, wait, then kill, until none is left.

    Args:
        identity: The stack's identity.
        grace_s: Seconds to wait between asking and killing.
        root: The living supervisor's process id, to end only what does not descend from it.

    Returns:
        The number of processes that had to be swept.
    """
    swept: set[int] = set()
    for number, seconds in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 10.0)):
        deadline = time.monotonic() + seconds
        asked: set[int] = set()
        while left := find(identity) if root is None else strays(identity, root):
            for one in left:
                if one.pid not in asked:  # also what was started meanwhile
                    asked.add(one.pid)
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.kill(one.pid, number)
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
        swept |= asked
        if not left:
            break
    return len(swept)


def pss_bytes(pid: int) -> int:
    """Proportional set size of a process in bytes: its own memory and its share of what it shares; 0 when it ended."""
    import psutil

    with contextlib.suppress(psutil.Error):
        return int(psutil.Process(pid).memory_full_info().pss)
    return 0


def age_s(pid: int) -> float:
    """Seconds since a process was started, to about a second; 0 when it ended."""
    import psutil

    with contextlib.suppress(psutil.Error):
        return max(0.0, time.time() - psutil.Process(pid).create_time())
    return 0.0
