"""`freshrank evaluate`: a day's bundle on a day it has not seen, beside the incumbent and popularity."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any

import typer


def command(
    date: Annotated[str, typer.Option(help="The run's day D, YYYY-MM-DD, on which the bundles are compared.")],
    model: Annotated[str, typer.Option(help="Registered model; by default train.model.")] = "",
    final: Annotated[bool, typer.Option("--final", help="With the mature labels of a later window.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON on stdout.")] = False,
) -> None:
    """Compare candidate, incumbent and popularity on day D: all and uniformly ranked requests, all and new listings."""
    from features.times import parse_date
    from freshrank.judgement import evaluate

    began = time.monotonic()
    figures = evaluate(parse_date(date), model or None, final=final)
    seconds = round(time.monotonic() - began, 3)
    if as_json:
        print(json.dumps({**figures, "seconds": seconds}))
        return
    everything = figures["slices"]["all"]
    shown = ", ".join(f"{role} {_shown(everything[role]['auc'])}" for role in figures["bundles"])
    print(f"evaluate: AUC on {figures['date']}: {shown}; {everything['requests']} requests, in {seconds:.1f} s")
    print(f"{'slice':<12} {'model':<11} {'AUC':>7} {'by user':>8} {'log loss':>9} {'calibr.':>8} {'positives':>10}")
    for name, found in figures["slices"].items():
        for role in figures["bundles"]:
            row = [_shown(found[role][key]) for key in ("auc", "user_auc", "log_loss", "calibration")]
            print(f"{name:<12} {role:<11} {row[0]:>7} {row[1]:>8} {row[2]:>9} {row[3]:>8} {found['positives']:>10}")
    if figures["alignment"]:
        print(f"alignment on {figures['alignment']['products']} unseen products:")
        for task in ("ita", "tia"):
            kinds = (f"{kind} {_shown(figures['alignment'][task][kind])}" for kind in ("random", "same_category"))
            print(f"  {task}: {', '.join(kinds)}")


def _shown(value: Any) -> str:
    return "–" if value is None else f"{value:.4f}"
