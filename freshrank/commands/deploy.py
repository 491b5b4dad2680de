"""`freshrank deploy`: a bundle to a Triton version beside the old one, probed, then routed to."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import Annotated

import typer


def command(
    bundle: Annotated[str, typer.Option(help="Id of the bundle.")] = "",
    date: Annotated[str, typer.Option(help="Deploy what this day's run made, its popularity too.")] = "",
    alias: Annotated[
        str, typer.Option(help="champion, challenger or popularity; by default what the bundle's model is for.")
    ] = "",
    unblessed: Annotated[bool, typer.Option("--unblessed", help="Deploy a champion that no gate has blessed.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON on stdout.")] = False,
) -> None:
    """Load a bundle beside what is live, score its probes, then route to it; safe to run again after a kill."""
    from features.errors import UsageError
    from features.times import parse_date
    from freshrank import serve

    began = time.monotonic()
    if bool(bundle) == bool(date):
        raise UsageError("name one of the two", field="--bundle, --date", value=(bundle, date), remedy="give one")
    if date:
        report = serve.deploy_day(parse_date(date), alias, unblessed=unblessed)
    else:
        report = serve.deploy(bundle, alias, unblessed=unblessed)
    seconds = time.monotonic() - began
    if as_json:
        print(json.dumps({**asdict(report), "seconds": round(seconds, 3)}))
        return
    did = (
        "was live already" if report.already else f"live after {report.probes} probes within {report.probe_max_abs:.1e}"
    )
    more = "".join(
        f"; {name} {', '.join(bundles)}"
        for name, bundles in (("retired", report.retired), ("draining", report.draining))
        if bundles
    )
    print(
        f"deploy: {report.bundle} {did} as {report.alias}: {report.triton_model} version {report.version}, "
        f"generation {report.generation}{more}{report.gateways()}; {seconds:.1f} s"
    )
