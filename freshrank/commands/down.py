"""`freshrank down`: stop the stack."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def command(as_json: Annotated[bool, typer.Option("--json", help="One line of JSON on stdout.")] = False) -> None:
    """Stop the stack; no process and no port is left."""
    from freshrank import settings as all_settings
    from freshrank.stack import control

    ended = control.down(all_settings.load())
    if as_json:
        print(json.dumps({"processes_ended": ended}))
