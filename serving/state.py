"""What is live: `state/serving.json`, the only truth.

Every change happens under a file lock, is written beside, fsynced and renamed, and raises the generation by one.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

import msgspec
from msgspec import Struct

from features import atomic
from features.errors import DataError
from features.layout import Layout

CHAMPION, CHALLENGER, POPULARITY = "champion", "challenger", "popularity"
ALIASES = (CHAMPION, CHALLENGER, POPULARITY)
LOCK_TIMEOUT_S = 30.0


class VersionState(StrEnum):
    """Where a version stands."""

    STAGED = "STAGED"  # it has a number
    LOADED = "LOADED"  # Triton has it beside the others
    PROBED = "PROBED"  # it scores the bundle's probes as the trainer did
    LIVE = "LIVE"  # an alias, or the way back, points to it
    DRAINING = "DRAINING"  # nothing points to it; requests that began before may still use it
    RETIRED = "RETIRED"  # Triton no longer has it
    FAILED = "FAILED"  # it never went live; `reason` says why


NEXT: dict[VersionState, tuple[VersionState, ...]] = {
    VersionState.STAGED: (VersionState.LOADED, VersionState.FAILED),
    VersionState.LOADED: (VersionState.PROBED, VersionState.FAILED),
    VersionState.PROBED: (VersionState.LIVE, VersionState.FAILED),
    VersionState.LIVE: (VersionState.DRAINING,),
    VersionState.DRAINING: (VersionState.LIVE, VersionState.RETIRED),
    VersionState.RETIRED: (VersionState.STAGED,),
    VersionState.FAILED: (VersionState.STAGED,),
}
LOADED_STATES = (VersionState.LOADED, VersionState.PROBED, VersionState.LIVE, VersionState.DRAINING)


class Version(Struct, frozen=True, omit_defaults=True):
    """One bundle in Triton.

    Args:
        triton_model: Triton's model name.
        version: Triton's version number; a number is never used for a second bundle.
        state: Where it stands.
        reason: Why it failed.
        drained: The first generation in which nothing pointed to it any more.
    """

    triton_model: str
    version: int
    state: VersionState
    reason: str | None = None
    drained: int | None = None

    def to(self, state: VersionState, *, reason: str | None = None, drained: int | None = None) -> Version:
        """The version in its next state.

        Raises:
            ValueError: If that state cannot follow this one.
        """
        if state not in NEXT[self.state]:
            raise ValueError(f"{state} cannot follow {self.state}")
        return msgspec.structs.replace(self, state=state, reason=reason, drained=drained)


class Serving(Struct, frozen=True):
    """The whole truth at one moment.

    Args:
        generation: Counts the changes.
        next_version: The next version number.
        aliases: `champion`, `challenger`, `popularity` → bundle id.
        previous: The bundle that `rollback` makes champion again.
        versions: Bundle id → version.
    """

    generation: int = 0
    next_version: int = 1
    aliases: dict[str, str] = {}
    previous: str | None = None
    versions: dict[str, Version] = {}

    def alias(self, name: str) -> tuple[str, Version] | None:
        """Bundle id and version behind an alias, or None."""
        bundle = self.aliases.get(name)
        return (bundle, self.versions[bundle]) if bundle is not None else None

    def points_to(self, bundle: str) -> bool:
        """Whether an alias or the way back needs this bundle loaded."""
        return bundle in self.aliases.values() or bundle == self.previous

    def with_version(self, bundle: str, version: Version) -> Serving:
        """The truth with one version replaced."""
        return msgspec.structs.replace(self, versions={**self.versions, bundle: version})

    def pointing(self, alias: str, bundle: str, previous: str | None) -> Serving:
        """The truth with an alias moved; what nothing points to any more drains from this generation on.

        Args:
            alias: The alias to move.
            bundle: The bundle it then names; PROBED, LIVE or DRAINING.
            previous: The bundle that `rollback` then goes back to.
        """
        moved = msgspec.structs.replace(self, aliases={**self.aliases, alias: bundle}, previous=previous)
        versions = dict(moved.versions)
        for name, version in versions.items():
            if moved.points_to(name) and version.state is not VersionState.LIVE:
                versions[name] = version.to(VersionState.LIVE)
            elif not moved.points_to(name) and version.state is VersionState.LIVE:
                versions[name] = version.to(VersionState.DRAINING, drained=self.generation + 1)
        return msgspec.structs.replace(moved, versions=versions)


class ServingFile:
    """`state/serving.json`.

    Args:
        layout: Folders of the stack.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self.path = layout.serving_state

    def read(self) -> Serving:
        """The truth now; an empty one before the first deploy.

        Raises:
            DataError: If the file is damaged.
        """
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=Serving)
        except FileNotFoundError:
            return Serving()
        except msgspec.MsgspecError as error:
            raise DataError(
                f"serving state is damaged: {error}",
                field="state",
                value=str(self.path),
                remedy="restore it from a copy, or remove it and deploy again",
            ) from error

    def change(self, change: Callable[[Serving], Serving]) -> Serving:
        """Change the truth.

        Args:
            change: From the current truth to the next; its generation is set here. Where it returns its argument,
                nothing changes.

        Returns:
            The truth after the change.

        Raises:
            LockedError: If another change does not end.
        """
        with atomic.lock(self._layout.lock("serving"), timeout_s=LOCK_TIMEOUT_S):
            current = self.read()
            wanted = change(current)
            if wanted is current:
                return current
            wanted = msgspec.structs.replace(wanted, generation=current.generation + 1)
            atomic.write_bytes(self.path, msgspec.json.format(msgspec.json.encode(wanted), indent=1) + b"\n")
            return wanted
