"""Sequences of unlike lengths in a few groups, so that padding costs little.

Shape suffixes: N sequences, L tokens at most, R sequences of a group, K tokens at most in it, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

GROUPS = 4
SMALLEST = 16  # sequences that a group has at least: smaller ones cost more calls than they save padding


@dataclass(frozen=True)
class Group:
    """Sequences of about one length.

    Args:
        row_R: Which sequences.
        place_RK: Their tokens, those that there are first, in order.
        mask_RK: True where there is a token.
    """

    row_R: Tensor
    place_RK: Tensor
    mask_RK: Tensor

    def of(self, x_NLD: Tensor) -> Tensor:
        """The group's tokens, [R, K, D]; what is masked has some token's value."""
        n, length, width = x_NLD.shape
        at = (self.row_R[:, None] * length + self.place_RK).flatten()
        return x_NLD.reshape(n * length, width).index_select(0, at).view(*self.place_RK.shape, width)


def groups(mask_NL: Tensor, largest: int | None = None) -> list[Group]:
    """Length bucketing: all sequences, by length, in a few groups of equal size.

    For networks in which a token's place does not count and masked tokens are not read.

    Args:
        mask_NL: True where there is a token.
        largest: Sequences of a group, at most.

    Returns:
        The groups; one, possibly empty, at the least.

    Example:
        >>> mask = torch.tensor([[True, True, True], [True, False, False], [True, False, True]])
        >>> [(g.row_R.tolist(), g.place_RK.tolist()) for g in groups(mask, largest=2)]
        [([1, 2], [[0, 1], [0, 2]]), ([0], [[0, 1, 2]])]
    """
    n = len(mask_NL)
    count_N = mask_NL.sum(dim=1)
    order_NL = (~mask_NL).to(torch.uint8).argsort(dim=1, stable=True)
    by_length_N = count_N.argsort(stable=True)
    parts = max(1, min(GROUPS, n // SMALLEST))
    if largest is not None:
        parts = max(parts, -(-n // largest))
    found = []
    for row_R in by_length_N.tensor_split(parts):
        longest = max(int(count_N[row_R].max()), 1) if len(row_R) else 1
        own_K = torch.arange(longest, device=mask_NL.device)
        found.append(Group(row_R, order_NL[row_R, :longest], own_K < count_N[row_R, None]))
    return found


def back(parts: list[Tensor], found: list[Group]) -> Tensor:
    """What was computed of each group, [R, …], in the order of the sequences, [N, …]."""
    row_N = torch.cat([group.row_R for group in found])
    return torch.cat(parts).index_select(0, row_N.argsort())
