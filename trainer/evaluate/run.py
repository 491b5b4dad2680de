"""Evaluate a bundle on day D, beside the incumbent and popularity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trainer.bundle import load_scorer
from trainer.data.window import Window
from trainer.evaluate.alignment import accuracy
from trainer.evaluate.figures import OTHERS, Comparison, DaySlice, Figures, Quality
from trainer.evaluate.metrics import (
    Interval,
    Statistic,
    auc,
    auc_gap,
    calibration,
    log_loss,
    log_loss_gap,
    paired_difference,
    user_auc,
)
from trainer.evaluate.score import Day, score_day, shown
from trainer.settings import GateSettings
from trainer.tokens import TokenStore


def evaluate(
    window: Window,
    files: Sequence[Path],
    bundles: dict[str, Path],
    tokens: TokenStore | None,
    task: str,
    settings: GateSettings,
) -> tuple[Figures, Day]:
    """Score a day with the bundles and compare them.

    Every bundle sees the same content: the token store as it is, as the serving runtime does.

    Args:
        window: The candidate's window: items it does not show are new.
        files: The day's requests.
        bundles: Role → bundle; `candidate` at least.
        tokens: The token store, or None.
        task: The label.
        settings: Bootstraps and confidence.

    Returns:
        The figures, and the scored day.

    Raises:
        DataError: If a bundle is of another format, or gives a logit that is not finite.
    """
    scorers = {role: load_scorer(folder, tokens) for role, folder in bundles.items()}
    seen = shown(window)
    day = score_day(files, scorers, task, seen)
    everything = np.ones(len(day.label), bool)
    slices = {"all": everything, "new": day.new, "uniform": day.uniform, "uniform_new": day.uniform & day.new}
    figures = Figures(
        task=task,
        window=window.id,
        bundles={role: folder.name for role, folder in bundles.items()},
        mature_share=float(day.mature.mean()) if len(day.label) else None,
        slices={name: _slice(day, rows) for name, rows in slices.items()},
        over={
            other: Comparison(
                auc={name: _over(auc_gap, day, rows, other, settings) for name, rows in slices.items()},
                log_loss={name: _over(log_loss_gap, day, rows, other, settings) for name, rows in slices.items()},
            )
            for other in OTHERS
            if other in bundles
        },
        alignment=accuracy(files, scorers["candidate"], seen),
    )
    return figures, day


def _slice(day: Day, rows: npt.NDArray[np.bool_]) -> DaySlice:
    label, user = day.label[rows], day.user[rows]
    mature = rows & day.mature
    found = {}
    for role, logits in day.logits.items():
        logit = logits[rows]
        found[role] = Quality(
            auc=auc(logit, label),
            user_auc=user_auc(logit, label, user),
            log_loss=log_loss(logit, label),
            calibration=calibration(logit, label),
            calibration_mature=calibration(logits[mature], day.label[mature]),
        )
    return DaySlice(
        requests=len(np.unique(day.request[rows])),
        candidates=int(rows.sum()),
        positives=int(label.sum()),
        positives_mature=int(day.label[mature].sum()),
        of=found,
    )


def _over(
    measure: Callable[..., Statistic],
    day: Day,
    rows: npt.NDArray[np.bool_],
    other: str,
    settings: GateSettings,
) -> Interval | None:
    return paired_difference(
        measure,
        day.logits["candidate"][rows],
        day.logits[other][rows],
        day.label[rows],
        np.unique(day.request[rows], return_inverse=True)[1],
        resamples=settings.bootstraps,
        confidence=settings.confidence,
    )
