"""Softmax gates over experts, with only the k best of them kept.

Shape suffixes: N inputs, D width, M experts, K those kept.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def top_k_weights(logits_NM: Tensor, k: int) -> Tensor:
    """Softmax weights of the k largest logits, renormalised to one; exact zeros elsewhere.

    Args:
        logits_NM: Logits of the experts.
        k: Experts to keep.

    Returns:
        [N, M]. Logits that are not kept get no gradient.

    Example:
        >>> top_k_weights(torch.tensor([[0.0, 1.0986123, -5.0]]), 2)
        tensor([[0.2500, 0.7500, 0.0000]])
    """
    best_NK, which_NK = logits_NM.topk(min(k, logits_NM.shape[1]), dim=1)
    # renormalising the chosen softmax weights is a softmax over the chosen logits
    return torch.zeros_like(logits_NM).scatter(1, which_NK, best_NK.softmax(dim=1))


class TopKGate(nn.Module):
    """A softmax gate that chooses k experts by its input (Shazeer et al. 2017, without noise).

    Args:
        width: Width of the input.
        experts: Experts (M).
        k: Experts kept.
    """

    def __init__(self, width: int, experts: int, k: int) -> None:
        super().__init__()
        if not 1 <= k <= experts:
            raise ValueError(f"top_k {k} is not between 1 and {experts} experts")
        self.k = k
        self.linear = nn.Linear(width, experts)

    def forward(self, x_ND: Tensor) -> Tensor:
        """Weights of the experts, [N, M], k of them positive."""
        return top_k_weights(self.linear(x_ND), self.k)
