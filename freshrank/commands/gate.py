"""`freshrank gate`: may a day's bundle replace the incumbent? A refusal is an answer, not an error."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def command(
    date: Annotated[str, typer.Option(help="The run's day D, YYYY-MM-DD.")],
    model: Annotated[str, typer.Option(help="Registered model; by default train.model.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON on stdout.")] = False,
) -> None:
    """Decide by the evaluation of day D, and write the blessing with its reasons."""
    from features.times import parse_date
    from freshrank.pipeline import gate
    from freshrank.settings import load

    decision = gate.run(load(), parse_date(date), model=model)
    if as_json:
        print(json.dumps(decision.to_json()))
        return
    print(decision.summary())
    for reason in decision.reasons:
        print(f"  {reason}")
