"""`freshrank study`: the papers' tables and figures on our data."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="The papers' tables and figures on our data.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep `study` a group however many commands it has."""


@app.command()
def alignment(
    images: Annotated[Path, typer.Option(help="Folder of the Grocery Store data set, holding dataset/classes.csv.")],
    seed: Annotated[int, typer.Option(help="Seed of weights, order, negatives and products left out.")] = 0,
    runs: Annotated[int, typer.Option(min=1, max=100, help="Seeds to run, from --seed on.")] = 1,
    epochs: Annotated[int, typer.Option(min=1, max=1000, help="Passes over the training photos.")] = 12,
    unseen: Annotated[int, typer.Option(min=0, max=40, help="Products to train without, in a second training.")] = 16,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON on stdout.")] = False,
) -> None:
    """Text-image matching (ITA, TIA) on real photos: CameNN beside FashionBERT, train to val."""
    from freshrank import settings as all_settings
    from freshrank.studies import alignment as study
    from freshrank.studies.grocery import read_groceries

    began = time.monotonic()
    settings = all_settings.load()
    groceries = read_groceries(images)

    def say(line: str) -> None:
        print(f"study alignment: {line}", file=sys.stderr, flush=True)

    say(f"{len(groceries.train)} photos to train on, {len(groceries.val)} to measure on; encoding what is new")
    store = study.encode(groceries, settings.content, settings.layout)
    rows = []
    for number in range(seed, seed + runs):
        say(f"seed {number}")
        rows += study.study(groceries, store, number, epochs, unseen, say)
    if as_json:
        print(json.dumps([asdict(row) for row in rows]))
        return
    print(study.table(rows))
    print(f"study alignment: {runs} seeds from {seed} in {time.monotonic() - began:.0f} s")


@app.command()
def zoo(
    date: Annotated[
        str, typer.Option(help="Day D, YYYY-MM-DD, of a window of your own; empty: the city's default window.")
    ] = "",
    models: Annotated[str, typer.Option(help="Registered models, separated by commas; all by default.")] = "",
    city_seed: Annotated[int, typer.Option(min=0, help="Seed of the city, where no date is given.")] = 100,
    max_candidates: Annotated[
        int, typer.Option(min=0, help="Candidates an epoch, about, by thinning negatives.")
    ] = 40000,
    requests_per_batch: Annotated[int, typer.Option(min=1, help="Requests a batch.")] = 48,
    epochs: Annotated[int, typer.Option(min=1, max=100, help="Epochs at most.")] = 1,
    workers: Annotated[int, typer.Option(min=0, help="Models at a time, a thread each; 0: as many as cores.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON on stdout.")] = False,
) -> None:
    """Every model on one window: trained from nothing in the same way, scored on day D."""
    from dataclasses import replace

    from features.times import parse_date
    from freshrank.pipeline.train import make_job
    from freshrank.settings import load
    from freshrank.studies import zoo as study
    from freshrank.studies.city import CityRun, built
    from trainer.runtime.models.registry import REGISTRY, model_class

    began = time.monotonic()
    names = [name.strip() for name in models.split(",") if name.strip()] or sorted(REGISTRY)
    for name in names:
        model_class(name)
    settings, day = (load(), parse_date(date)) if date else built(CityRun(city_seed))
    window_s = time.monotonic() - began
    workers = workers or os.cpu_count() or 1
    train = replace(settings.train, epochs=epochs, max_candidates=max_candidates, requests_per_batch=requests_per_batch)
    # a thread each: two threads make these small products hardly faster
    settings = replace(settings, train=replace(train, threads=1))
    jobs = [replace(make_job(settings, day, name), incumbent=None) for name in names]

    def say(line: str) -> None:
        print(f"study zoo: {line}", file=sys.stderr, flush=True)

    rows = study.zoo(jobs, settings.layout.bundles, say, min(workers, len(jobs)))
    if as_json:
        print(json.dumps([asdict(row) for row in rows]))
        return
    print(study.table(rows))
    seconds = time.monotonic() - began
    print(f"study zoo: {len(rows)} models on {day} in {seconds:.0f} s, {window_s:.0f} s of them for the window")
