"""What a request begins with: the serving state, its bundles, experiments and features, swapped whole."""

from __future__ import annotations

import asyncio
import os
import socket
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from features.content.catalogue import Catalogue
from features.errors import DataError, NotReadyError, UnreachableError
from features.layout import Layout
from serving.acknowledgements import Acknowledgement, forget_dead
from serving.gateway.background import Health, Repeated
from serving.gateway.experiments import Experiments
from serving.gateway.experiments_file import read
from serving.gateway.scores import ServedBundle
from serving.state import Serving, ServingFile, Version

if TYPE_CHECKING:
    from features.store.online import OnlineFeatures
    from features.store.registry import OnlineStore

POLL_S = 0.1
LOOK_S = 5.0  # between two looks whether the online store answers
LOOK_LIMIT_S = 30.0  # the first look imports Feast


@dataclass(frozen=True)
class ServingSnapshot:
    """The truth of one generation, as a request keeps it to its end.

    Args:
        serving: What is live.
        served: Bundle → what the gateway needs of it.
        experiments: Arms.
    """

    serving: Serving = field(default_factory=Serving)
    served: Mapping[str, ServedBundle] = field(default_factory=dict)
    experiments: Experiments = field(default_factory=lambda: Experiments({}))

    def behind(self, alias: str) -> tuple[ServedBundle, Version] | None:
        """The bundle behind an alias and where it is loaded; None where the alias is unset or the bundle unreadable."""
        found = self.serving.alias(alias)
        if found is None or found[0] not in self.served:
            return None
        return self.served[found[0]], found[1]


class LiveState:
    """Follows `serving.json`, `experiments.toml` and the listings' content, and acknowledges generations.

    Each of them is followed by itself: one that cannot be read stays as it was, and the others go on.

    Args:
        layout: Folders of the stack.
        experiments: The experiments file.
        online: Feast's online store.
        health: Told what cannot be followed.
    """

    def __init__(self, layout: Layout, experiments: Path, online: OnlineStore, health: Health) -> None:
        self._layout, self._experiments_path, self._online = layout, experiments, online
        self._health = health
        self._file = ServingFile(layout)
        name = f"{socket.gethostname()[:60]}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._acknowledgement = Acknowledgement(layout, name)
        self._serving_stamp: _Stamp = _NEVER
        self._experiments_stamp: _Stamp = _NEVER
        self._readers: dict[str, OnlineFeatures] = {}
        self._looking: asyncio.Task[None] | None = None
        self._follower = Repeated("follower", self._follow, POLL_S, health)
        self._looker = Repeated("features", self._look, LOOK_S, health)
        self.catalogue = Catalogue(layout)
        self.snapshot = ServingSnapshot()

    async def start(self) -> None:
        """Make ourselves known, take up the truth, then follow it."""
        with self._health.watching("acknowledgement"):
            forget_dead(self._layout)
            self._acknowledgement.say(-1)  # known before we read: what we read now cannot retire unseen
        self.refresh()
        with self._health.watching("features"):
            await asyncio.to_thread(self.look)
        self._follower.start()
        self._looker.start()

    async def stop(self) -> None:
        """Say that no more requests come."""
        await self._follower.stop()
        await self._looker.stop()
        if self._looking is not None:
            self._looking.cancel()
        self._acknowledgement.leave()

    def refresh(self) -> None:
        """Take up what changed, then acknowledge it: every request from here on begins with it."""
        with self._health.watching("catalogue"):
            self.catalogue.refresh()
        with self._health.watching("serving_state"):
            self._take_serving()
        with self._health.watching("experiments"):
            self._take_experiments()
        with self._health.watching("acknowledgement"):
            self._acknowledgement.say(self.snapshot.serving.generation)

    def look(self) -> None:
        """Read from the online store by each service that ranks; the first time makes its reader.

        Raises:
            NotReadyError: If a service is not published.
            UnreachableError: If the store does not answer.
        """
        snapshot = self.snapshot
        ranking = [snapshot.served[bundle] for bundle in snapshot.serving.aliases.values() if bundle in snapshot.served]
        services: set[str | None] = {served.feature_service for served in ranking}
        for service in services or {None}:
            self.features(service).fetch("", [], {})

    def features(self, service: str | None) -> OnlineFeatures:
        """The reader of a feature service; it may take seconds the first time.

        Args:
            service: The service; None for the one published last.

        Raises:
            NotReadyError: If no such service is published.
        """
        name = service or self._published_last()
        if name not in self._readers:
            from features.store.online import OnlineFeatures

            self._readers[name] = OnlineFeatures(self._layout, name, self._online)
        return self._readers[name]

    def _published_last(self) -> str:
        folder = self._layout.feast / "published"
        files = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
        if not files:
            raise NotReadyError(
                "no feature service is published", field="features", value=None, remedy="run `freshrank features apply`"
            )
        return files[-1].stem

    def _take_serving(self) -> None:
        """The serving state, where all that it ranks by can be read; the first one also in part.

        Raises:
            DataError: If the state or a bundle cannot be read; it is tried again at the next look.
        """
        stamp = _stamp(self._file.path)
        if stamp == self._serving_stamp:
            return
        serving = self._file.read()
        served, errors = self._read_bundles(serving)
        lost = {bundle: error for bundle, error in errors.items() if bundle in serving.aliases.values()}
        if not lost or self._serving_stamp is _NEVER:
            self.snapshot = replace(self.snapshot, serving=serving, served=served)
        if lost:
            bundle, error = next(iter(lost.items()))
            remedy = "bring its folder back, or deploy another bundle"
            raise DataError(f"a bundle cannot be read ({error!r})", field="bundle", value=bundle, remedy=remedy)
        self._serving_stamp = stamp

    def _take_experiments(self) -> None:
        """The experiments.

        Raises:
            UsageError: If the file is wrong; it is read again at the next look.
        """
        stamp = _stamp(self._experiments_path)
        if stamp != self._experiments_stamp:
            self.snapshot = replace(self.snapshot, experiments=read(self._experiments_path))
            self._experiments_stamp = stamp

    def _read_bundles(self, serving: Serving) -> tuple[dict[str, ServedBundle], dict[str, Exception]]:
        """What the gateway needs of each bundle that is live, and why it cannot be had of some."""
        found: dict[str, ServedBundle] = {}
        errors: dict[str, Exception] = {}
        for bundle in {*serving.aliases.values(), *([serving.previous] if serving.previous else [])}:
            try:
                found[bundle] = self.snapshot.served.get(bundle) or ServedBundle.read(self._layout, bundle)
            except Exception as error:
                errors[bundle] = error
        return found, errors

    async def _follow(self) -> None:
        before = self.snapshot
        self.refresh()
        if (self.snapshot.serving, self.snapshot.served) != (before.serving, before.served):
            self._looker.wake()

    async def _look(self) -> None:
        """Look whether the online store answers; a look that hangs is waited for again, not begun beside itself."""
        if self._looking is None:
            self._looking = asyncio.create_task(asyncio.to_thread(self.look))
        done, _ = await asyncio.wait({self._looking}, timeout=LOOK_LIMIT_S)
        if not done:
            raise UnreachableError(
                f"the online store does not answer within {LOOK_LIMIT_S:.0f} s", field="features", value=None,
                remedy="start Redis (`freshrank up`) or mend `redis.url`",
            )  # fmt: skip
        ended, self._looking = self._looking, None
        ended.result()


_Stamp = tuple[int, int, int] | None
_NEVER: _Stamp = (-1, -1, -1)  # of a file that was not yet looked at


def _stamp(path: Path) -> _Stamp:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size
