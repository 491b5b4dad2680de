"""When training stops, and how its rates fall."""

from __future__ import annotations

import math

import pytest
import torch

from trainer.checkpoints import TrainingState
from trainer.schedule import EarlyStopping, change_rates, linear, progress


def gains(stopping: EarlyStopping, values: list[float]) -> list[bool]:
    """Which of these validations are gains."""
    return [stopping.gains(value, at) for at, value in enumerate(values, start=1)]


def test_a_loss_gains_where_it_falls_and_training_ends_after_the_patience() -> None:
    stopping = EarlyStopping(patience=2, mode="min")
    assert gains(stopping, [0.7, 0.6, 0.6]) == [True, True, False]
    assert not stopping.over
    assert gains(stopping, [0.5, 0.55, math.nan]) == [True, False, False]
    assert stopping.over and stopping.best == 0.5


@pytest.mark.parametrize(("ties", "best_at"), [(True, 2), (False, 3)])
def test_whether_a_tie_gains_is_said(ties: bool, best_at: int) -> None:
    stopping = EarlyStopping(patience=9, mode="max", min_delta=0.25, ties=ties)
    gains(stopping, [0.5, 0.75, 0.875])
    assert stopping.best_at == best_at


def test_a_threshold_below_zero_takes_what_is_a_little_worse() -> None:
    stopping = EarlyStopping(patience=1, mode="max", min_delta=-0.1, ties=True)
    assert gains(stopping, [0.8, 0.75, 0.6]) == [True, True, False]


def test_its_fields_are_all_its_state() -> None:
    first = EarlyStopping(patience=3, mode="min")
    gains(first, [0.7, 0.8])
    again = EarlyStopping(**vars(first))
    assert gains(again, [0.9]) == [False] and again.without_gain == 2


def test_a_checkpoint_holds_where_early_stopping_stands() -> None:
    state = TrainingState(7, (1, 0, 3), EarlyStopping(patience=3, mode="min"))
    assert state.best_step == -1
    assert TrainingState.from_json(state.to_json()).best_step == -1
    gains(state.stopping, [0.7, 0.8])
    again = TrainingState.from_json(state.to_json())
    assert again.stopping == state.stopping and again.best_step == 1
    assert gains(again.stopping, [0.9, 0.7]) == [False, False] and again.stopping.over


def test_progress_and_rates() -> None:
    assert progress(1, 0.5, 2) == 0.75 and progress(1, 1.25, 2) == 1.0
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=0.5)
    change_rates([optimizer], lambda rate: linear(rate, 0.75))
    assert optimizer.param_groups[0]["lr"] == 0.125
