"""`freshrank content encode`: titles, descriptions and photos of listings to tokens, once each."""

from __future__ import annotations

import json
from typing import Annotated

import typer

app = typer.Typer(help="Content tokens of listings.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep `content` a group while it has one command."""


@app.command()
def encode(
    date: Annotated[str, typer.Option(help="Listings as known at the cut of this day's run (YYYY-MM-DD).")] = "",
    everything: Annotated[bool, typer.Option("--all", help="All listings of the event log.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON on stdout.")] = False,
) -> None:
    """Encode what the token store does not have yet; what is missing or broken is masked and counted."""
    from features.errors import UsageError
    from features.times import parse_date
    from freshrank.pipeline import content
    from freshrank.settings import load

    if bool(date) == everything:
        raise UsageError("which listings", field="--date", value=date, remedy="give --date YYYY-MM-DD or --all")
    settings = load()
    done = content.encode(settings, None) if everything else content.run(settings, parse_date(date))
    print(json.dumps(done.to_json()) if as_json else done.summary())
