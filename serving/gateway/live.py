"""What a request begins with: the serving state, its bundles, experiments and features, swapped whole."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from features.content.catalogue import Catalogue
from features.errors import FreshrankError, NotReadyError
from features.layout import Layout
from serving.gateway.experiments import Experiments
from serving.gateway.experiments_file import read
from serving.gateway.scores import Served
from serving.state import Acknowledgement, Serving, ServingFile, Version

if TYPE_CHECKING:
    from features.store.online import OnlineFeatures
    from features.store.registry import OnlineStore

log = logging.getLogger(__name__)
POLL_S = 0.1


@dataclass(frozen=True)
class Snapshot:
    """The truth of one generation, as a request keeps it to its end.

    Args:
        serving: What is live.
        served: Bundle → what the gateway needs of it.
        experiments: Arms.
    """

    serving: Serving = field(default_factory=Serving)
    served: Mapping[str, Served] = field(default_factory=dict)
    experiments: Experiments = field(default_factory=lambda: Experiments({}))

    def behind(self, alias: str) -> tuple[Served, Version] | None:
        """The bundle behind an alias and where it is loaded; None where the alias is unset or the bundle unreadable."""
        found = self.serving.alias(alias)
        if found is None or found[0] not in self.served:
            return None
        return self.served[found[0]], found[1]


class Live:
    """Follows `serving.json`, `experiments.toml` and the listings' content, and acknowledges generations.

    Args:
        layout: Folders of the stack.
        experiments: The experiments file.
        online: Feast's online store.
    """

    def __init__(self, layout: Layout, experiments: Path, online: OnlineStore) -> None:
        self._layout, self._experiments_path, self._online = layout, experiments, online
        self._file = ServingFile(layout)
        name = f"{socket.gethostname()[:60]}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._acknowledgement = Acknowledgement(layout, name)
        self._stamps: tuple[Any, Any] = (None, None)
        self._readers: dict[str, OnlineFeatures] = {}
        self._task: asyncio.Task[None] | None = None
        self.catalogue = Catalogue(layout)
        self.snapshot = Snapshot()

    async def start(self) -> None:
        """Make ourselves known, take up the truth, then follow it."""
        self._acknowledgement.say(-1)  # known before we read: what we read now cannot retire unseen
        self.refresh()
        await asyncio.to_thread(self.warm)
        self._task = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """Say that no more requests come."""
        if self._task is not None:
            self._task.cancel()
        self._acknowledgement.leave()

    def refresh(self) -> None:
        """Take up what changed, then acknowledge it: every request from here on begins with it."""
        self.catalogue.refresh()
        stamps = (_stamp(self._file.path), _stamp(self._experiments_path))
        if stamps != self._stamps:
            serving = self._file.read()
            served = dict(self._read_bundles(serving))
            try:
                experiments = read(self._experiments_path)
            except FreshrankError as error:
                log.error("experiments stay as they were: %s", error)
                experiments = self.snapshot.experiments
            self.snapshot = Snapshot(serving, served, experiments)
            self._stamps = stamps
        self._acknowledgement.say(self.snapshot.serving.generation)

    def warm(self) -> None:
        """Make the features' readers of what is live before a request waits for them."""
        services: set[str | None] = {served.feature_service for served in self.snapshot.served.values()}
        for service in services or {None}:
            try:
                self.features(service)
            except FreshrankError as error:
                log.warning("features are not ready: %s", error)

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

    def _read_bundles(self, serving: Serving) -> list[tuple[str, Served]]:
        found = []
        for bundle in {*serving.aliases.values(), *([serving.previous] if serving.previous else [])}:
            try:
                known = self.snapshot.served.get(bundle)
                found.append((bundle, known or Served.read(self._layout, bundle)))
            except (OSError, ValueError, KeyError) as error:
                log.error("bundle %s cannot be read: %r", bundle, error)
        return found

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            try:
                before = self.snapshot
                self.refresh()
                if self.snapshot is not before:
                    await asyncio.to_thread(self.warm)
            except (FreshrankError, OSError) as error:
                log.error("the serving state cannot be read, what was live stays: %s", error)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size
