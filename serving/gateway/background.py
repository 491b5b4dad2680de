"""What works behind a gateway's requests: nothing that goes wrong there ends it, and all is told until it is over.

A part is a thing that can fail by itself: the serving state, the experiments, the impressions. Its first failure is
logged, a repeated one is only counted; while one that blocks lasts, the gateway calls itself not ready.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

from features.errors import FreshrankError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trouble:
    """A part that fails at the moment.

    Args:
        part: Its name.
        since_us: Its first failure in a row, µs since 1970.
        what: Its newest failure, in a line.
        blocking: Whether the gateway is not ready because of it.
    """

    part: str
    since_us: int
    what: str
    blocking: bool


class Health:
    """How the parts are doing; threads may report, too.

    Args:
        count: Called with a part and the kind of its failure, each time.
    """

    def __init__(self, count: Callable[[str, str], None]) -> None:
        self._count = count
        self._lock = threading.Lock()
        self._troubles: dict[str, Trouble] = {}

    def failed(self, part: str, error: BaseException, *, blocking: bool = True) -> None:
        """Report that a part failed; it goes on with what it had.

        Args:
            part: The part.
            error: What it met.
            blocking: Whether the gateway is behind because of it.
        """
        known = isinstance(error, FreshrankError)
        kind = error.code if isinstance(error, FreshrankError) else type(error).__name__
        what = str(error) if known else f"{type(error).__name__}: {error}"
        what = what.encode("utf-8", "replace").decode()[:1000]
        with self._lock:
            before = self._troubles.get(part)
            since_us = before.since_us if before else time.time_ns() // 1000
            self._troubles[part] = Trouble(part, since_us, what, blocking)
        self._count(part, kind)
        if before is None or before.what != what:
            log.error("%s fails, what it had stays: %s", part, what, exc_info=None if known else error)

    def well(self, part: str) -> None:
        """Report that a part did its work."""
        if part not in self._troubles:
            return
        with self._lock:
            before = self._troubles.pop(part, None)
        if before is not None:
            log.warning("%s works again after %.1f s", part, time.time() - before.since_us / 1e6)

    @contextlib.contextmanager
    def watching(self, part: str, *, blocking: bool = True) -> Iterator[None]:
        """Report how the block went; an exception ends the block and nothing else."""
        try:
            yield
        except Exception as error:
            self.failed(part, error, blocking=blocking)
        else:
            self.well(part)

    def troubles(self, *, blocking: bool) -> list[Trouble]:
        """What fails now, the oldest first.

        Args:
            blocking: Those for which the gateway is not ready, or the others.
        """
        with self._lock:
            found = [trouble for trouble in self._troubles.values() if trouble.blocking is blocking]
        return sorted(found, key=lambda trouble: trouble.since_us)


class Repeated:
    """A step that is done again and again until it is stopped, whatever it raises and whatever ends its task.

    Args:
        part: What it is called.
        step: Done each time.
        pause_s: Seconds between two steps.
        health: Told how each step went.
    """

    def __init__(self, part: str, step: Callable[[], Awaitable[None]], pause_s: float, health: Health) -> None:
        self._part, self._step, self._pause_s, self._health = part, step, pause_s, health
        self._task: asyncio.Task[None] | None = None
        self._stopped = False
        self._now = asyncio.Event()

    def start(self) -> None:
        """Begin, in the running event loop."""
        if self._stopped:
            return
        self._task = asyncio.create_task(self._run(), name=self._part)
        self._task.add_done_callback(self._ended)

    def wake(self) -> None:
        """Do the next step now."""
        self._now.set()

    async def stop(self) -> None:
        """End it."""
        self._stopped = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _run(self) -> None:
        while not self._stopped:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._now.wait(), self._pause_s)
            self._now.clear()
            with self._health.watching(self._part):
                await self._step()

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A task that ended though nobody stopped it begins again."""
        if self._stopped:
            return
        error = asyncio.CancelledError("its task was cancelled") if task.cancelled() else task.exception()
        self._health.failed(self._part, error or RuntimeError("its task came to an end"))
        task.get_loop().call_later(self._pause_s, self.start)
