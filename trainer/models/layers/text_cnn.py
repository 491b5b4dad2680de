"""Sentence vectors by convolution (Kim 2014).

Shape suffixes: N texts, T words, D width of a word, F filters a window.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class TextCNN(nn.Module):
    """Filters of several window sizes over the words, ReLU, maximum over time.

    A text is padded with zeros at its end so that every window size fits at least once; windows that lie wholly behind
    the last word do not count. A text without words gives zeros.

    Args:
        width: Width of a word.
        filters: Filters of each window size.
        windows: Window sizes, in words.

    Example:
        >>> cnn = TextCNN(width=4, filters=3, windows=(2, 3))
        >>> cnn(torch.randn(5, 7, 4), torch.ones(5, 7, dtype=torch.bool)).shape
        torch.Size([5, 6])
    """

    def __init__(self, width: int, filters: int, windows: Sequence[int]) -> None:
        super().__init__()
        self.windows = tuple(windows)
        self.width = filters * len(self.windows)
        self.convolutions = nn.ModuleList(nn.Conv1d(width, filters, window) for window in self.windows)

    def forward(self, words_NTD: Tensor, mask_NT: Tensor) -> Tensor:
        """Vectors of texts.

        Args:
            words_NTD: Words, from the front.
            mask_NT: True where there is one.

        Returns:
            [N, F · number of window sizes].
        """
        # words stand at the front: cut the columns that no text reaches
        used = max(int(mask_NT.any(dim=0).sum()), 1)
        words_NTD, mask_NT = words_NTD[:, :used], mask_NT[:, :used]
        words_NDT = torch.where(mask_NT[..., None], words_NTD, torch.zeros_like(words_NTD)).transpose(1, 2)
        found = []
        for window, convolution in zip(self.windows, self.convolutions, strict=True):
            padded = functional.pad(words_NDT, (0, window - 1))
            active_NFT = functional.relu(convolution(padded))
            found.append(active_NFT.masked_fill(~mask_NT[:, None], 0.0).amax(dim=2))
        return torch.cat(found, dim=1)
