"""`freshrank labels`: what became of each shown item, as known at a day's cut."""

from __future__ import annotations

import json
import sys
import time
from typing import Annotated

import typer


def command(
    date: Annotated[str, typer.Option(help="The run's day D, YYYY-MM-DD; its cut is D+1 02:00 UTC.")],
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON on stdout.")] = False,
) -> None:
    """Label the requests of the window's days and of D as known at the cut; days without news are left alone."""
    from features.labels.run import label
    from features.times import parse_date
    from freshrank.settings import load

    settings = load()
    day = parse_date(date)
    began = time.monotonic()
    done = label(
        settings.layout, settings.features, settings.labels, day,
        days=settings.window.days, progress=lambda line: print(line, file=sys.stderr),
    )  # fmt: skip
    seconds = time.monotonic() - began
    if as_json:
        print(json.dumps(done.summary() | {"seconds": round(seconds, 3)}))
    else:
        print(f"{done.requests:,} requests labelled, {len(done.rewritten)} days rewritten, in {seconds:.1f} s")
