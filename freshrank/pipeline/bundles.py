"""What steps ask of bundles that lie on disk, and which one is live."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from features.encoded import read_typed
from features.errors import NotReadyError
from features.layout import Layout
from serving.state import CHAMPION, ServingFile


@dataclass(frozen=True)
class BundleInfo:
    """What `bundle.json` says of how a bundle came to be.

    Args:
        model: Registered name of its model.
        encoder: Hash of the content encoders whose tokens it reads; None for a bundle without content.
        incumbent: The bundle that was live when it was trained, or None.
    """

    model: str
    encoder: str | None = None
    incumbent: str | None = None

    @classmethod
    def read(cls, layout: Layout, bundle: str) -> BundleInfo:
        """Read it.

        Raises:
            NotReadyError: If there is no such bundle.
            DataError: If it cannot be read.
        """
        path = layout.bundle(bundle) / "bundle.json"
        if not path.exists():
            remedy = "run `freshrank bundle` first"
            raise NotReadyError("no such bundle", field="bundle", value=bundle, remedy=remedy)
        return read_typed(cls, path, remedy="make the bundle again")

    def tokens(self, layout: Layout) -> Path | None:
        """The token store that it reads, listings newer than itself too; None for a bundle without content."""
        return layout.tokens(self.encoder) if self.encoder else None


def champion(layout: Layout) -> str | None:
    """The bundle that is live as champion, if there is one."""
    return ServingFile(layout).read().aliases.get(CHAMPION)


def incumbent_of(layout: Layout, bundle: str) -> str | None:
    """The bundle that a candidate is compared with: the champion, or, where the candidate is that by now (a run that
    is repeated after its deployment), the one it started beside."""
    live = champion(layout)
    return live if live != bundle else BundleInfo.read(layout, bundle).incumbent
