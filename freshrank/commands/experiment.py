"""`freshrank experiment`: which users get which arm."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from features.layout import Layout
    from serving.gateway.experiments import Experiment, Experiments

app = typer.Typer(help="Experiments: arms, their shares and what each ranks by.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="One line of JSON on stdout.")]
Name = Annotated[str, typer.Argument(help="Name of the experiment.")]


@app.command()
def create(
    name: Name,
    arm: Annotated[
        list[str],
        typer.Option(help="name=share:what, such as camenn=0.45:champion or uniform=0.1:uniform; repeat it."),
    ],
    seed: Annotated[str, typer.Option(help="Seed of the hash; by default the experiment's name.")] = "",
    as_json: Json = False,
) -> None:
    """Write an experiment; one of the same name is replaced. Gateways take it up at once."""
    from features.errors import UsageError
    from serving.gateway.experiments_file import check_name, parse

    check_name(name)
    arms: dict[str, dict[str, object]] = {}
    for text in arm:
        key, values = _arm(text)
        if key in arms:
            raise UsageError("an arm is named twice", field="--arm", value=text, remedy="name each arm once")
        arms[key] = values
    made = parse(name, {"seed": seed or name, "arms": arms}, "change --arm or --seed")
    _change(name, lambda _: made, as_json)


@app.command()
def ramp(
    name: Name,
    arm: Annotated[list[str], typer.Option(help="name=share; repeat it.")],
    as_json: Json = False,
) -> None:
    """Change shares of an experiment's arms."""
    from features.errors import UsageError
    from serving.gateway.experiments_file import parse

    def ramped(found: Experiments) -> Experiment:
        experiment = _named(found, name)
        arms = {key: asdict(value) for key, value in experiment.arms.items()}
        for text in arm:
            key, _, share = text.partition("=")
            if key not in arms:
                raise UsageError("no such arm", field="--arm", value=key, remedy=f"use one of: {', '.join(arms)}")
            arms[key]["share"] = _share(share)
        return parse(name, {**asdict(experiment), "arms": arms}, "change --arm")

    _change(name, ramped, as_json)


@app.command()
def stop(name: Name, as_json: Json = False) -> None:
    """Stop an experiment: everyone gets the champion again."""
    _change(name, lambda found: replace(_named(found, name), active=False), as_json)


@app.command()
def show(as_json: Json = False) -> None:
    """Print all experiments."""
    from serving.gateway.experiments_file import read, to_toml

    _, path = _place()
    found = read(path)
    if as_json:
        print(json.dumps({name: asdict(experiment) for name, experiment in found.experiments.items()}))
        return
    print(to_toml(found.experiments), end="")
    print(f"experiment: {len(found.experiments)} in {path}")


def _arm(text: str) -> tuple[str, dict[str, object]]:
    from features.errors import UsageError
    from serving.state import ALIASES

    name, equals, rest = text.partition("=")
    share, colon, what = rest.partition(":")
    if not equals or not colon or what not in (*ALIASES, "uniform"):
        remedy = f"write name=share:what, where what is one of {', '.join((*ALIASES, 'uniform'))}"
        raise UsageError("not an arm", field="--arm", value=text, remedy=remedy)
    return name, {"share": _share(share), ("policy" if what == "uniform" else "alias"): what}


def _share(text: str) -> float:
    from features.errors import UsageError

    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise UsageError("not a share", field="--arm", value=text, remedy="write a number from 0 to 1")
    return share


def _named(found: Experiments, name: str) -> Experiment:
    from features.errors import UsageError

    if name not in found.experiments:
        known = ", ".join(found.experiments) or "none yet"
        raise UsageError("no such experiment", field="name", value=name, remedy=f"there are: {known}")
    return found.experiments[name]


def _place() -> tuple[Layout, Path]:
    """The stack's folders, and the experiments file."""
    from freshrank import settings as all_settings
    from serving.gateway.experiments_file import experiments_path

    settings = all_settings.load()
    return settings.layout, settings.gateway.experiments or experiments_path(settings.layout)


def _change(name: str, to: Callable[[Experiments], Experiment], as_json: bool) -> None:
    """Write one experiment and say what it is now."""
    from serving.gateway.experiments_file import change

    layout, path = _place()
    experiment = change(layout, path, name, to)
    if as_json:
        print(json.dumps({"experiment": name, **asdict(experiment)}))
        return
    arms = ", ".join(f"{key} {arm.share:.0%} by {arm.alias or arm.policy}" for key, arm in experiment.arms.items())
    print(f"experiment: {name} is {'active' if experiment.active else 'stopped'}: {arms}; {path}")
