"""`freshrank train`: a day's model on its window, or any model on a flat CTR set."""

from __future__ import annotations

import json
import time
from typing import Annotated

import typer


def command(
    date: Annotated[str, typer.Option(help="The run's day D, YYYY-MM-DD: trains on its window.")] = "",
    model: Annotated[str, typer.Option(help="Registered model; by default train.model.")] = "",
    data: Annotated[str, typer.Option(help="Folder of a flat CTR set with its dataset.toml, instead of a day.")] = "",
    recipe: Annotated[str, typer.Option(help="Recipe of a flat CTR set's training, TOML.")] = "",
    out: Annotated[
        str, typer.Option(help="Folder of a flat training's result.json; by default runs/<set>-<model>.")
    ] = "",
    cache: Annotated[
        str, typer.Option(help="Folder of encoded flat sets, shared by runs; by default encoded beside the output.")
    ] = "",
    accept_best: Annotated[
        bool, typer.Option("--accept-best", help="End an unfinished training of the day at its best checkpoint.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON on stdout.")] = False,
) -> None:
    """Train, from nothing or from the incumbent; an interrupted training goes on with its next batch."""
    from features.errors import UsageError

    if bool(date) == bool(data):
        raise UsageError("what to train on", field="--date", value=date, remedy="give --date or --data, one of them")
    if data and accept_best:
        raise UsageError("a flat set keeps no checkpoints", field="--accept-best", value=True, remedy="leave it out")
    if data:
        _flat(data, model, recipe, out, cache, as_json)
        return
    if recipe:
        raise UsageError(
            "a day's recipe stands in the settings", field="--recipe", value=recipe, remedy="set train.recipe.<model>"
        )
    if cache:
        raise UsageError("a day has no flat set to encode", field="--cache", value=cache, remedy="leave it out")
    from features.times import parse_date
    from freshrank.pipeline import train
    from freshrank.settings import load

    done = train.run(load(), parse_date(date), model=model, accept_best=accept_best)
    print(json.dumps(done.to_json()) if as_json else done.summary())


def _flat(data: str, model: str, recipe: str, out: str, cache: str, as_json: bool) -> None:
    from pathlib import Path

    from freshrank.settings import load
    from trainer.flat.run import run

    began, model = time.monotonic(), model or load().train.model
    target = Path(out) if out else Path("runs") / f"{Path(data).resolve().name}-{model}"
    result = run(Path(data), model, Path(recipe) if recipe else None, target, cache=Path(cache) if cache else None)
    if as_json:
        print(json.dumps(result))
        return
    auc, loss = ("-" if result[name] is None else f"{result[name]:.4f}" for name in ("auc", "logloss"))
    shown = f"AUC {auc}, log loss {loss} on the test split"
    print(f"train: {model}, {shown}, {target}/result.json, in {time.monotonic() - began:.1f} s")
