"""`freshrank window`: seven days and an evaluation day, immutable and named by what they hold."""

from __future__ import annotations

import json
import sys
import time
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
    from features.content.encode import encoder_hash
    from features.times import parse_date
    from features.window.build import build as build_window
    from freshrank.settings import load

    settings = load()
    day = parse_date(date)
    began = time.monotonic()
    window = build_window(
        settings.layout, settings.features, settings.labels, {"content": encoder_hash(settings.content)}, day,
        days=settings.window.days, progress=lambda line: print(line, file=sys.stderr),
    )  # fmt: skip
    seconds = time.monotonic() - began
    if as_json:
        print(json.dumps(window.summary() | {"seconds": round(seconds, 3)}))
        return
    print(
        f"window {window.window_id[:12]}{'' if window.new else ' (as before)'}: {len(window.days)} days, "
        f"{window.rows:,} requests, {window.eval_rows:,} to evaluate, in {seconds:.1f} s"
    )
