"""`freshrank labels`: what became of each shown item, as known at a day's cut."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def command(
    date: Annotated[str, typer.Option(help="The run's day D, YYYY-MM-DD; its cut is D+1 02:00 UTC.")],
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON on stdout.")] = False,
) -> None:
    """Label the requests of the window's days and of D as known at the cut; days without news are left alone."""
    from features.times import parse_date
    from freshrank.pipeline import labels
    from freshrank.settings import load

    done = labels.run(load(), parse_date(date))
    print(json.dumps(done.to_json()) if as_json else done.summary())
