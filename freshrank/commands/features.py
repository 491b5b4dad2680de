"""`freshrank features`: Feast's definitions, and snapshots of values offline and online."""

from __future__ import annotations

import json
import time
from typing import Annotated

import typer

app = typer.Typer(help="Features by Feast: definitions and snapshots.", no_args_is_help=True)
_Json = Annotated[bool, typer.Option("--json", help="One line of JSON on stdout.")]


@app.command()
def apply(as_json: _Json = False) -> None:
    """Register the feature definitions and publish the registry; a service's name holds their hash."""
    from features.store.registry import OnlineStore
    from features.store.registry import apply as apply_definitions
    from freshrank.settings import load
    from freshrank.stack.addresses import resolve

    settings = resolve(load())
    began = time.monotonic()
    service = apply_definitions(settings.layout, settings.features, OnlineStore(redis=settings.redis))
    seconds = time.monotonic() - began
    if as_json:
        print(json.dumps({"service": service, "seconds": round(seconds, 3)}))
    else:
        print(f"feature service {service} published in {seconds:.1f} s")


@app.command()
def columns(as_json: _Json = False) -> None:
    """Print the data dictionary: every column of a window, as the settings make it."""
    from dataclasses import asdict

    from features.dictionary import markdown
    from features.window.columns import columns as columns_of
    from freshrank.settings import load

    found = columns_of(load().features)
    if as_json:
        print(json.dumps({"columns": [asdict(column) for column in found]}, ensure_ascii=False))
    else:
        print(markdown(found), end="")


@app.command()
def materialize(
    date: Annotated[str, typer.Option(help="The run's day D, YYYY-MM-DD: values as of its cut, D+1 02:00 UTC.")],
    as_json: _Json = False,
) -> None:
    """Make the snapshots that the day's window needs and put the newest into the online store."""
    from features.times import parse_date
    from freshrank.pipeline import features
    from freshrank.settings import load

    done = features.run(load(), parse_date(date))
    print(json.dumps(done.to_json()) if as_json else done.summary())
