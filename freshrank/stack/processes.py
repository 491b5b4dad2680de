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
    mark = f"{VARIABLE}={identity}".encode()
    found = []
    own = _ancestors()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) in own:
            continue
        try:
            words = (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue  # ended meanwhile, or another user's
        if mark in words:
            prefix = b"SUPERVISOR_PROCESS_NAME="
            names = [word[len(prefix) :].decode() for word in words if word.startswith(prefix)]
            found.append(Tagged(int(folder.name), names[-1] if names else "supervisor"))
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
    pid, seen = os.getpid() if pid is None else pid, set()
    while pid > 0 and pid not in seen:
        seen.add(pid)
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            break
    return seen


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
    with contextlib.suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def age_s(pid: int) -> float:
    """Seconds since a process was started; 0 when it ended."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        ticks = int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
        up = float(Path("/proc/uptime").read_text(encoding="utf-8").split()[0])
        return max(0.0, up - ticks / os.sysconf("SC_CLK_TCK"))
    return 0.0
