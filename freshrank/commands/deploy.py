"""`freshrank deploy`: a bundle to a Triton version beside the old one, probed, then routed to."""

from __future__ import annotations

import json
import time
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
    from freshrank.pipeline import deploy, keep
    from freshrank.pipeline.deployment import deploy_bundle
    from freshrank.settings import load
    from serving.state import POPULARITY

    if bool(bundle) == bool(date):
        raise UsageError("name one of the two", field="--bundle, --date", value=(bundle, date), remedy="give one")
    began, settings = time.monotonic(), load()
    if bundle:
        report = deploy_bundle(settings, bundle, alias, unblessed=unblessed)
        done = deploy.Deployed(report, round(time.monotonic() - began, 3))
    elif alias == POPULARITY:
        done = keep.run(settings, parse_date(date))
    else:
        done = deploy.run(settings, parse_date(date), alias=alias, unblessed=unblessed)
    print(json.dumps(done.to_json()) if as_json else done.summary())
