"""Sentence vectors by convolution (Kim 2014).

Shape suffixes: N texts, T words, D width of a word, F filters of all windows, X words of all texts.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.runtime.models.layers.convolution import convolve


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
        mask_NT = mask_NT[:, :used]
        layers = [layer for layer in self.convolutions if isinstance(layer, nn.Conv1d)]
        active_XF = functional.relu(torch.cat(convolve(words_NTD[:, :used][mask_NT], mask_NT, layers, before=0), dim=1))
        active_NTF = active_XF.new_zeros(*mask_NT.shape, self.width)
        active_NTF[mask_NT] = active_XF
        return active_NTF.amax(dim=1)
