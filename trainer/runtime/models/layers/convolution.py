"""Convolutions over the words of many texts, computed where there are words and nowhere else.

Shape suffixes: I texts, T words at most, N words of all texts in order, D width of a word, F filters.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


def convolve(
    words_ND: Tensor, mask_IT: Tensor, convolutions: Sequence[nn.Conv1d], before: int | None = None
) -> list[Tensor]:
    """Outputs of convolutions at each word; beyond a text's ends there are zeros.

    y_t = b + Σ_k W_k x_{t + k − before}. All W_k x are one product of matrices over the words, which are then added up
    at their distances: padded places cost nothing.

    Args:
        words_ND: The words where `mask_IT` is True.
        mask_IT: True where a text has a word, from the front.
        convolutions: Convolutions over D channels.
        before: Words before t that a window begins with; (size − 1) // 2, a centred window, by default.

    Returns:
        For each convolution its outputs [N, F], before any activation.

    Example:
        >>> mean = nn.Conv1d(1, 1, 3, bias=False)
        >>> mean.weight.data.fill_(1.0).shape
        torch.Size([1, 1, 3])
        >>> texts = torch.tensor([[True, True, True], [True, False, False]])
        >>> convolve(torch.tensor([[1.0], [2.0], [4.0], [8.0]]), texts, [mean])[0].flatten().tolist()
        [3.0, 7.0, 6.0, 8.0]
    """
    n = len(words_ND)
    text_N = mask_IT.nonzero()[:, 0]
    parts_XD = torch.cat([layer.weight.permute(2, 0, 1).flatten(0, 1) for layer in convolutions])
    # split, not sliced: the gradients of slices would each be as large as the whole
    sizes = [layer.out_channels for layer in convolutions for _ in range(layer.kernel_size[0])]
    products = iter(torch.split(words_ND @ parts_XD.T, sizes, dim=1))
    found = []
    for layer in convolutions:
        size = layer.kernel_size[0]
        first = (size - 1) // 2 if before is None else before
        total_NF = words_ND.new_zeros(n, layer.out_channels)
        if layer.bias is not None:
            total_NF = total_NF + layer.bias
        for k in range(size):
            part_NF, shift = next(products), k - first  # the word that many places further on
            if shift == 0:
                total_NF = total_NF + part_NF
            elif abs(shift) < n:
                low, high = max(-shift, 0), n - max(shift, 0)
                same_N = text_N[low:high] == text_N[low + shift : high + shift]
                moved_NF = part_NF[low + shift : high + shift] * same_N[:, None]
                total_NF = total_NF + functional.pad(moved_NF, (0, 0, low, n - high))
        found.append(total_NF)
    return found
