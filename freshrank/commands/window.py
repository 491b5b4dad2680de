"""`freshrank window`: seven days and an evaluation day, immutable and named by what they hold."""

from __future__ import annotations

import json
from typing import Annotated

import typer

app = typer.Typer(help="Windows: seven training days and an evaluation day.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Hold the group."""


@app.command()
def build(
    date: Annotated[str, typer.Option(help="The run's day D, YYYY-MM-DD: trains on the days before, evaluates on D.")],
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON on stdout.")] = False,
) -> None:
    """Build the window of a day; the same facts give the same id."""
    from features.times import parse_date
    from freshrank.pipeline import window
    from freshrank.settings import load

    done = window.run(load(), parse_date(date))
    print(json.dumps(done.to_json()) if as_json else done.summary())
