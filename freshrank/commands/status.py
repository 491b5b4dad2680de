"""`freshrank status`: how each server is."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer


def command(as_json: Annotated[bool, typer.Option("--json", help="One line of JSON on stdout.")] = False) -> None:
    """Say each server's state, address, memory and age."""
    from freshrank import settings as all_settings
    from freshrank.stack import control

    rows = control.status(all_settings.load())
    total = round(sum(row.pss_mb for row in rows), 1)
    if as_json:
        print(json.dumps({"servers": [asdict(row) for row in rows], "pss_mb": total}))
        return
    for row in rows:
        memory = f"{row.pss_mb:>8.1f} MiB {_age(row.age_s):>9}"
        print(f"{row.name:<11} {row.state:<9} {memory}  {row.address}  {row.reason}".rstrip())
    print(f"{'together':<11} {'':<9} {total:>8.1f} MiB")


def _age(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s"
