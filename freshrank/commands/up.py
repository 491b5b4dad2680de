"""`freshrank up`: start the stack."""

from __future__ import annotations

import json
import time
from typing import Annotated

import typer


def command(
    only: Annotated[str, typer.Option(help="Servers to start, separated by commas; all by default.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON on stdout.")] = False,
) -> None:
    """Start the stack and wait until every server did one real operation."""
    from freshrank import settings as all_settings
    from freshrank.stack import control

    settings, began = all_settings.load(), time.monotonic()
    ready = control.up(settings, only.split(",") if only else None)
    if as_json:
        print(json.dumps({"ready_s": {name: round(seconds, 2) for name, seconds in ready.items()}}))
    else:
        print(f"stack: {', '.join(ready) or 'nothing to start'}: ready in {time.monotonic() - began:.1f} s")
