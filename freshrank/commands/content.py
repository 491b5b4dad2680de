"""`freshrank content encode`: titles, descriptions and photos of listings to tokens, once each."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
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
    from features import times
    from features.content.catalogue import known_items, publish
    from features.content.encode import Counts, encode_items
    from features.errors import UsageError
    from freshrank import settings as all_settings

    if bool(date) == everything:
        raise UsageError("which listings", field="--date", value=date, remedy="give --date YYYY-MM-DD or --all")
    settings = all_settings.load()
    before = None if everything else times.run_cut(times.parse_date(date))

    def progress(counts: Counts) -> None:
        done = f"{counts.texts_encoded} texts and {counts.images_encoded} photos encoded"
        print(f"content encode: {counts.items} contents met, {done}", file=sys.stderr, flush=True)

    counts = encode_items(known_items(settings.layout, before), settings.content, settings.layout, progress)
    listings = publish(settings.layout, before)
    if as_json:
        print(json.dumps({**asdict(counts), "listings": listings}))
        return
    flaws = {flaw: getattr(counts, f"images_{flaw}") for flaw in ("missing", "refused", "unreachable", "broken")}
    masked = ", ".join(f"{n} {flaw}" for flaw, n in flaws.items() if n)
    print(
        f"content encode: {counts.items} contents of {listings} listings in {counts.seconds:.1f} s: "
        f"{counts.texts_encoded} texts and {counts.images_encoded} photos encoded, {counts.texts_known} and "
        f"{counts.images_known} known before; masked: {counts.texts_missing} texts, {sum(flaws.values())} photos"
        f"{f' ({masked})' if masked else ''}; store {counts.encoder}"
    )
