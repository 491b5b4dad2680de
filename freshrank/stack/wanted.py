"""Which of the stack's own servers should run: what `up` was asked for since the last `down`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from features.atomic import write_text
from freshrank.stack.servers import all_servers

if TYPE_CHECKING:
    from freshrank.settings import Settings


def names(settings: Settings) -> list[str]:
    """Names of the servers that should run.

    Where `up` was never asked, that is all of them; but where settings name every server elsewhere that they can, there
    is no stack here at all.
    """
    own = [server.name for server in all_servers().values() if not server.is_external(settings)]
    asked = _asked(settings)
    if asked is None:
        nameable = [server for server in all_servers().values() if server.can_be_external]
        asked = [] if all(server.is_external(settings) for server in nameable) else own
    return [name for name in own if name in asked]


def add(settings: Settings, more: Iterable[str]) -> None:
    """Write down that servers were asked for, beside those before them; `down` removes it with the run's folder."""
    write_text(_file(settings), json.dumps(sorted({*(_asked(settings) or []), *more})))


def _asked(settings: Settings) -> list[str] | None:
    try:
        return list(json.loads(_file(settings).read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        return None


def _file(settings: Settings) -> Path:
    return settings.layout.run / "wanted.json"
