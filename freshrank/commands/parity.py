"""`freshrank parity`: whether serving agreed with training on a day that was lived."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import Annotated

import typer


def command(
    date: Annotated[str, typer.Option(help="The lived day D, YYYY-MM-DD, whose window is built.")],
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON on stdout.")] = False,
) -> None:
    """Compare a day's served scores with their bundles' own, and the features seen with the point-in-time rebuild.

    Ends with 3 where they differ by more than `parity.*` allows, with 4 where something cannot be compared.
    """
    import torch

    from features.times import parse_date
    from freshrank.analysis.parity import judge, measure
    from freshrank.settings import load

    settings, began = load(), time.monotonic()
    torch.set_num_threads(settings.train.threads)
    found = measure(settings.layout, parse_date(date), settings.parity)
    scores, features = found.scores, found.features
    seconds = round(time.monotonic() - began, 3)
    if as_json:
        told = {"scores_compared": scores.compared, "scores_max_abs": scores.max_abs, "scores_beyond": scores.exceeding}
        told |= {"features_compared": features.compared, "features_equal_share": features.equal_share}
        print(json.dumps({**told, **asdict(found), "seconds": seconds}))
    else:
        worst = "–" if scores.max_abs is None else f"{scores.max_abs:.1e}"
        share = "–" if features.equal_share is None else f"{features.equal_share:.4%}"
        print(
            f"parity: {date}: {scores.compared:,} scores, at most {worst} apart, {scores.exceeding} beyond "
            f"{scores.tolerance:g}; {share} of {features.compared:,} features equal, in {seconds:.1f} s"
        )
        print(f"{'bundle':<18} {'impressions':>11} {'scored':>7} {'scores':>8} {'apart':>8} {'beyond':>7}")
        for row in scores.bundles:
            apart = "–" if row.max_abs is None else f"{row.max_abs:.1e}"
            beyond = sum(one.scores for one in row.exceeding)
            print(
                f"{row.bundle:<18} {row.impressions:>11,} {row.requests:>7,} {row.compared:>8,} {apart:>8} {beyond:>7,}"
                f"  {row.unchecked}".rstrip()
            )
            for one in row.exceeding[:5]:
                apart = one.why if one.difference is None else f"{one.difference:.1e}"
                print(f"  request {one.request_id}: {one.scores} scores, {apart}")
        print(f"{'column':<22} {'compared':>10} {'equal':>8} {'missing':>8}")
        for column in features.columns:
            equal = f"{column.equal / column.compared:.2%}" if column.compared else "–"
            shown = f"  request {column.example}: {column.served} served, {column.rebuilt} rebuilt"
            print(
                f"{column.column:<22} {column.compared:>10,} {equal:>8} {column.missing:>8,}"
                f"{shown if column.example else ''}"
            )
    judge(found, settings.parity)
