"""Layers of the baselines against values worked by hand, and against plainer ways to write the same."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from trainer.runtime.models.dmf import DenseFusion
from trainer.runtime.models.layers.attention import ActivationUnit, AdditiveAttention, QueryAttention, TargetAttention
from trainer.runtime.models.layers.experts import DenseExperts
from trainer.runtime.models.layers.gru import AUGRU, MaskedGRU, PropertyLSTM
from trainer.runtime.models.layers.interaction import CIN, AttentionalPairs, FieldAwarePairs, fm_pairs
from trainer.runtime.models.layers.mlp import MLP, BatchNorm, Dice, Dropout, LastPReLU, activation


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_fm_pairs_equal_the_sum_over_pairs() -> None:
    x = torch.randn(3, 5, 4)
    expected = sum((x[:, i] * x[:, j]).sum(1) for i in range(5) for j in range(i + 1, 5))
    torch.testing.assert_close(fm_pairs(x), expected)


def test_field_aware_pairs_by_hand() -> None:
    """Three fields of width 1: field f's vectors for the others, in order."""
    x = torch.tensor([[[2.0, 3.0], [5.0, 7.0], [11.0, 13.0]]])
    # v_{0,1} v_{1,0} + v_{0,2} v_{2,0} + v_{1,2} v_{2,1} = 2·5 + 3·11 + 7·13
    assert FieldAwarePairs(3, 1)(x).item() == 134.0


def test_field_aware_pairs_equal_the_sum_over_pairs() -> None:
    fields, width = 5, 3
    vectors = torch.randn(4, fields, fields, width)  # [s, i, j]: vector of field i for field j
    expected = sum((vectors[:, i, j] * vectors[:, j, i]).sum(1) for i in range(fields) for j in range(i + 1, fields))
    rows = [torch.cat([vectors[:, i, j] for j in range(fields) if j != i], 1) for i in range(fields)]
    torch.testing.assert_close(FieldAwarePairs(fields, width)(torch.stack(rows, 1)), expected)


def test_one_field_has_no_pairs() -> None:
    assert FieldAwarePairs(1, 2)(torch.zeros(3, 1, 0)).tolist() == [0.0, 0.0, 0.0]
    assert fm_pairs(torch.ones(3, 1, 2)).tolist() == [0.0, 0.0, 0.0]


def test_attentional_pairs_by_hand() -> None:
    layer = AttentionalPairs(3, 1, 1, (0.0, 0.0))
    with torch.no_grad():
        layer.hidden.weight.fill_(1.0), layer.hidden.bias.fill_(-1.0), layer.score.weight.fill_(1.0)
    # products 2, 3, 6; scores 1, 2, 5
    z = [math.exp(s) for s in (1, 2, 5)]
    expected = (2 * z[0] + 3 * z[1] + 6 * z[2]) / sum(z)
    assert layer(torch.tensor([[[1.0], [2.0], [3.0]]])).item() == pytest.approx(expected, rel=1e-6)


def test_cin_by_hand() -> None:
    """Two fields of width 2, layers of one map each."""
    layer = CIN(2, (1, 1))
    with torch.no_grad():
        layer.layers[0].weight.copy_(torch.tensor([[1.0, 2.0, 3.0, 4.0]])), layer.layers[0].bias.zero_()
        layer.layers[1].weight.copy_(torch.tensor([[1.0, -1.0]])), layer.layers[1].bias.zero_()
    a, b = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 1.0])
    first = 1 * a * a + 2 * a * b + 3 * b * a + 4 * b * b  # [52, 18]
    second = first * a - first * b  # [-104, 18]
    out = layer(torch.stack([a, b])[None])
    assert out.tolist() == [[first.sum().item(), second.sum().item()]] == [[70.0, -86.0]]


@pytest.mark.parametrize("split_half", [False, True])
def test_cin_equals_its_equation(split_half: bool) -> None:
    layer = CIN(3, (4, 2), activate="relu", split_half=split_half)
    x0 = torch.randn(5, 3, 6)
    state, pooled = x0, []
    for k, linear in enumerate(layer.layers):
        assert isinstance(linear, nn.Linear)
        w = linear.weight.reshape(linear.out_features, state.shape[1], 3)
        out = torch.relu(torch.einsum("oim,sid,smd->sod", w, state, x0) + linear.bias[:, None])
        state, direct = (out[:, :2], out[:, 2:]) if split_half and k == 0 else (out, out)
        pooled.append(direct.sum(2))
    torch.testing.assert_close(layer(x0), torch.cat(pooled, 1))
    assert layer.width == (4 if split_half else 6)


def test_dice_by_hand() -> None:
    dice = Dice(1, epsilon=1e-12)
    with torch.no_grad():
        dice.alpha.fill_(0.25)
    # mean 2, variance 1: p = σ(−1), σ(1)
    expected = [sigmoid(-1) + 0.25 * (1 - sigmoid(-1)), 3 * (sigmoid(1) + 0.25 * (1 - sigmoid(1)))]
    assert dice(torch.tensor([[1.0], [3.0]])).flatten().tolist() == pytest.approx(expected, rel=1e-6)


def test_normalisation_of_one_row_uses_and_leaves_the_running_statistics() -> None:
    norm = BatchNorm(2)
    norm(torch.randn(8, 3, 2) * 3 + 1)
    before = [norm.running_mean.clone(), norm.running_var.clone()]
    x = torch.randn(1, 2)
    torch.testing.assert_close(norm(x), (x - before[0]) / (before[1] + norm.eps).sqrt())
    assert torch.equal(norm.running_mean, before[0]) and torch.equal(norm.running_var, before[1])  # type: ignore[arg-type]


def test_normalisation_reads_the_last_dimension() -> None:
    x = torch.randn(4, 3, 2)
    torch.testing.assert_close(BatchNorm(2)(x).flatten(0, 1), nn.BatchNorm1d(2)(x.flatten(0, 1)))


def test_activations() -> None:
    x = torch.tensor([[-2.0, 3.0]])
    assert LastPReLU(2)(x).tolist() == [[pytest.approx(-0.2), 3.0]]
    for name in ("relu", "prelu", "dice", "sigmoid", "tanh", "leaky_relu", "none"):
        assert activation(name, 2)(x).shape == x.shape
    with pytest.raises(ValueError, match="no activation"):
        activation("swish", 2)  # type: ignore[arg-type]


def test_dropout_keeps_the_mean_and_sleeps_in_evaluation() -> None:
    torch.manual_seed(0)
    layer, x = Dropout(0.25), torch.ones(200_000)
    out = layer(x)
    assert out.unique().tolist() == [0.0, pytest.approx(4 / 3)]
    assert out.mean().item() == pytest.approx(1.0, abs=0.01)
    assert torch.equal(layer.eval()(x), x)


def test_mlp_order_of_layers() -> None:
    mlp = MLP(3, (4,), output=1, batch_norm=True, dropout=0.5)
    assert [type(layer) for layer in mlp.layers] == [nn.Linear, BatchNorm, nn.ReLU, Dropout, nn.Linear]


def test_activation_unit_equals_one_layer_on_the_concatenation() -> None:
    unit = ActivationUnit(3, (5, 4))
    query, keys, request = torch.randn(6, 3), torch.randn(2, 7, 3), torch.tensor([0, 0, 0, 1, 1, 1])
    q, k = query[:, None].expand(-1, 7, -1), keys[request]
    expected = unit.rest(torch.sigmoid(unit.first(torch.cat([q, k, q - k, q * k], 2)))).squeeze(2)
    torch.testing.assert_close(unit(query, keys, request), expected)


@pytest.mark.parametrize("softmax", [True, False])
def test_target_attention_masks_and_scales(softmax: bool) -> None:
    attention = TargetAttention(4, (5,), softmax=softmax)
    query, keys, request = torch.randn(3, 4), torch.randn(2, 6, 4), torch.tensor([0, 1, 1])
    mask = torch.tensor([[False] * 6, [False, False, True, True, True, True]])
    out = attention(query, keys, mask, request)
    assert out[0].tolist() == [0.0] * 4
    scores = attention.unit(query, keys, request)[1:, 2:]
    weights = (scores / 2).softmax(1) if softmax else scores / 1
    torch.testing.assert_close(out[1:], torch.einsum("sl,sle->se", weights, keys[request[1:], 2:]))


def test_additive_and_query_attention_by_hand() -> None:
    x = torch.tensor([[[1.0], [2.0], [99.0]]])
    mask = torch.tensor([[True, True, False]])
    additive, asked = AdditiveAttention(1, 1), QueryAttention(1, 1, 1)
    with torch.no_grad():
        additive.hidden.weight.fill_(1.0), additive.hidden.bias.zero_(), additive.query.weight.fill_(2.0)
        asked.of_element.weight.fill_(1.0), asked.of_element.bias.zero_()
        asked.of_query.weight.fill_(1.0), asked.score.weight.fill_(2.0)
    a, b = math.exp(2 * math.tanh(1)), math.exp(2 * math.tanh(2))
    assert additive(x, mask).item() == pytest.approx((a + 2 * b) / (a + b), rel=1e-6)
    a, b = math.exp(2 * math.tanh(1.5)), math.exp(2 * math.tanh(2.5))
    out = asked(torch.tensor([[0.5]]), x, mask, torch.tensor([0]))
    assert out.item() == pytest.approx((a + 2 * b) / (a + b), rel=1e-6)


def test_masked_gru_equals_the_packed_one() -> None:
    gru = MaskedGRU(3, 4)
    lengths = torch.tensor([5, 2, 1, 4])
    packed = torch.randn(4, 5, 3)
    ref, last = gru.gru(pack_padded_sequence(packed, lengths, batch_first=True, enforce_sorted=False))
    states, _ = pad_packed_sequence(ref, batch_first=True, total_length=5)
    mask = torch.zeros(5, 5, dtype=torch.bool)
    x = torch.randn(5, 5, 3)
    for b, n in enumerate(lengths.tolist()):  # padded in front; the fifth history is empty
        mask[b, 5 - n :] = True
        x[b, 5 - n :] = packed[b, :n]
    out, out_last = gru(x, mask)
    torch.testing.assert_close(out_last[:4], last[0])
    assert out_last[4].tolist() == [0.0] * 4 and not out[~mask].any()
    for b, n in enumerate(lengths.tolist()):
        torch.testing.assert_close(out[b, 5 - n :], states[b, :n])


def test_masked_gru_skips_holes() -> None:
    gru = MaskedGRU(2, 3)
    x = torch.randn(1, 4, 2)
    mask = torch.tensor([[True, False, True, True]])
    dense, _ = gru(x[:, [0, 2, 3]], torch.ones(1, 3, dtype=torch.bool))
    torch.testing.assert_close(gru(x, mask)[0][:, [0, 2, 3]], dense)


def test_augru_by_hand() -> None:
    """One unit, two items: x = 1 then −1, attention 0.5 then 0.25, all weights 1, all biases 0."""
    cell = AUGRU(1, 1)
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.fill_(1.0 if parameter.dim() == 2 else 0.0)
    h, a = 0.0, [0.5, 0.25]
    for e, weight in zip((1.0, -1.0), a, strict=True):
        update, reset = weight * sigmoid(e + h), sigmoid(e + h)
        h = (1 - update) * h + update * math.tanh(e + reset * h)
    x = torch.tensor([[[1.0], [-1.0]]])
    out = cell(x, torch.tensor([a]), torch.ones(1, 2, dtype=torch.bool), torch.tensor([0]))
    assert out.item() == pytest.approx(h, rel=1e-6)


def test_augru_keeps_its_state_where_masked_or_unattended() -> None:
    cell, x, request = AUGRU(2, 3), torch.randn(1, 4, 2), torch.tensor([0])
    mask = torch.tensor([[False, True, True, False]])
    weights = torch.tensor([[0.3, 0.6, 0.4, 0.9]])
    alone = cell(x[:, 1:3], weights[:, 1:3], mask[:, 1:3], request)
    torch.testing.assert_close(cell(x, weights, mask, request), alone)
    assert not cell(x, torch.zeros(1, 4), mask, request).any()


def test_augru_of_many_equals_each_alone() -> None:
    """Histories that begin anywhere, with holes, and none at all; candidates join as theirs begin."""
    torch.manual_seed(0)
    cell, x, request = AUGRU(2, 3), torch.randn(6, 5, 2), torch.tensor([0, 1, 1, 2, 3, 3, 3, 5])
    mask = torch.rand(6, 5) < torch.tensor([0.2, 0.5, 0.0, 0.9, 0.5, 0.5])[:, None]
    weights = torch.rand(8, 5)
    expected = []
    for a, b in zip(weights, request.tolist(), strict=True):
        h = torch.zeros(3)
        for t in mask[b].nonzero().flatten().tolist():
            in_r, in_u, in_h = cell.of_input(x[b, t]).chunk(3)
            st_r, st_u, st_h = cell.of_state(h).chunk(3)
            update = a[t] * torch.sigmoid(in_u + st_u)
            h = (1 - update) * h + update * torch.tanh(in_h + torch.sigmoid(in_r + st_r) * st_h)
        expected.append(h)
    torch.testing.assert_close(cell(x, weights, mask, request), torch.stack(expected))


def test_property_lstm_without_property_and_peephole_is_torchs() -> None:
    ours = PropertyLSTM(3, 0, 4)
    ref: Any = nn.LSTM(3, 4, batch_first=True)

    def reorder(w: Tensor) -> Tensor:  # torch: i f g o; ours: i f o g
        i, f, g, o = w.chunk(4, 0)
        return torch.cat([i, f, o, g])

    with torch.no_grad():
        ours.of_item.weight.copy_(reorder(ref.weight_ih_l0))
        ours.of_item.bias.copy_(reorder(ref.bias_ih_l0 + ref.bias_hh_l0))
        ours.of_state.weight.copy_(reorder(ref.weight_hh_l0))
    x = torch.randn(2, 5, 3)
    out = ours(x, torch.zeros(2, 5, 0), torch.ones(2, 5, dtype=torch.bool))
    torch.testing.assert_close(out, ref(x)[0])


def test_property_lstm_by_hand() -> None:
    """One unit, one item, then a second: the property works on the gates, not on the content."""
    cell = PropertyLSTM(1, 1, 1)
    with torch.no_grad():
        cell.of_item.weight.fill_(1.0), cell.of_item.bias.zero_(), cell.of_state.weight.fill_(0.5)
        assert cell.of_property is not None
        cell.of_property.weight.copy_(torch.tensor([[1.0], [2.0], [3.0]]))
        cell.peephole.copy_(torch.tensor([[0.1], [0.2], [0.3]]))
    h = c = 0.0
    for e, q in ((1.0, 0.5), (-2.0, 1.0)):
        i, f = sigmoid(e + 0.5 * h + q + 0.1 * c), sigmoid(e + 0.5 * h + 2 * q + 0.2 * c)
        new = f * c + i * math.tanh(e + 0.5 * h)
        h = sigmoid(e + 0.5 * h + 3 * q + 0.3 * new) * math.tanh(new)
        c = new
    x, p = torch.tensor([[[1.0], [-2.0]]]), torch.tensor([[[0.5], [1.0]]])
    out = cell(x, p, torch.ones(1, 2, dtype=torch.bool))
    assert out[0, 1].item() == pytest.approx(h, rel=1e-5)


def test_dense_experts_equal_separate_ones() -> None:
    experts, x = DenseExperts(3, (5, 2), 4), torch.randn(6, 3)
    for m in range(4):
        hidden = torch.relu(x @ experts.weights[0][m] + experts.biases[0][m])
        expected = torch.relu(hidden @ experts.weights[1][m] + experts.biases[1][m])
        torch.testing.assert_close(experts(x)[:, m], expected)


def test_dense_fusion_reads_the_layer_below_and_skips_what_is_absent() -> None:
    fusion: Any = DenseFusion((2, 3), (4, 5))
    a, b, both = torch.randn(6, 2), torch.randn(6, 3), torch.ones(6)
    h = [torch.relu(fusion.own[0][m](x)) for m, x in enumerate((a, b))]
    s = torch.relu(sum(fusion.to_shared[0][m](h[m]) for m in range(2)) + fusion.shared[0].bias)
    h = [torch.relu(fusion.own[1][m](h[m])) for m in range(2)]
    s = torch.relu(sum(fusion.to_shared[1][m](h[m]) for m in range(2)) + fusion.shared[1](s))
    torch.testing.assert_close(fusion([a, b], [both, both]), s)
    without = fusion([a, b], [both, torch.zeros(6)])
    torch.testing.assert_close(without, fusion([a, torch.randn(6, 3)], [both, torch.zeros(6)]))
