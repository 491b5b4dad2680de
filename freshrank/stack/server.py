"""What the stack has to know of a server."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from freshrank.checkout import need_checkout

if TYPE_CHECKING:
    from freshrank.settings import Settings


class NotYet(Exception):
    """A probe did not succeed; its text is the reason, in a few words."""


@dataclass(frozen=True)
class Program:
    """One process that the supervisor keeps alive.

    Args:
        name: Its name, also that of its log.
        command: Executable and arguments, paths absolute.
        environment: Variables to set beside those it inherits.
        stop_s: Seconds it gets to end before it is killed with its process group.
        directory: Its working folder; the checkout where none is named.
    """

    name: str
    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    stop_s: int = 10
    directory: Path | None = None


class Server(ABC):
    """One server of the stack: one or more programs that are ready or not together."""

    name: str
    ready_within_s: float = 180.0
    can_be_external: bool = False  # whether there is a setting that names one elsewhere

    def is_external(self, settings: Settings) -> bool:  # noqa: ARG002
        """Whether settings name one elsewhere, so that none is started."""
        return False

    @abstractmethod
    def address(self, settings: Settings) -> str:
        """Where clients find it."""

    @abstractmethod
    def ports(self, settings: Settings) -> tuple[int, ...]:
        """The ports it binds on loopback."""

    @abstractmethod
    def programs(self, settings: Settings) -> tuple[Program, ...]:
        """Its processes."""

    @abstractmethod
    def prepare(self, settings: Settings) -> None:
        """Write its files and make its folders; safe to run again.

        Raises:
            NotReadyError: If a part is missing that the set-up brings.
        """

    @abstractmethod
    def look(self, settings: Settings) -> str:
        """Ask whether it works, and change nothing: neither the server nor what it holds.

        Also of a server elsewhere that settings name.

        Returns:
            What works in part only, in a few words; empty where all does.

        Raises:
            NotYet: If it does not work.
            FreshrankError: If it does not answer or refuses us.
        """

    def probe(self, settings: Settings) -> None:
        """Do one real operation, and mend on the way what can be mended; a look where none is more real.

        Raises:
            NotYet: If it did not work.
        """
        self.look(settings)

    def settle(self, settings: Settings) -> None:  # noqa: B027
        """What remains to be done once it is ready, such as making it serve what is live; nothing by default."""


def project_root() -> Path:
    """The checkout, from which the stack's servers run.

    Raises:
        UsageError: If this is an installed package.
    """
    return need_checkout(
        "the local stack", instead="name your own servers (kafka.bootstrap_servers, redis.url, triton.url)"
    )


def setup_folder() -> Path:
    """What the set-up brought.

    Raises:
        UsageError: If this is an installed package.
    """
    return project_root() / ".setup"
