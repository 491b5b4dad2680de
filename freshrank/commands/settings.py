"""`freshrank settings`: every value, where it came from and what it means."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer


def command(
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON on stdout.")] = False,
) -> None:
    """Print every setting: its value, where it came from and what it means."""
    from freshrank import settings

    rows = settings.explain(settings.load())
    if as_json:
        print(json.dumps([asdict(row) for row in rows]))
        return
    width = max(len(row.name) for row in rows)
    for row in rows:
        print(f"{row.name:<{width}} = {row.value}\n{'':<{width}}   {row.meaning} [{row.origin}]")
