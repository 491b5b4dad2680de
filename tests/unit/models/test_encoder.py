"""The encoder block against torch's own, and CameNN's network against one that caches and skips nothing."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.models.factory import Embedded, make_batch, make_schema
from trainer.runtime.models.camenn import CameNN
from trainer.runtime.models.layers.encoder import EncoderBlock
from trainer.runtime.models.layers.masked import masked_mean
from trainer.runtime.models.layers.mixture import TransformerFrame
from trainer.runtime.models.layers.tokens import InputTokens


def same_in_torch(block: EncoderBlock) -> nn.TransformerEncoderLayer:
    """Torch's encoder layer with the block's weights."""
    width, hidden = block.wide.in_features, block.wide.out_features
    layer = nn.TransformerEncoderLayer(width, block.heads, hidden, dropout=0.0, batch_first=True, norm_first=False)
    with torch.no_grad():
        for theirs, ours in pairs(layer, block):
            theirs.copy_(ours)
    return layer


def pairs(layer: nn.TransformerEncoderLayer, block: EncoderBlock) -> tuple[tuple[Tensor, Tensor], ...]:
    """Torch's weights and the block's, side by side."""
    return (
        (layer.self_attn.in_proj_weight, block.qkv.weight),
        (layer.self_attn.in_proj_bias, block.qkv.bias),
        (layer.self_attn.out_proj.weight, block.out.weight),
        (layer.self_attn.out_proj.bias, block.out.bias),
        (layer.linear1.weight, block.wide.weight),
        (layer.linear1.bias, block.wide.bias),
        (layer.linear2.weight, block.narrow.weight),
        (layer.linear2.bias, block.narrow.bias),
        (layer.norm1.weight, block.norm_attention.weight),
        (layer.norm1.bias, block.norm_attention.bias),
        (layer.norm2.weight, block.norm_feed_forward.weight),
        (layer.norm2.bias, block.norm_feed_forward.bias),
    )


def shaken(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module with random weights everywhere, norms and biases included."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(torch.randn(p.shape, generator=rng) * 0.3)
    return module.eval()


def make_block() -> EncoderBlock:
    """A block of width 8 with two heads."""
    block = shaken(EncoderBlock(8, 2, 12, 0.0))
    assert isinstance(block, EncoderBlock)
    return block


def test_equals_torch() -> None:
    """Same output as `nn.TransformerEncoderLayer`, padding masked, and for a few tokens at the front alone."""
    torch.manual_seed(1)
    block, x = make_block(), torch.randn(3, 5, 8)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 0, 1, 1, 0], [0, 0, 1, 0, 0]]).bool()
    wanted = same_in_torch(block)(x, src_key_padding_mask=~mask)
    torch.testing.assert_close(block(x, mask)[mask], wanted[mask], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(block(x, mask, first=1), block(x, mask)[:, :1], atol=1e-6, rtol=1e-5)


def test_prefix_equals_block_mask() -> None:
    """Tokens that attend to cached keys and values equal the tail of one sequence under the block mask."""
    torch.manual_seed(2)
    block, head, tail = make_block(), torch.randn(1, 4, 8), torch.randn(3, 2, 8)
    head_mask = torch.tensor([[True, False, True, True]])
    tail_mask = torch.tensor([[True, True], [True, False], [True, True]])
    cached = block.keys_values(head, head_mask).take(torch.zeros(3, dtype=torch.long))
    found = block(tail, tail_mask, cached)
    blocked = torch.zeros(6, 6, dtype=torch.bool)
    blocked[:4, 4:] = True
    mask = torch.cat([head_mask.expand(3, -1), tail_mask], 1)
    whole = torch.cat([head.expand(3, -1, -1), tail], 1)
    wanted = same_in_torch(block)(whole, src_mask=blocked, src_key_padding_mask=~mask)[:, 4:]
    torch.testing.assert_close(found[tail_mask], wanted[tail_mask], atol=1e-6, rtol=1e-5)


def test_width_must_divide() -> None:
    """Heads must divide the width."""
    with pytest.raises(ValueError, match="width 8 is no multiple of heads 3"):
        EncoderBlock(8, 3, 16, 0.0)


Layers = list[tuple[nn.TransformerEncoderLayer, EncoderBlock]]


def dense(frame: TransformerFrame, tokens: InputTokens, task: str, layers: Layers | None = None) -> Tensor:
    """[CLS] of each candidate as Eq. 4 is printed: one sequence a candidate, every expert run, nothing cached.

    Args:
        frame: The network.
        tokens: Its input.
        task: Task.
        layers: Takes torch's layers beside the blocks that they stand in for.
    """
    request, users = tokens.request_S, tokens.user_BUD.shape[1]
    x = torch.cat([tokens.user_BUD[request], tokens.own_SCD], dim=1)
    mask = torch.cat([tokens.user_mask_BU[request], tokens.own_mask_SC], dim=1)
    length = x.shape[1]
    blocked = torch.zeros(length, length, dtype=torch.bool)
    own_SD = masked_mean(tokens.own_SCD, tokens.own_mask_SC)
    user_SD = masked_mean(tokens.user_BUD, tokens.user_mask_BU)[request]

    def gate(own: Any, read: Tensor) -> Tensor:
        weights: Tensor = own.linear(read).softmax(dim=1)
        least = weights.topk(own.k, dim=1).values[:, -1:]
        weights = weights * (weights >= least)
        return weights / weights.sum(dim=1, keepdim=True)

    if frame.prefix:
        blocked[:users, users:] = True
        for_user = gate(frame.user_gates[task], user_SD)
        for_own = gate(frame.gates[task], torch.cat([user_SD, own_SD], 1))
        spans = [users, length - users]
        weights = torch.cat(
            [w[:, None].expand(-1, n, -1) for w, n in zip((for_user, for_own), spans, strict=True)], dim=1
        )
    else:
        weights = gate(frame.gates[task], masked_mean(x, mask))[:, None]

    def run(block: nn.Module, y: Tensor) -> Tensor:
        assert isinstance(block, EncoderBlock)
        layer = same_in_torch(block)
        if layers is not None:
            layers.append((layer, block))
        found: Tensor = layer(y, src_mask=blocked, src_key_padding_mask=~mask)
        return found

    x = run(frame.shared, x)
    mixed = sum(weights[..., j, None] * run(expert, x) for j, expert in enumerate(frame.experts))
    assert isinstance(mixed, Tensor)
    return run(frame.towers[task], mixed)[:, users]


@pytest.mark.parametrize("history", ["tokens", "modalities", "item"])
@pytest.mark.parametrize("attention", ["prefix", "joint"])
def test_network_equals_dense_and_uncached(attention: str, history: str) -> None:
    """Cached keys and values, skipped experts and short-cut towers change nothing: all of it against torch's layers."""
    recipe = {"width": 8, "heads": 2, "feed_forward": 12, "attention": attention, "history": history}
    model = Embedded("camenn", make_schema(), recipe)
    shaken(model, 3)
    # requests with users known, of unlike length, all of them with a history or a field
    batch = model.tables.embed(make_batch(make_schema(), candidates=(4, 1, 7), seed=6))
    assert isinstance(model.model, CameNN)
    tokens, frame = model.model._input(batch), model.model.frame
    assert isinstance(frame, TransformerFrame)
    with torch.no_grad():
        torch.testing.assert_close(frame(tokens, ("cvr",))["cvr"], dense(frame, tokens, "cvr"), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("attention", ["prefix", "joint"])
def test_gradients_equal_dense_and_uncached(attention: str) -> None:
    """So do the gradients of every block, of the gates and of the input."""
    model = Embedded("camenn", make_schema(), {"width": 8, "heads": 2, "feed_forward": 12, "attention": attention})
    shaken(model, 3)
    batch = model.tables.embed(make_batch(make_schema(), candidates=(4, 1, 7), seed=6))
    assert isinstance(model.model, CameNN)
    tokens, frame = model.model._input(batch), model.model.frame
    assert isinstance(frame, TransformerFrame)
    wish = torch.randn(12, 8, generator=torch.Generator().manual_seed(1))
    layers: Layers = []
    gradients = []
    for way in (lambda t: frame(t, ("cvr",))["cvr"], lambda t: dense(frame, t, "cvr", layers)):
        frame.zero_grad()
        user, own = tokens.user_BUD.detach().requires_grad_(), tokens.own_SCD.detach().requires_grad_()
        (way(replace(tokens, user_BUD=user, own_SCD=own)) * wish).sum().backward()
        gates = {k: p.grad for k, p in frame.named_parameters() if "gates" in k and p.grad is not None}
        gradients.append((user.grad, own.grad, gates))
        if not layers:
            blocks = {k: p.grad.clone() for k, p in frame.named_parameters() if "gates" not in k and p.grad is not None}
    (of_user, of_own, gates), (user_wanted, own_wanted, gates_wanted) = gradients
    torch.testing.assert_close(of_user, user_wanted, atol=2e-5, rtol=1e-3)
    torch.testing.assert_close(of_own, own_wanted, atol=2e-5, rtol=1e-3)
    assert gates
    torch.testing.assert_close(gates, gates_wanted, atol=2e-5, rtol=1e-3)
    names = {id(p): k for k, p in frame.named_parameters()}
    compared = set()
    for layer, block in layers:
        for theirs, ours in pairs(layer, block):
            name = names[id(ours)]
            compared.add(name)
            found = blocks.get(name, torch.zeros_like(ours))
            wanted = torch.zeros_like(ours) if theirs.grad is None else theirs.grad
            torch.testing.assert_close(found, wanted, atol=5e-5, rtol=1e-3, msg=partial("{}: {}".format, name))
    assert compared >= blocks.keys()


def test_lists_longer_than_a_chunk() -> None:
    """A long list scores as its parts do."""
    model = Embedded("camenn", make_schema(), {"width": 8, "heads": 2, "feed_forward": 12})
    shaken(model, 4)
    batch = model.tables.embed(make_batch(make_schema(), candidates=(300,)))
    assert isinstance(model.model, CameNN)
    frame, tokens = model.model.frame, model.model._input(batch)
    assert isinstance(frame, TransformerFrame)
    with torch.no_grad():
        torch.testing.assert_close(frame(tokens, ("cvr",))["cvr"], dense(frame, tokens, "cvr"), atol=2e-5, rtol=1e-4)
