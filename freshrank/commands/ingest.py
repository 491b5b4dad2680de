"""`freshrank ingest`: Kafka to the event log, exactly once."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from features.eventlog.ingest import Ingested


def command(
    until: Annotated[
        str, typer.Option(help="Say that the log is complete up to this moment of known time; RFC 3339.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON on stdout.")] = False,
    compact: Annotated[bool, typer.Option(help="Compact the days that are closed.")] = True,
) -> None:
    """Take in every event that Kafka holds now; what is no valid event goes to the dead letters with the reason."""
    from features.eventlog.compact import compact_closed
    from features.eventlog.ingest import ingest
    from features.times import parse_us
    from freshrank.settings import load
    from freshrank.stack.addresses import resolve

    settings = resolve(load())
    until_us = parse_us(until) if until else None
    began = time.monotonic()

    def progress(topic: str, done: Ingested) -> None:
        print(f"{topic}: {done.events:,} events, {done.dead:,} dead letters", file=sys.stderr)

    done = ingest(settings.kafka, settings.layout, until=until_us, progress=progress)
    for topic, run in done.items():
        for line in warnings(topic, run):
            print(f"warning: {line}", file=sys.stderr)
    files = compact_closed(settings.layout) if compact else 0
    seconds = time.monotonic() - began
    events, dead = sum(run.events for run in done.values()), sum(run.dead for run in done.values())
    if as_json:
        by_topic = {
            topic: {
                "events": run.events, "dead_letters": run.dead, "from": run.rows_from, "to": run.rows_to,
                "hidden": run.hidden, "warnings": warnings(topic, run),
            }
            for topic, run in done.items()
        }  # fmt: skip
        answer = {"events": events, "dead_letters": dead, "until": until or None, "topics": by_topic}
        print(json.dumps(answer | {"files_compacted": files, "seconds": round(seconds, 3)}))
    else:
        print(f"{events:,} events ingested, {dead:,} dead letters, {files} files compacted, in {seconds:.1f} s")


def warnings(topic: str, run: Ingested) -> list[str]:
    """What of a topic's run an operator should look at although it went well.

    Args:
        topic: Our name of the topic.
        run: What was done with it.
    """
    from features.eventlog.share import describe
    from features.eventlog.table import Tally

    lines = []
    if run.dead:
        reason, count = run.reasons.most_common(1)[0]
        said = describe(Tally(run.events + run.dead, run.dead))
        lines.append(f"{topic}: {said}, {count:,} of them: {reason}; see `freshrank topics dead`")
    if run.few is not None:
        lines.append(
            f"{topic}: beyond kafka.max_invalid_share, and too few to stop the run; they count on with the next"
        )
    if run.hidden:
        where = ", ".join(f"partition {number}: {count:,} offsets" for number, count in sorted(run.hidden.items()))
        lines.append(f"{topic}: an open transaction hides records ({where}); a later run takes them in")
    return lines
