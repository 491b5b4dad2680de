"""`freshrank ingest`: Kafka to the event log, exactly once."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def command(
    until: Annotated[
        str, typer.Option(help="Say that the log is complete up to this moment of known time; RFC 3339.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON on stdout.")] = False,
    compact: Annotated[bool, typer.Option(help="Compact the days that are closed.")] = True,
) -> None:
    """Take in every event that Kafka holds now; what is no valid event goes to the dead letters with the reason."""
    from features.times import day_of_cut, parse_us
    from freshrank.pipeline import ingest
    from freshrank.settings import load

    settings = load()
    until_us = parse_us(until) if until else None
    day = None if until_us is None else day_of_cut(until_us)
    if day is not None:
        done = ingest.run(settings, day, compact=compact)
    else:
        done = ingest.take_in(settings, until_us, compact=compact)
    print(json.dumps(done.to_json()) if as_json else done.summary())
