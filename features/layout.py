"""Where things lie below the stack's folder (`stack.dir`, by default `.freshrank/`)."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from pathlib import Path

from features.errors import UsageError

_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
# What Delta's writer cannot have in a path: it takes it as another path, or dies of it.
_NO_PATH = re.compile(r"[\x00-\x1f\x7f\[\]\\^|\ud800-\udfff]|%[0-9A-Fa-f]{2}")


def safe_name(field: str, value: str) -> str:
    """The value, if it can be a single path component.

    Raises:
        UsageError: If it holds anything but letters, digits, `.`, `_` and `-`, or begins with neither of the first two.
    """
    if not _SAFE.fullmatch(value):
        raise UsageError(
            "not a safe name", field=field, value=value, remedy="use letters, digits, '.', '_' and '-', 128 at most"
        )
    return value


@dataclass(frozen=True)
class Layout:
    """The folders of one stack.

    Args:
        root: The stack's folder, absolute.

    Raises:
        UsageError: If the folder's path holds what no Delta table can lie below.

    Example:
        >>> Layout(Path("/data/50%25 off"))
        Traceback (most recent call last):
        features.errors.UsageError: no Delta table can lie below it: stack.dir = '/data/50%25 off'; rename '%25' in it
    """

    root: Path

    def __post_init__(self) -> None:
        if found := _NO_PATH.search(str(self.root)):
            raise UsageError(
                "no Delta table can lie below it", field="stack.dir", value=str(self.root),
                remedy=f"rename {found[0]!r} in it",
            )  # fmt: skip

    @property
    def run(self) -> Path:
        """Process state of the local stack."""
        return self.root / "run"

    @property
    def logs(self) -> Path:
        """Logs of servers and steps."""
        return self.root / "logs"

    @property
    def lake(self) -> Path:
        """The event log's Delta tables."""
        return self.root / "lake"

    def table(self, topic: str) -> Path:
        """The Delta table of a topic, or `requests`."""
        return self.lake / safe_name("topic", topic)

    @property
    def feast(self) -> Path:
        """Feast registry, its snapshots, and feature sources."""
        return self.root / "feast"

    @property
    def state(self) -> Path:
        """What is live."""
        return self.root / "state"

    @property
    def serving_state(self) -> Path:
        """`state/serving.json`, the only truth of what is live."""
        return self.state / "serving.json"

    @property
    def triton_repository(self) -> Path:
        """Triton's model repository."""
        return self.root / "triton" / "repository"

    @property
    def windows(self) -> Path:
        """All windows."""
        return self.root / "windows"

    def window(self, window_id: str) -> Path:
        """One training window."""
        return self.windows / safe_name("window", window_id)

    @property
    def bundles(self) -> Path:
        """All bundles and their blessings."""
        return self.root / "bundles"

    def bundle(self, bundle_id: str) -> Path:
        """One bundle."""
        return self.bundles / safe_name("bundle", bundle_id)

    def checkpoint(self, name: str) -> Path:
        """Checkpoints of one training."""
        return self.root / "checkpoints" / safe_name("checkpoint", name)

    def tokens(self, encoder_hash: str) -> Path:
        """Content tokens of one encoder."""
        return self.root / "tokens" / safe_name("encoder", encoder_hash)

    def blob(self, sha256: str) -> Path:
        """A content-addressed blob, such as a photo.

        Raises:
            UsageError: If the hash is not 64 hexadecimal digits.
        """
        if not re.fullmatch(r"[0-9a-f]{64}", sha256):
            raise UsageError("not a sha256", field="sha256", value=sha256, remedy="give 64 hexadecimal digits")
        return self.root / "blobs" / sha256[:2] / sha256

    def truth(self, source: str) -> Path:
        """What only the simulation and the reports may read."""
        return self.root / "sources" / safe_name("source", source) / "truth"

    def lock(self, name: str) -> Path:
        """A lock file."""
        return self.root / "locks" / f"{safe_name('lock', name)}.lock"

    def step(self, day: dt.date, step: str) -> Path:
        """What a step of a day's run left for the next: small JSON, replaced whole."""
        return self.state / "steps" / day.isoformat() / f"{safe_name('step', step)}.json"
