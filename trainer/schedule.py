"""What every training loop decides alike: when to stop, how far it is, and how learning rates fall."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import torch


@dataclass
class EarlyStopping:
    """Ends a training whose validations bring no gain; its fields are all its state, so a checkpoint can hold them.

    Args:
        patience: Validations in a row without gain after which training ends.
        mode: Whether the watched metric is better the larger it is (`max`) or the smaller (`min`).
        min_delta: How much better than the best it must be to count as a gain.
        ties: Whether exactly that much is a gain.
        best: The best value so far; None before the first.
        best_at: Where it was: the number of the step or epoch; -1 before the first.
        without_gain: Validations since.

    Example:
        >>> stopping = EarlyStopping(patience=2, mode="min")
        >>> [stopping.gains(loss, at) for at, loss in enumerate([0.7, 0.5, 0.5, 0.6])]
        [True, True, False, False]
        >>> stopping.best_at, stopping.over
        (1, True)
    """

    patience: int
    mode: Literal["min", "max"]
    min_delta: float = 0.0
    ties: bool = False
    best: float | None = None
    best_at: int = -1
    without_gain: int = 0

    def gains(self, value: float, at: int) -> bool:
        """Note a validation, and say whether it is the best yet; the first is, and NaN is never better.

        Args:
            value: The watched metric.
            at: Number of the step or epoch.
        """
        sign = 1.0 if self.mode == "max" else -1.0
        if self.best is not None:
            found, wanted = sign * value, sign * self.best + self.min_delta
            if not (found > wanted or (self.ties and found == wanted)):
                self.without_gain += 1
                return False
        self.best, self.best_at, self.without_gain = value, at, 0
        return True

    @property
    def over(self) -> bool:
        """Whether training ends."""
        return self.without_gain >= self.patience


def progress(epoch: int, share: float, epochs: int) -> float:
    """Share of the planned training that is done.

    Args:
        epoch: Epochs that are over.
        share: Share of the present one that is done.
        epochs: Epochs planned.
    """
    return min((epoch + share) / epochs, 1.0)


def linear(rate: float, done: float) -> float:
    """A learning rate that falls to zero.

    Args:
        rate: Where it starts.
        done: Share of the planned training that is done.
    """
    return rate * (1.0 - done)


def change_rates(optimizers: Iterable[torch.optim.Optimizer], change: Callable[[float], float]) -> None:
    """Give every group of parameters the learning rate that `change` makes of its present one."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = change(group["lr"])
