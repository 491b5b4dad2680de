"""The dense optimiser moves parameters at the rate that its recipe names."""

from __future__ import annotations

import torch
from torch import nn

from trainer.optimizers import Dense
from trainer.runtime.models.recipe import Optimizer


def moved(recipe: Optimizer, progress: float) -> float:
    """How far a parameter goes in one step from rest; Adam's first step is its learning rate."""
    weight = nn.Parameter(torch.zeros(1))
    dense = Dense([("weight", weight)], recipe)
    weight.grad = torch.ones(1)
    dense.step(progress)
    return -float(weight.detach())


def test_a_decaying_rate_reaches_zero_at_the_end() -> None:
    recipe = Optimizer(lr=0.1, decay="linear")
    torch.testing.assert_close([moved(recipe, p) for p in (0.0, 0.75, 1.0)], [0.1, 0.025, 0.0], rtol=1e-5, atol=1e-9)


def test_a_constant_rate_does_not_look_at_progress() -> None:
    assert abs(moved(Optimizer(lr=0.1), 0.75) - 0.1) < 1e-6
