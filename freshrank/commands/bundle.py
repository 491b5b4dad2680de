"""`freshrank bundle`: everything that makes a day's scores, immutable, named by its content."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def command(
    date: Annotated[str, typer.Option(help="The run's day D, YYYY-MM-DD.")],
    model: Annotated[str, typer.Option(help="Registered model; by default train.model.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON on stdout.")] = False,
) -> None:
    """Bundle a day's training, and its window's popularity beside it."""
    from features.times import parse_date
    from freshrank.pipeline import bundle
    from freshrank.settings import load

    done = bundle.run(load(), parse_date(date), model=model)
    print(json.dumps(done.to_json()) if as_json else done.summary())
