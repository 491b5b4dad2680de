"""`freshrank catalog check`: the listings whose text and photo do not belong together."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="The catalogue: listings and what is wrong with them.", no_args_is_help=True)
SHOWN = 20


@app.callback()
def _group() -> None:
    """Keep `catalog` a group while it has one command."""


@app.command()
def check(
    date: Annotated[str, typer.Option(help="The day D, YYYY-MM-DD, whose requests showed the listings.")],
    bundle: Annotated[str, typer.Option(help="Bundle whose alignment heads judge; by default the champion.")] = "",
    out: Annotated[Path | None, typer.Option(help="File for every listing judged: JSON, one a line.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON on stdout.")] = False,
) -> None:
    """List the listings whose text and photo agree least in a bundle's eyes, and count those it could not judge."""
    import torch

    from features import atomic
    from features.times import parse_date
    from freshrank.analysis import catalogue
    from freshrank.settings import load

    began, settings = time.monotonic(), load()
    torch.set_num_threads(settings.train.threads)
    found = catalogue.check(settings.layout, parse_date(date), bundle or None)
    if out is not None:
        lines = (json.dumps(asdict(one), ensure_ascii=False) for one in found.suspects)
        atomic.write_text(out, "".join(f"{line}\n" for line in lines))
    seconds = round(time.monotonic() - began, 3)
    against = sum(bool(one.reasons) for one in found.suspects)
    unjudged = sum(found.unjudged.values())
    first = found.suspects[:SHOWN]
    if as_json:
        told = {"bundle": found.bundle, "judged": len(found.suspects), "suspicious": against, "unjudged": unjudged}
        print(
            json.dumps(
                {**told, "why_unjudged": found.unjudged, "first": [asdict(s) for s in first], "seconds": seconds}
            )
        )
        return
    print(
        f"catalog check: {len(found.suspects)} listings of {date} judged by {found.bundle}, {against} with something "
        f"against them; {unjudged} could not be judged, in {seconds:.1f} s{f'; all in {out}' if out else ''}"
    )
    for why, count in found.unjudged.items():
        print(f"  {count} not judged: {why}")
    for one in first:
        print(f"{one.score:>8.2f}  {one.item_id}  {one.title}  {one.photo}  {'; '.join(one.reasons)}".rstrip())
