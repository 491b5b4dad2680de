"""From a bundle to traffic, one recorded step at a time, so that a killed deployment goes on where it was.

STAGED → LOADED → PROBED → LIVE: a version number, the version beside the others in Triton, the bundle's probes scored
as the trainer scored them, the alias. The alias's write is the commit point. What nothing points to any more drains
until every gateway has acknowledged, then retires. Each step can be repeated.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from features import atomic
from features.errors import DataError, FreshrankError, LockedError, UnreachableError, UsageError
from features.layout import Layout
from features.times import format_us
from serving.acknowledgements import Gateways, gateways_at
from serving.export import Repository, describe, verify
from serving.probes import probe
from serving.state import (
    CHAMPION,
    LOADED_STATES,
    Serving,
    ServingFile,
    Version,
    VersionState,
)
from serving.triton import Control

POLL_S = 0.05


@dataclass
class Report:
    """What a deployment or a roll-back did.

    Args:
        bundle: The bundle that is live now.
        alias: Under which alias.
        triton_model: Triton's model.
        version: Its version.
        generation: The generation of the truth that says so.
        already: Whether it was live before.
        probes: Probes that were scored.
        probe_max_abs: Largest difference from the trainer's logits.
        retired: Bundles that Triton dropped.
        draining: Bundles that gateways may still use.
        behind: Gateways that have not acknowledged this generation: what they do with it nobody knows.
        silent: Gateways that did not acknowledge it and have not been heard of since, RFC 3339.
    """

    bundle: str
    alias: str
    triton_model: str = ""
    version: int = 0
    generation: int = 0
    already: bool = False
    probes: int = 0
    probe_max_abs: float = 0.0
    retired: list[str] = field(default_factory=list)
    draining: list[str] = field(default_factory=list)
    behind: list[str] = field(default_factory=list)
    silent: dict[str, str] = field(default_factory=dict)

    def gateways(self) -> str:
        """The gateways that a user has to look after, for the line that says what was done; empty if there are none."""
        said = f"; not acknowledged by {', '.join(self.behind)}" if self.behind else ""
        return said + "".join(f"; {name} is silent since {since}" for name, since in self.silent.items())


class Deployer:
    """Deploys bundles to one Triton.

    Args:
        layout: Folders of the stack.
        repository: Triton's model repository.
        triton: Triton's control side.
        request_timeout_s: The longest that a request lasts at any gateway.
        drain_s: How long to wait for gateways to acknowledge; what still drains then retires at the next call.
        sleep: Waits so many seconds.
        monotonic: A clock, seconds.
    """

    def __init__(
        self,
        layout: Layout,
        repository: Repository,
        triton: Control,
        *,
        request_timeout_s: float = 1.0,
        drain_s: float = 60.0,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.layout, self.repository, self.triton = layout, repository, triton
        self.request_timeout_s, self.drain_s = request_timeout_s, drain_s
        self.state = ServingFile(layout)
        self._sleep, self._monotonic = sleep, monotonic

    def deploy(self, bundle: str, alias: str = CHAMPION, tokens: Path | None = None) -> Report:
        """Bring a bundle live under an alias; a bundle that is live already stays as it is.

        Args:
            bundle: The bundle's id.
            alias: `champion`, `challenger` or `popularity`.
            tokens: Token store with content newer than the bundle, or None.

        Returns:
            What was done.

        Raises:
            LockedError: If another deployment is at work.
            NotReadyError: If there is no such bundle.
            DataError: If the bundle is corrupt, Triton cannot load it, or it scores otherwise than the trainer did.
            UnreachableError: If Triton does not answer; deploying again goes on from there.
        """
        report = Report(bundle, alias)
        with self._alone():
            found = self.state.read().alias(alias)
            if found and found[0] == bundle:
                report.already = True
            else:
                verify(self.layout.bundle(bundle))
                self._stage(bundle)
                self._load(bundle, tokens)
                self._probe(bundle, report)
                self.state.change(lambda now: _commit(now, bundle, alias))
            self._finish(report)
        return report

    def rollback(self) -> Report:
        """Point `champion` to the bundle before it, which is still loaded, so that this takes one write.

        It does not wait for a deployment at work; the bundle that was champion drains and retires.

        Raises:
            UsageError: If there is nothing to go back to.
        """

        def back(now: Serving) -> Serving:
            if now.previous is None:
                raise UsageError(
                    "nothing to roll back to", field="previous", value=None, remedy="deploy a bundle by its id"
                )
            return now.pointing(CHAMPION, now.previous, None)

        now = self.state.change(back)
        report = Report(now.aliases[CHAMPION], CHAMPION)
        self._describe(report, now)
        try:
            with self._alone():
                self._finish(report)
        except (UnreachableError, LockedError):  # the roll-back is done; retiring can wait for the next call
            self._tell(report, self._wait(report.generation))
        return report

    def reconcile(self, tokens: Callable[[str], Path | None] = lambda _: None) -> list[str]:
        """Make Triton serve what `serving.json` says, as after its restart.

        Args:
            tokens: From a bundle whose folder has to be made again to its token store.

        Returns:
            Models that had to be loaded.
        """
        loaded = []
        with self._alone():
            now = self.state.read()
            for model, versions in _by_model(now).items():
                for bundle, version in versions.items():
                    if not self.repository.placed(model, version.version):
                        verify(self.layout.bundle(bundle))
                        self.repository.place(self.layout.bundle(bundle), model, version.version, tokens(bundle))
                some = next(iter(versions))
                numbers = [version.version for version in versions.values()]
                if self.repository.configured(model):
                    self.repository.select(model, numbers)
                else:
                    self.repository.configure(describe(self.layout.bundle(some)), numbers)
                if not all(self.triton.ready(model, number) for number in numbers):
                    self.triton.load(model)
                    loaded.append(model)
        return loaded

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with atomic.lock(self.layout.lock("deploy")):
            yield

    def _stage(self, bundle: str) -> None:
        """Give the bundle a version number, unless it has one from a deployment that was cut short."""
        name = describe(self.layout.bundle(bundle)).name

        def stage(now: Serving) -> Serving:
            version = now.versions.get(bundle)
            if version is not None and version.state not in (VersionState.RETIRED, VersionState.FAILED):
                return now
            fresh = Version(name, now.next_version, VersionState.STAGED)
            return msgspec.structs.replace(now.with_version(bundle, fresh), next_version=now.next_version + 1)

        self.state.change(stage)

    def _load(self, bundle: str, tokens: Path | None) -> None:
        """Have the version in Triton, whatever the record says: Triton may have restarted since."""
        now = self.state.read()
        version = now.versions[bundle]
        model, number = version.triton_model, version.version
        beside = [other.version for other in _by_model(now).get(model, {}).values()]
        self.repository.place(self.layout.bundle(bundle), model, number, tokens)
        self.repository.configure(describe(self.layout.bundle(bundle)), {*beside, number})
        if not self.triton.ready(model, number):
            try:
                self.triton.load(model)
            except UnreachableError:
                raise
            except FreshrankError as error:
                raise self._fail(bundle, str(error)) from error
            if not self.triton.ready(model, number):
                raise self._fail(bundle, "Triton loaded the model but the version is not ready")
        if version.state is VersionState.STAGED:
            self._record(bundle, VersionState.LOADED)

    def _probe(self, bundle: str, report: Report) -> None:
        """Score the bundle's probes in Triton and compare with the trainer's scores."""
        version = self.state.read().versions[bundle]
        try:
            report.probes, report.probe_max_abs = probe(self.layout.bundle(bundle), version, self.triton)
        except UnreachableError:
            raise
        except FreshrankError as error:
            if version.state in (VersionState.LIVE, VersionState.DRAINING):  # it serves, or did: leave it where it is
                raise
            raise self._fail(bundle, str(error)) from error
        if version.state is VersionState.LOADED:
            self._record(bundle, VersionState.PROBED)

    def _fail(self, bundle: str, reason: str) -> DataError:
        """Take a version out of Triton and write why; the versions beside it never noticed."""
        version = self.state.read().versions[bundle]
        self._drop(bundle)
        self._record(bundle, VersionState.FAILED, reason[:2000])
        return DataError(
            f"deployment of {bundle} failed, what was live stays live: {reason}",
            field="version",
            value=f"{version.triton_model}/{version.version}",
            remedy="see Triton's log; make the bundle again",
        )

    def _drop(self, bundle: str) -> None:
        """Have Triton without the bundle's version, the other versions of its model untouched."""
        now = self.state.read()
        version = now.versions[bundle]
        others = [
            other.version for name, other in _by_model(now).get(version.triton_model, {}).items() if name != bundle
        ]
        if others:
            self.repository.select(version.triton_model, others)
            self.triton.load(version.triton_model)
            self.repository.remove(version.triton_model, version.version)
        else:
            self.triton.unload(version.triton_model)
            self.repository.remove(version.triton_model)

    def _finish(self, report: Report) -> None:
        """Retire what has drained, and fill in the report."""
        now = self.state.read()
        self._describe(report, now)
        self._tell(report, self._wait(now.generation))
        draining = {n: v for n, v in now.versions.items() if v.state is VersionState.DRAINING}
        drained = max((version.drained or 0 for version in draining.values()), default=0)
        if draining and not gateways_at(self.layout, drained).behind:
            self._sleep(self.request_timeout_s)  # requests that began before their gateway acknowledged
            for bundle in draining:
                self._drop(bundle)
                self._record(bundle, VersionState.RETIRED)
                report.retired.append(bundle)
        report.draining = [name for name in draining if name not in report.retired]

    def _record(self, bundle: str, state: VersionState, reason: str | None = None) -> None:
        """Write down that a version has come to its next state."""
        self.state.change(lambda now: now.with_version(bundle, now.versions[bundle].to(state, reason=reason)))

    def _wait(self, generation: int) -> Gateways:
        """Wait until every gateway that is heard of serves by this generation, or the time to wait is over."""
        deadline = self._monotonic() + self.drain_s
        while (found := gateways_at(self.layout, generation)).behind and self._monotonic() < deadline:
            self._sleep(POLL_S)
        return found

    @staticmethod
    def _tell(report: Report, found: Gateways) -> None:
        """Name the gateways that have not acknowledged."""
        report.behind = list(found.behind)
        report.silent = {name: format_us(heard_us) for name, heard_us in found.silent.items()}

    def _describe(self, report: Report, now: Serving) -> None:
        version = now.versions[report.bundle]
        report.triton_model, report.version, report.generation = version.triton_model, version.version, now.generation


def _commit(now: Serving, bundle: str, alias: str) -> Serving:
    """The alias points to the bundle; the champion before it stays loaded as the way back."""
    before = now.aliases.get(CHAMPION)
    if alias == CHAMPION and before is not None and before != bundle:
        return now.pointing(alias, bundle, before)
    return now.pointing(alias, bundle, now.previous)


def _by_model(now: Serving) -> dict[str, dict[str, Version]]:
    """Triton model → bundle → version, of those that Triton must have."""
    found: dict[str, dict[str, Version]] = {}
    for bundle, version in now.versions.items():
        if version.state in LOADED_STATES:
            found.setdefault(version.triton_model, {})[bundle] = version
    return found
