"""Means over what a mask leaves."""

from __future__ import annotations

import torch
from torch import Tensor


def masked_mean(x_NLD: Tensor, mask_NL: Tensor) -> Tensor:
    """Mean over the unmasked positions; zero where there is none.

    Args:
        x_NLD: Vectors, [N, L, D].
        mask_NL: True where a position counts.

    Returns:
        [N, D].

    Example:
        >>> masked_mean(torch.tensor([[[2.0], [4.0], [9.0]]]), torch.tensor([[True, True, False]]))
        tensor([[3.]])
    """
    weight_NL1 = mask_NL.unsqueeze(-1).to(x_NLD.dtype)
    # where, not a product: a masked NaN or infinity must not come through
    sum_ND = torch.where(mask_NL.unsqueeze(-1), x_NLD, torch.zeros_like(x_NLD)).sum(dim=1)
    return sum_ND / weight_NL1.sum(dim=1).clamp(min=1.0)
