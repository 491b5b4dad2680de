"""Optimisers of the dense part, as a model's recipe names them, with state by parameter name."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from trainer.runtime.models.recipe import Optimizer
from trainer.schedule import change_rates, linear


class Dense:
    """The optimiser of the replicated parameters.

    Its state exists from the start, so that a checkpoint can be loaded in place, and is known by parameter name, so
    that it can be loaded by any number of workers.

    Args:
        parameters: Names and parameters.
        recipe: The model's wishes.
    """

    def __init__(self, parameters: Iterable[tuple[str, nn.Parameter]], recipe: Optimizer) -> None:
        self.recipe, self.parameters = recipe, dict(parameters)
        values = list(self.parameters.values())
        if recipe.name == "adagrad":
            self.optimizer: torch.optim.Optimizer = torch.optim.Adagrad(
                values,
                lr=recipe.lr,
                eps=recipe.eps,
                weight_decay=recipe.weight_decay,
                initial_accumulator_value=recipe.initial_accumulator,
            )
        else:
            betas = (recipe.beta1, recipe.beta2)
            self.optimizer = torch.optim.Adam(
                values, lr=recipe.lr, betas=betas, eps=recipe.eps, weight_decay=recipe.weight_decay
            )
            for p in self.parameters.values():
                self.optimizer.state[p] = {
                    "step": torch.tensor(0.0),
                    "exp_avg": torch.zeros_like(p),
                    "exp_avg_sq": torch.zeros_like(p),
                }

    def step(self, progress: float = 0.0) -> None:
        """Move the parameters and forget the gradients.

        Args:
            progress: Share of the planned training that is done, for rates that decay.
        """
        if self.recipe.decay == "linear":
            change_rates([self.optimizer], lambda _: linear(self.recipe.lr, progress))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Parameter name → its state's tensors, the very ones (loading in place changes the optimiser)."""
        return {
            name: {key: value for key, value in self.optimizer.state[p].items() if isinstance(value, Tensor)}
            for name, p in self.parameters.items()
        }
