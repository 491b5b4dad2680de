"""`freshrank rollback`: the champion before this one, which is still loaded, gets the traffic again."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import Annotated

import typer


def command(
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON on stdout.")] = False,
) -> None:
    """Point champion to the bundle before it."""
    from freshrank.pipeline.deployment import rollback
    from freshrank.settings import load

    began = time.monotonic()
    report = rollback(load())
    seconds = time.monotonic() - began
    if as_json:
        print(json.dumps({**asdict(report), "seconds": round(seconds, 3)}))
        return
    rest = f"; draining {', '.join(report.draining)}" if report.draining else ""
    rest += f"; retired {', '.join(report.retired)}" if report.retired else ""
    print(
        f"rollback: {report.bundle} is champion again: {report.triton_model} version {report.version}, "
        f"generation {report.generation}{rest}{report.gateways()}; {seconds:.1f} s"
    )
