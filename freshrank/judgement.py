"""Evaluation and gate of a day's bundle."""

from __future__ import annotations

import datetime as dt
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from features import atomic
from features.errors import NotReadyError
from features.layout import Layout
from freshrank.retrain import champion, note, step_name
from freshrank.settings import Settings, load
from trainer.data.window import Window
from trainer.tokens import TokenStore


def evaluate(day: dt.date, model: str | None = None, *, final: bool = False) -> dict[str, Any]:
    """Evaluate a day's bundle on day D, beside incumbent and popularity.

    Args:
        day: The run's day D.
        model: The model; by default the settings'.
        final: Take the labels of a later window, in which day D is mature.

    Returns:
        The figures; `state/steps/<D>/evaluate.json` (`evaluate-final.json`) holds them, and
        `evaluate.parquet` beside it every candidate of the day with its logits.

    Raises:
        NotReadyError: If the day has no bundle, or (`final`) no later window holds the day.
        DataError: If a bundle's scores or a figure are not finite.
    """
    import torch

    from trainer.evaluate.run import evaluate as compare

    settings = load()
    torch.set_num_threads(settings.train.threads)
    layout, model = settings.layout, model or settings.train.model
    bundled = note(layout, day, step_name(settings, "bundle", model))
    window = Window(layout.window(bundled["window"]))
    bundles = {"candidate": layout.bundle(bundled["bundle"])}
    if incumbent := incumbent_of(layout, bundled["bundle"]):
        bundles["incumbent"] = layout.bundle(incumbent)
    bundles["popularity"] = layout.bundle(bundled["popularity"])
    info = json.loads((bundles["candidate"] / "bundle.json").read_text(encoding="utf-8"))
    tokens = TokenStore(layout.tokens(info["encoder"])) if info["encoder"] else None
    files = mature_day(settings, day) if final else window.evaluation
    step = step_name(settings, "evaluate-final" if final else "evaluate", model)
    with atomic.lock(layout.lock(step)):
        print(f"evaluate: {', '.join(bundles)} on {day}", file=sys.stderr)
        figures, scored = compare(window, files, bundles, tokens, settings.train.tasks[0], settings.gate)
        found = {"date": day.isoformat(), "model": model, "final": final, **figures.to_json()}
        scored.write(layout.step(day, step).with_suffix(".parquet"))
        atomic.write_text(layout.step(day, step), json.dumps(found, indent=1, allow_nan=False))
    return found


def incumbent_of(layout: Layout, bundle: str) -> str | None:
    """The bundle that a candidate is compared with: the champion, or, where the candidate is that by now (a run that
    is repeated after its deployment), the one it started beside."""
    live = champion(layout)
    if live != bundle:
        return live
    info = json.loads((layout.bundle(bundle) / "bundle.json").read_text(encoding="utf-8"))
    beside: str | None = info.get("incumbent")
    return beside


def mature_day(settings: Settings, day: dt.date) -> Sequence[Path]:
    """The file of day D in a later window, its labels mature.

    Raises:
        NotReadyError: If no later window has it.
    """
    from features.window.build import of_day

    layout = settings.layout
    for later in range(1, settings.window.days + 1):
        try:
            window = Window(layout.window(of_day(layout, day + dt.timedelta(days=later))))
        except NotReadyError:
            continue
        file = window.folder / "requests" / f"{day.isoformat()}.parquet"
        if file.exists():
            return [file]
    raise NotReadyError(
        "no later window holds the day with mature labels",
        field="date",
        value=day.isoformat(),
        remedy=f"build the window of {day + dt.timedelta(days=1)} first",
    )


def gate(day: dt.date, model: str | None = None) -> dict[str, Any]:
    """Decide whether a day's bundle may replace the incumbent; `bundles/<id>.blessing.json` says so.

    Args:
        day: The run's day D.
        model: The model; by default the settings'.

    Returns:
        `blessed`, `reasons` and what they rest on.

    Raises:
        NotReadyError: If the day's bundle has not been evaluated, or not against the present incumbent.
        DataError: If the figures cannot be read, or one is not finite.
    """
    from trainer.evaluate.figures import Figures
    from trainer.evaluate.gate import blessed, judge

    settings = load()
    layout, model = settings.layout, model or settings.train.model
    bundle = note(layout, day, step_name(settings, "bundle", model))["bundle"]
    figures = Figures.from_json(note(layout, day, step_name(settings, "evaluate", model)))
    incumbent = figures.bundles.get("incumbent")
    for what, judged, present in (
        ("the day's bundle has not been evaluated", figures.bundles.get("candidate"), bundle),
        ("the evaluation did not meet the present incumbent", incumbent, incumbent_of(layout, bundle)),
    ):
        if judged != present:
            remedy = f"run `freshrank evaluate --date {day}` first"
            raise NotReadyError(what, field="bundle", value=present, remedy=remedy)
    checks = judge(figures, settings.gate)
    decision = {
        "blessed": blessed(checks),
        "bundle": bundle,
        "date": day.isoformat(),
        "model": model,
        "incumbent": incumbent,
        "reasons": [check.reason for check in checks],
        "checks": [check.to_json() for check in checks],
    }
    text = json.dumps(decision, indent=1, allow_nan=False)
    atomic.write_text(layout.bundles / f"{bundle}.blessing.json", text)
    atomic.write_text(layout.step(day, step_name(settings, "gate", model)), text)
    return decision
