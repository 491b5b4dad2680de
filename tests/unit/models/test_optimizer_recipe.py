"""Adagrad begins where the recipe says, in the dense part and in the tables."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from trainer.embeddings.sharded import initial_accumulators
from trainer.optimizers import Dense
from trainer.runtime.models.recipe import Optimizer


@pytest.mark.parametrize(("start", "step"), [(0.0, 0.1), (0.21, 0.04)])
def test_first_step_of_the_dense_part(start: float, step: float) -> None:
    """A gradient of 0.2: from zero the first step is the rate itself; from 0.21 it is 0.1 · 0.2 / √(0.21 + 0.04)."""
    weight = nn.Parameter(torch.tensor([1.0]))
    recipe = Optimizer(name="adagrad", lr=0.1, eps=1e-10, initial_accumulator=start)
    dense = Dense([("weight", weight)], recipe)
    (0.2 * weight).sum().backward()
    dense.step()
    assert float(weight.detach()) == pytest.approx(1.0 - step, rel=1e-5)


def test_tables_begin_at_the_recipes_sum() -> None:
    """One sum a weight with exact Adagrad, one a row else, none where the recipe begins at zero."""
    weights = {"main__item_id": torch.zeros(5, 4)}
    assert initial_accumulators(weights, Optimizer()) == {}
    rows = initial_accumulators(weights, Optimizer(table_initial_accumulator=0.1))
    assert torch.equal(rows["main__item_id"], torch.full((5,), 0.1))
    exact = initial_accumulators(weights, Optimizer(table_initial_accumulator=0.1, table_exact=True))
    assert torch.equal(exact["main__item_id"], torch.full((5, 4), 0.1))
