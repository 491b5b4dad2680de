"""`freshrank evaluate`: a day's bundle on a day it has not seen, beside the incumbent and popularity."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def command(
    date: Annotated[str, typer.Option(help="The run's day D, YYYY-MM-DD, on which the bundles are compared.")],
    model: Annotated[str, typer.Option(help="Registered model; by default train.model.")] = "",
    final: Annotated[bool, typer.Option("--final", help="With the mature labels of a later window.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON on stdout.")] = False,
) -> None:
    """Compare candidate, incumbent and popularity on day D: all and uniformly ranked requests, all and new listings."""
    from features.times import parse_date
    from freshrank.pipeline import evaluate
    from freshrank.pipeline.evaluate import number
    from freshrank.settings import load

    done = evaluate.run(load(), parse_date(date), model=model, final=final)
    if as_json:
        print(json.dumps(done.to_json()))
        return
    print(done.summary())
    print(f"{'slice':<12} {'model':<11} {'AUC':>7} {'by user':>8} {'log loss':>9} {'calibr.':>8} {'positives':>10}")
    for name, found in done.figures.slices.items():
        for role in done.figures.bundles:
            of = found.of[role]
            row = [number(value) for value in (of.auc, of.user_auc, of.log_loss, of.calibration)]
            print(f"{name:<12} {role:<11} {row[0]:>7} {row[1]:>8} {row[2]:>9} {row[3]:>8} {found.positives:>10}")
    if alignment := done.figures.alignment:
        print(f"alignment on {alignment.products} unseen products:")
        for task, matching in alignment.of.items():
            print(f"  {task}: random {number(matching.random)}, same_category {number(matching.same_category)}")
