"""`freshrank source describe city`: measure the city and write its report."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from features.layout import Layout

if TYPE_CHECKING:
    from features.settings import ContentSettings

app = typer.Typer(help="The city.", no_args_is_help=True, add_completion=False)


class Place(NamedTuple):
    """What the caller's settings say.

    Args:
        layout: Encoded contents are kept beside the city's truth.
        content: Encoders of texts and photos.
    """

    layout: Layout
    content: ContentSettings


@app.callback()
def _main() -> None:
    """Hold the group."""


@app.command()
def describe(
    ctx: typer.Context,
    seed: Annotated[list[int] | None, typer.Option(help="Seed; may be given more than once. Default 0.")] = None,
    small: Annotated[bool, typer.Option(help="The small city of the tests.")] = False,
    off: Annotated[list[str] | None, typer.Option(help="Mechanism to switch off; more than once.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for pictures and figures; default runs/city.")] = None,
    page: Annotated[Path | None, typer.Option(help="The page; default city.md beside the folder.")] = None,
    log: Annotated[Path | None, typer.Option(help="Markdown to end the page with.")] = None,
    content: Annotated[bool, typer.Option(help="Encode texts and photos; without, no model has them.")] = True,
    threads: Annotated[int, typer.Option(min=1, max=2, help="Threads of the trees.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON on stdout.")] = False,
) -> None:
    """Measure what the city is like and what can be learnt from it; seeds measured before stay in the report."""
    import warnings
    from dataclasses import replace

    from sklearn.exceptions import ConvergenceWarning

    from features import atomic
    from simulator.city.config import CityConfig
    from simulator.city.describe import plots
    from simulator.city.describe.figures import measure
    from simulator.city.describe.report import markdown

    warnings.simplefilter("ignore", ConvergenceWarning)  # probes stop early on purpose
    config = CityConfig.small() if small else CityConfig()
    config = replace(config, strengths=config.strengths.off(*(off or [])))
    out = out or Path("runs/city")
    page = page or out.parent / "city.md"
    place: Place = ctx.obj
    for one in seed or [0]:
        began = time.monotonic()
        cache = place.layout.truth("city").parent / "vectors" / str(one)
        figures, recorder = measure(config, one, place.content if content else None, cache, threads)
        atomic.write_text(out / f"seed-{one}.json", json.dumps(figures, indent=1))
        if not (out / "listings.png").exists() or one == (seed or [0])[0]:
            plots.listings(recorder, out / "listings.png")
            plots.behaviour(figures, out / "behaviour.png")
        print(f"seed {one} in {time.monotonic() - began:.0f} s", file=sys.stderr)
    files = sorted(out.glob("seed-*.json"), key=lambda file: int(file.stem.split("-")[1]))
    seeds = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    plots.learnable(seeds, out / "learnable.png")
    plots.mechanisms(seeds, out / "mechanisms.png")
    text = markdown(seeds, config, out.name, log.read_text(encoding="utf-8") if log else "")
    atomic.write_text(page, text)
    if as_json:
        print(json.dumps({"page": str(page), "seeds": [one["seed"] for one in seeds], "auc": seeds[-1]["auc"]}))
    else:
        print(f"{page}: {len(seeds)} seeds")
