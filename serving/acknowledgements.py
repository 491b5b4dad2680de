"""Which gateways serve by which generation of the serving state, by their own word in `state/gateways/`."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from msgspec import Struct

from features import atomic
from features.layout import Layout, safe_name

GATEWAY_LEASE_S = 30.0  # a gateway that has not been heard of for so long is not waited for
FORGOTTEN_S = 86_400.0  # nor named, after a day


class _Word(Struct, frozen=True):
    """What a gateway says of itself.

    Args:
        generation: Every request from now on begins with this generation (-1: with none yet).
        host: The machine it runs on.
        pid: Its process there.
    """

    generation: int
    host: str = ""
    pid: int = 0


class Acknowledgement:
    """One gateway's word on which generation it serves by; it must be heard of every few seconds.

    Args:
        layout: Folders of the stack.
        name: Name of the gateway's process, unique among gateways.
    """

    def __init__(self, layout: Layout, name: str) -> None:
        self._path = gateways_folder(layout) / f"{safe_name('gateway', name)}.json"
        self._generation: int | None = None

    def say(self, generation: int) -> None:
        """Say that every request from now on begins with this generation (-1: with none yet)."""
        if generation == self._generation and self._path.exists():
            os.utime(self._path)
            return
        word = _Word(generation, socket.gethostname(), os.getpid())
        atomic.write_bytes(self._path, msgspec.json.encode(word))
        self._generation = generation

    def leave(self) -> None:
        """Say that no more requests will come."""
        self._path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Gateways:
    """Who serves by a generation, by the gateways' own word.

    Args:
        acknowledged: Gateways that serve by it or a later one.
        behind: Gateways that serve by an earlier one, or say nothing that can be read.
        silent: Gateways that did not acknowledge and were not heard of for longer than the lease, and the moment when
            they last were, µs since 1970. Most have died; one that only stood still goes on by what it had.
    """

    acknowledged: tuple[str, ...] = ()
    behind: tuple[str, ...] = ()
    silent: Mapping[str, int] = field(default_factory=dict)


def gateways_folder(layout: Layout) -> Path:
    """Where gateways acknowledge."""
    return layout.state / "gateways"


def gateways_at(layout: Layout, generation: int, *, lease_s: float = GATEWAY_LEASE_S) -> Gateways:
    """Which gateways serve by a generation or a later one, and which do not.

    Args:
        layout: Folders of the stack.
        generation: The generation asked about.
        lease_s: A gateway that was silent for longer is not waited for.
    """
    acknowledged, behind, silent = [], [], {}
    for path in sorted(gateways_folder(layout).glob("*.json")):
        try:
            heard_us = path.stat().st_mtime_ns // 1000
            word = _read_word(path)
        except FileNotFoundError:
            continue  # it left while we looked
        if word is not None and word.generation >= generation:
            acknowledged.append(path.stem)
        elif time.time() - heard_us / 1e6 < lease_s:
            behind.append(path.stem)
        else:
            silent[path.stem] = heard_us
    return Gateways(tuple(acknowledged), tuple(behind), silent)


def forget_dead(layout: Layout, *, lease_s: float = GATEWAY_LEASE_S) -> list[str]:
    """Remove the words of gateways that died without a farewell: on this machine, or anywhere a day ago.

    Args:
        layout: Folders of the stack.
        lease_s: Those that were heard of since are left alone, for a process number says nothing of another container.

    Returns:
        Names of the removed.
    """
    removed = []
    for path in sorted(gateways_folder(layout).glob("*.json")):
        try:
            silent_s = time.time() - path.stat().st_mtime
            word = _read_word(path)
        except FileNotFoundError:
            continue
        here = word is not None and word.host == socket.gethostname()
        dead = here and word is not None and not Path(f"/proc/{word.pid}").exists()
        if silent_s >= FORGOTTEN_S or (dead and silent_s >= lease_s):
            path.unlink(missing_ok=True)
            removed.append(path.stem)
    return removed


def _read_word(path: Path) -> _Word | None:
    """A gateway's word; None where it cannot be read.

    Raises:
        FileNotFoundError: If the gateway has left.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Word)
    except FileNotFoundError:
        raise
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
