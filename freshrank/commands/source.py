"""`freshrank source`: publish a source's events to Kafka; describe a source."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Sources of events.", no_args_is_help=True)


@app.command()
def replay(
    source: Annotated[str, typer.Argument(help="An installed source, such as city or completejourney.")],
    first: Annotated[str, typer.Option("--from", help="First moment, YYYY-MM-DD (midnight UTC) or RFC 3339.")],
    last: Annotated[str, typer.Option("--to", help="Moment at which it ends, not included; as --from.")],
    pace: Annotated[float, typer.Option(min=0, help="Seconds of event time in a second; 0 is full speed.")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of what the source draws.")] = 0,
    photos: Annotated[
        Path | None, typer.Option(help="completejourney: folder of the GroceryStoreDataset; none: items without photo.")
    ] = None,
    options: Annotated[
        list[str] | None, typer.Option("--set", help="city: name=value of its settings, such as requests_per_day=500.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON on stdout.")] = False,
) -> None:
    """Publish a range of a source's events with their own times; publishing it again adds nothing that counts twice."""
    from features.errors import UsageError
    from features.publish import publish
    from features.times import format_us
    from freshrank.settings import load
    from freshrank.sources import find
    from freshrank.stack.addresses import resolve

    settings = resolve(load())
    from_us, to_us = _moment(first), _moment(last)
    found = find(source)
    if from_us >= to_us:
        raise UsageError("the range is empty", field="to", value=last, remedy="name a later moment than --from")
    records = found.records(from_us, to_us, layout=settings.layout, seed=seed, photos=photos, options=options or [])
    began = time.monotonic()

    def progress(count: int, time_us: int) -> None:
        print(f"{count:,} events, at {format_us(time_us)}", file=sys.stderr)

    done = publish(settings.kafka, records, pace=pace or None, progress=progress)
    seconds = time.monotonic() - began
    if as_json:
        print(json.dumps({"source": source, "published": done.total, "topics": done.counts, "seconds": seconds}))
    else:
        topics = ", ".join(f"{count:,} {topic}" for topic, count in sorted(done.counts.items()))
        print(f"{done.total:,} events of {source} published ({topics or 'none'}) in {seconds:.1f} s")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})
def describe(ctx: typer.Context, source: Annotated[str, typer.Argument(help="city")]) -> None:
    """Describe a source, and what can be learnt from it, in a report; `describe city --help` lists its options."""
    from freshrank.settings import load
    from freshrank.sources import find

    found, settings = find(source), load()
    found.describe(ctx.args, settings.layout, settings.content)


def _moment(text: str) -> int:
    from features.times import day_start, parse_date, parse_us

    return day_start(parse_date(text)) if len(text) == len("YYYY-MM-DD") else parse_us(text)
