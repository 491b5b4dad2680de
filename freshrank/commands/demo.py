"""`freshrank demo`: once round the loop on real servers, from nothing, with a report at the end."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer


def command(
    source: Annotated[
        str, typer.Option(help="Installed source: `city` (simulated, answers), `completejourney` (real purchases), ….")
    ] = "city",
    name: Annotated[str, typer.Option(help="Folder below runs/; one of that name is replaced.")] = "",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the source, of training and of sampling.")] = 100,
    port_base: Annotated[int, typer.Option(min=1024, max=65000, help="First port of the demo's own stack.")] = 18000,
    photos: Annotated[str, typer.Option(help="completejourney: folder of the GroceryStoreDataset.")] = "",
    small: Annotated[bool, typer.Option("--small", help="A small city, as in the tests.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON on stdout.")] = False,
) -> None:
    """Carry a source's events from Kafka round to a ranked list and back, and write a report."""
    from freshrank.checkout import need_checkout

    need_checkout("the demo, which starts the local stack,")
    from features.layout import safe_name
    from freshrank.demo import run
    from freshrank.demo.plan import DemoPlan
    from freshrank.report.write import write

    plan = DemoPlan(name=safe_name("name", name or source), source=source, seed=seed, port_base=port_base)
    if small:
        plan = replace(plan, requests_per_day=150, shoppers=120, listings=200, previews=60, small=True)
    done = run.run(plan, photos and str(Path(photos).resolve()))
    summary, table = write(done)
    if as_json:
        print(json.dumps({"report": str(plan.folder / "report.html"), "wall_s": summary["wall_s"]}))
        return
    print(table)
    print(f"report: {plan.folder / 'report.html'}")
