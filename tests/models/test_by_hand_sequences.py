"""Models of sequences against their equations, written out again a candidate at a time on shaken weights."""

from __future__ import annotations

import torch
from torch import nn

from trainer.models.layers.encoder import EncoderBlock


def shake(module: nn.Module, std: float = 0.4) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * std)


def test_tokens_alone_equal_sequences_of_one() -> None:
    """Grouped by prefix, with prefixes nobody attends to, empty ones and holes; gradients and all."""
    torch.manual_seed(4)
    block = EncoderBlock(6, 2, 8, 0.0)
    shake(block)
    row = torch.tensor([0, 0, 0, 2, 3, 3])
    mask = torch.tensor([[1, 1, 0, 1], [1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 1], [1, 1, 0, 0]]).bool()
    x, past, weight = torch.randn(6, 6, requires_grad=True), torch.randn(5, 4, 6, requires_grad=True), torch.randn(6, 6)
    known = block.keys_values(past, mask)
    ones = torch.ones(6, 1, dtype=torch.bool)
    both = [block.alone(x, known, row), block(x[:, None], ones, known.take(row))[:, 0]]
    torch.testing.assert_close(*both)
    inputs = [x, past, *block.parameters()]
    found, expected = (torch.autograd.grad((out * weight).sum(), inputs, retain_graph=True) for out in both)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert block.alone(x[:0], known, row[:0]).shape == (0, 6)
