"""`freshrank topics`: create or check the Kafka topics, list dead letters, write the event schemas."""

from __future__ import annotations

import json
import sys
import time
from typing import Annotated

import typer

app = typer.Typer(help="Kafka topics, their dead letters and their schemas.", invoke_without_command=True)
Json = Annotated[bool, typer.Option("--json", help="One line of JSON on stdout.")]


@app.callback()
def topics(ctx: typer.Context, as_json: Json = False) -> None:
    """Create the topics that are missing (not where `kafka.create_topics` is off) and check the others; exit 2 names
    those whose settings would lose events or may not be read."""
    if ctx.invoked_subcommand is not None:
        return
    from features.errors import UsageError
    from features.topics import ensure
    from freshrank.settings import load
    from freshrank.stack.addresses import resolve

    began = time.monotonic()
    found = ensure(resolve(load()).kafka)
    created = sum(topic.created for topic in found)
    if as_json:
        rows = [
            {"name": t.name, "broker_name": t.broker_name, "partitions": t.partitions, "created": t.created,
             "problems": t.problems, "notes": t.notes, "configs": t.configs}
            for t in found
        ]  # fmt: skip
        print(json.dumps({"created": created, "topics": rows}))
    else:
        for topic in found:
            said = [*topic.problems, *topic.notes] or ["created" if topic.created else "as it should be"]
            print(f"{topic.broker_name:24} {topic.partitions:4} partitions  {'; '.join(said)}")
        seconds = time.monotonic() - began
        print(f"{created} of {len(found)} topics created, the others checked, in {seconds:.1f} s", file=sys.stderr)
    if wrong := [topic.broker_name for topic in found if topic.problems]:
        raise UsageError(
            "topics are not as they should be, as the lines above say", field="kafka.topics", value=", ".join(wrong),
            remedy="alter them, or let us look (docs/sources.md names settings and rights); nothing was altered",
        )  # fmt: skip


def _left_out(letter: dict[str, object]) -> str:
    if "value_bytes" not in letter:
        return ""
    return f"(too long for a letter: {letter['value_bytes']:,} bytes, sha256 {letter.get('value_sha256', 'unknown')})"


@app.command()
def schemas(as_json: Json = False) -> None:
    """Write `features/schemas/*.json` from the event structs; refuses a change that breaks the version."""
    from features.compatibility import FOLDER, write_schemas
    from freshrank.checkout import need_checkout

    need_checkout("writing the schemas")
    changed = [file.name for file in write_schemas()]
    print(json.dumps({"changed": changed}) if as_json else f"{len(changed)} schemas changed in {FOLDER}")


@app.command()
def dead(as_json: Json = False) -> None:
    """List the dead letters: where each lay, why it is no event, and how its value begins."""
    from features.eventlog.dead import read
    from features.events import EVENTS
    from freshrank.settings import load
    from freshrank.stack.addresses import resolve

    kafka = resolve(load()).kafka
    letters = [(key, letter) for topic in EVENTS for key, letter in read(kafka, topic)]
    if as_json:
        print(json.dumps({"dead_letters": [letter for _, letter in letters]}))
        return
    for key, letter in letters:
        value = str(letter.get("value") or letter.get("value_base64") or _left_out(letter))
        print(f"{key:24} {letter['reason']}\n{'':24} {value[:150]}")
    print(f"{len(letters)} dead letters", file=sys.stderr)
