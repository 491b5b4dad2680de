"""Gradient reversal (Ganin and Lempitsky 2015) and its schedule."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradients[0], None


def reverse_gradient(x: Tensor, strength: float) -> Tensor:
    """The input itself; on the way back its gradient times `-strength`.

    Args:
        x: Any tensor.
        strength: λ, 0 or more.

    Example:
        >>> x = torch.ones(2, requires_grad=True)
        >>> reverse_gradient(x, 0.5).sum().backward()
        >>> x.grad
        tensor([-0.5000, -0.5000])
    """
    reversed_x: Tensor = _Reverse.apply(x, strength)
    return reversed_x


def reversal_strength(progress: float, lambda0: float, steepness: float = 10.0) -> float:
    """λ = λ0 (2 / (1 + exp(−γ p)) − 1): from 0 towards λ0 as training goes on.

    Args:
        progress: Share of the training done (p), 0 to 1.
        lambda0: Value that λ tends to.
        steepness: γ; 10 in both papers.

    Example:
        >>> reversal_strength(0.0, 0.5), round(reversal_strength(1.0, 0.5), 4)
        (0.0, 0.5)
    """
    return lambda0 * (2.0 / (1.0 + math.exp(-steepness * progress)) - 1.0)
