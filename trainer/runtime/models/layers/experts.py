"""Fully connected experts, all in one batched matrix product.

Shape suffixes: S candidates, M experts, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


class DenseExperts(nn.Module):
    """M multi-layer perceptrons with ReLU on the same input, without an output layer.

    Args:
        inputs: Width of the input.
        hidden: Widths of each expert's layers.
        experts: How many, M.
    """

    def __init__(self, inputs: int, hidden: Sequence[int], experts: int) -> None:
        super().__init__()
        widths = (inputs, *hidden)
        shapes = list(pairwise(widths))
        self.weights = nn.ParameterList(nn.Parameter(torch.empty(experts, i, o)) for i, o in shapes)
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(experts, 1, o)) for _, o in shapes)
        for weight_MIO in self.weights:
            for expert in weight_MIO:
                nn.init.xavier_uniform_(expert)
        self.experts, self.width = experts, widths[-1]

    def forward(self, x_SC: Tensor) -> Tensor:
        """[S, C] → [S, M, width]."""
        x_MSC = x_SC.unsqueeze(0).expand(self.experts, -1, -1)
        for weight_MIO, bias_M1O in zip(self.weights, self.biases, strict=True):
            x_MSC = torch.relu(torch.baddbmm(bias_M1O, x_MSC, weight_MIO))
        return x_MSC.transpose(0, 1)
