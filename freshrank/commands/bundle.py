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
    from freshrank.retrain import bundle

    done = bundle(parse_date(date), model or None)
    if as_json:
        print(json.dumps(vars(done)))
        return
    print(
        f"bundle {done.bundle}: {done.model}, {done.megabytes:.1f} MB, popularity {done.popularity}, "
        f"in {done.seconds:.1f} s"
    )
