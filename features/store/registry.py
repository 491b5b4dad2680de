"""Feast's registry: written under a lock, published whole by rename, read from what was published.

The file registry is written in place and unlocked; so `apply` writes a working copy that nobody reads and publishes
`published/<service>.db` beside a description of the service. A service's name holds the hash of its definitions, so
that a published file never changes its meaning, and a bundle can name the service that it was trained with.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from features import atomic
from features.errors import NotReadyError, UsageError
from features.layout import Layout, safe_name
from features.settings import FeatureSettings, RedisSettings
from features.store.definitions import PROJECT, Definitions, Feature, define, feast_objects, source_folder

if TYPE_CHECKING:
    from feast import FeatureStore

LOCK_WAIT_S = 60.0


@dataclass(frozen=True)
class OnlineStore:
    """Where served values are kept.

    Args:
        redis: Address and password of Redis.
        sqlite: A file to use instead, for tests on one machine.
    """

    redis: RedisSettings | None = None
    sqlite: Path | None = None

    def config(self) -> dict[str, object]:
        """Feast's configuration of it.

        Raises:
            UsageError: If no store is named, or the password cannot stand in Feast's connection string.
        """
        if self.sqlite is not None:
            return {"type": "sqlite", "path": str(self.sqlite)}
        if self.redis is None or not self.redis.url:
            raise UsageError("no online store", field="redis.url", value="", remedy="name host:port of Redis")
        password = self.redis.password.get_secret_value()
        if re.search(r"[,=]", password):
            raise UsageError(
                "Feast takes no such password",
                field="redis.password",
                value="***",
                remedy="use one without ',' and '='",
            )
        # the password as JSON text: Feast decodes each value, and one of digits alone would become a number
        secret = f",password={json.dumps(password)}" if password else ""
        return {
            "type": "redis",
            "connection_string": f"{self.redis.url},socket_timeout=2,socket_connect_timeout=2{secret}",
            "full_scan_for_deletion": False,
        }


def published_folder(layout: Layout) -> Path:
    """Folder of the registries that readers use."""
    return layout.feast / "published"


def apply(layout: Layout, settings: FeatureSettings, online: OnlineStore) -> str:
    """Register the definitions and publish the registry.

    Args:
        layout: Where things lie.
        settings: Which fields become features.
        online: Where served values are kept.

    Returns:
        The service's name.

    Raises:
        LockedError: If another process holds the registry for a minute.
    """
    definitions = define(settings)
    name = definitions.service
    target = published_folder(layout) / f"{name}.db"
    with atomic.lock(layout.lock("feast"), timeout_s=LOCK_WAIT_S):
        if target.exists() and target.with_suffix(".json").exists():
            return name
        for entity in ("user", "item"):
            source_folder(layout, definitions, entity).mkdir(parents=True, exist_ok=True)
        work = layout.feast / "work" / f"{name}.db"
        work.parent.mkdir(parents=True, exist_ok=True)
        work.unlink(missing_ok=True)  # left by a killed run
        import_feast()
        _store(layout, work, online).apply(feast_objects(layout, definitions))
        atomic.write_text(target.with_suffix(".json"), json.dumps(asdict(definitions), indent=1) + "\n")
        atomic.write_bytes(target, work.read_bytes())
        work.unlink()
    return name


def open_store(layout: Layout, service: str, online: OnlineStore | None = None) -> FeatureStore:
    """Feast on a published registry.

    Args:
        layout: Where things lie.
        service: The service's name.
        online: Where served values are kept; None for offline reading alone.

    Returns:
        A `feast.FeatureStore`.

    Raises:
        NotReadyError: If the service was never published.
    """
    file = published_folder(layout) / f"{safe_name('service', service)}.db"
    if not file.exists():
        raise _missing(service)
    return _store(layout, file, online)


def read_definitions(layout: Layout, service: str) -> Definitions:
    """The definitions of a published service.

    Raises:
        NotReadyError: If the service was never published.
    """
    file = published_folder(layout) / f"{safe_name('service', service)}.json"
    if not file.exists():
        raise _missing(service)
    content = json.loads(file.read_text(encoding="utf-8"))
    groups = {
        name: tuple(Feature(**feature) for feature in content[name])
        for name in ("user", "histories", "item", "crosses")
    }
    return Definitions(context=tuple(content["context"]), **groups)


def _missing(service: str) -> NotReadyError:
    return NotReadyError(
        "the feature service is not published", field="service", value=service, remedy="run `freshrank features apply`"
    )


def import_feast() -> None:
    """Import Feast without torch, which it loads where it is installed and uses for nothing that we ask of it.

    That saves a third of the start of every step, and 450 MB. Nor does it make a folder for the metrics of a server of
    its own, which we never start: a killed process would leave that in the temp directory.
    """
    os.environ.setdefault("FEAST_USAGE", "False")
    if "feast" in sys.modules:
        return
    hidden = "torch" not in sys.modules
    if hidden:
        sys.modules["torch"] = None  # type: ignore[assignment]  # an import of it now fails, as if it were not installed
    try:
        with _no_metrics_folder():
            import feast.metrics  # noqa: F401
    finally:
        if hidden:
            del sys.modules["torch"]


@contextlib.contextmanager
def _no_metrics_folder() -> Iterator[None]:
    """Feast makes its folder where no variable names one; what counts in this process is counted without any."""
    import prometheus_client  # noqa: F401 - it looks at the variables once, now

    names = ("PROMETHEUS_MULTIPROCESS_DIR", "PROMETHEUS_MULTIPROC_DIR")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update({name: before[name] or os.devnull for name in names})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]


def _store(layout: Layout, registry: Path, online: OnlineStore | None) -> FeatureStore:
    import_feast()
    from feast import FeatureStore, RepoConfig
    from feast.repo_config import RegistryConfig

    config = RepoConfig(
        project=PROJECT,
        provider="local",
        registry=RegistryConfig(path=str(registry), cache_ttl_seconds=0),  # 0: read once; published files do not change
        # read for offline features alone; the gateway's environment has no ibis, and Feast's default imports without it
        offline_store={"type": "duckdb"} if online is None else {"type": "dask"},
        online_store=online.config() if online else None,
        entity_key_serialization_version=3,
        repo_path=layout.feast,
    )
    return FeatureStore(config=config)
