"""Models of sequences against their equations, written out again a candidate at a time on shaken weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.models.factory import Embedded
from trainer.runtime.models.batch import Batch
from trainer.runtime.models.dien import DIENRecipe, InterestEvolution
from trainer.runtime.models.layers.encoder import EncoderBlock
from trainer.runtime.models.registry import build
from trainer.runtime.models.schema import ModelFeature, Schema, Sequence

ROWS, GAPS, LENGTH = 30, 12, 4
SCHEMA = Schema(
    (
        ModelFeature("user", "user", "user", ROWS),
        ModelFeature("item", "item", "item", ROWS),
        ModelFeature("shop", "item", "s", ROWS),
    ),
    (
        Sequence(
            "buys",
            LENGTH,
            (
                ModelFeature("buys.item", "item", "item", ROWS),
                ModelFeature("buys.shop", "item", "s", ROWS),
                ModelFeature("buys.gap", "item", "gap", GAPS),
            ),
        ),
    ),
    tasks=("ctr",),
)
# Three requests of two, one and three candidates; the third has no history, the first has a hole in it.
REQUEST = torch.tensor([0, 0, 1, 2, 2, 2])
MASK = torch.tensor([[True, False, True, True], [False, False, True, True], [False, False, False, False]])


def shake(module: nn.Module, std: float = 0.4) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * std)


def random_batch(width: int) -> Batch:
    shapes = {"user": (3,), "item": (6,), "shop": (6,), **{f"buys.{n}": (3, LENGTH) for n in ("item", "shop", "gap")}}
    main = {name: torch.randn(*shape, width) for name, shape in shapes.items()}
    return Batch({"main": main}, REQUEST, {"buys": MASK}, request_fields=frozenset({"user"}))


def feed_forward(weights: dict[str, Tensor], prefix: str, x: Tensor) -> Tensor:
    """Linear, ReLU, linear."""
    hidden = torch.relu(weights[f"{prefix}.0.weight"] @ x + weights[f"{prefix}.0.bias"])
    return weights[f"{prefix}.2.weight"] @ hidden + weights[f"{prefix}.2.bias"]


def test_youtubenet_by_hand() -> None:
    """Width 1 and no hidden layer: the score is a sum with weights, of histories their means."""
    model: Any = build("youtubenet", SCHEMA, {"width": 1, "hidden": []})
    linear = model.mlp.layers[0]
    assert model.fields.names == ("user", "item", "shop")
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[1.0, 10.0, 100.0, 0.5, -2.0, 3.0]]))  # … mean item, mean shop, mean gap
        linear.bias.fill_(0.25)
    main = {
        "user": [1, 2, 3],
        "item": [1, 2, 3, 4, 5, 6],
        "shop": [6, 5, 4, 3, 2, 1],
        "buys.item": [[1, 99, 2, 6], [99, 99, 5, 7], [99] * 4],  # means 3, 6, none
        "buys.shop": [[0, 99, 0, 3], [99, 99, 2, 4], [99] * 4],  # 1, 3, none
        "buys.gap": [[9, 99, 8, 7], [99, 99, 2, 1], [99] * 4],  # 8, 1.5, none
    }
    embedded = {"main": {name: torch.tensor(x).float()[..., None] for name, x in main.items()}}
    batch = Batch(embedded, REQUEST, {"buys": MASK}, request_fields=frozenset({"user"}))
    first, second = 1.5 - 2 + 24, 3 - 6 + 4.5
    expected = [611 + first, 521 + first, 432 + second, 343, 253, 163]
    assert model(batch)["ctr"].tolist() == pytest.approx([x + 0.25 for x in expected])


def test_dupn_equals_its_equations() -> None:
    torch.manual_seed(0)
    width, state = 2, 3
    model = build("dupn", SCHEMA, {"width": width, "state": state, "attention": 5, "hidden": [6]}).eval()
    shake(model)
    w, batch = dict(model.state_dict()), random_batch(width)
    main, found = batch.embedded["main"], []
    for s, b in enumerate(REQUEST.tolist()):
        query = torch.cat([main["user"][b], main["item"][s], main["shop"][s]])
        h, c, seen = torch.zeros(state), torch.zeros(state), []
        for t in MASK[b].nonzero().flatten().tolist():
            e, p = torch.cat([main["buys.item"][b, t], main["buys.shop"][b, t]]), main["buys.gap"][b, t]
            gates = w["perception.0.lstm.of_item.weight"] @ e + w["perception.0.lstm.of_item.bias"]
            i, f, o, new = (gates + w["perception.0.lstm.of_state.weight"] @ h).chunk(4)
            p_i, p_f, p_o = (w["perception.0.lstm.of_property.weight"] @ p).chunk(3)
            peep_i, peep_f, peep_o = w["perception.0.lstm.peephole"]
            kept = torch.sigmoid(f + p_f + peep_f * c) * c
            c = kept + torch.sigmoid(i + p_i + peep_i * c) * torch.tanh(new)
            h = torch.sigmoid(o + p_o + peep_o * c) * torch.tanh(c)
            seen.append(torch.cat([h, p]))
        pooled = torch.zeros(state + width)
        if seen:
            of_query = w["perception.0.attention.of_query.weight"] @ query
            elements = torch.stack(seen)
            hidden = elements @ w["perception.0.attention.of_element.weight"].T
            hidden = torch.tanh(hidden + w["perception.0.attention.of_element.bias"] + of_query)
            pooled = (hidden @ w["perception.0.attention.score.weight"][0]).softmax(0) @ elements
        found.append(feed_forward(w, "mlp.layers", torch.cat([query, pooled])))
    torch.testing.assert_close(model(batch)["ctr"], torch.cat(found), atol=1e-5, rtol=1e-5)


def test_diens_attention_equals_its_equations() -> None:
    """The candidate passes a linear layer and PReLU, then the unit's MLP on [q, h, q − h, q ⊙ h], then a softmax."""
    torch.manual_seed(1)
    evolution = InterestEvolution(4, 4, DIENRecipe(attention_hidden=(5, 3))).eval()
    shake(evolution)
    w, query, states = dict(evolution.state_dict()), torch.randn(6, 4), torch.randn(3, LENGTH, 4)
    found = evolution.attend(query, states, MASK, REQUEST)
    for s, b in enumerate(REQUEST.tolist()):
        q = w["project.0.weight"] @ query[s] + w["project.0.bias"]
        q = torch.where(q > 0, q, w["project.1.slope"] * q)
        scores = []
        for h in states[b, MASK[b]]:
            x = torch.sigmoid(w["unit.first.weight"] @ torch.cat([q, h, q - h, q * h]) + w["unit.first.bias"])
            x = torch.sigmoid(w["unit.rest.layers.0.weight"] @ x + w["unit.rest.layers.0.bias"])
            scores.append(w["unit.rest.layers.2.weight"] @ x + w["unit.rest.layers.2.bias"])
        assert not found[s, ~MASK[b]].any()
        if scores:
            torch.testing.assert_close(found[s, MASK[b]], torch.cat(scores).softmax(0))


@pytest.mark.parametrize("score", ["unit", "inner"])
def test_diens_auxiliary_loss_scores_the_next_item_without_its_properties(score: Any) -> None:
    """A history of three items, 2 wide with a property besides: two states, each with the item one further on."""
    torch.manual_seed(2)
    evolution = InterestEvolution(3, 2, DIENRecipe(auxiliary=score, auxiliary_hidden=(4,)))
    shake(evolution)
    states, past, others = torch.randn(1, 4, 3), torch.randn(1, 4, 3), torch.randn(1, 4, 3)
    mask = torch.tensor([[False, True, True, True]])

    def logit(state: Tensor, item: Tensor) -> Tensor:
        if score == "inner":
            return state[:2] @ item
        w = dict(evolution.state_dict())
        x = w["next_item.layers.0.weight"] @ torch.cat([state, item]) + w["next_item.layers.0.bias"]
        return (w["next_item.layers.2.weight"] @ torch.sigmoid(x) + w["next_item.layers.2.bias"])[0]

    losses = [-torch.log(torch.sigmoid(logit(states[0, t], past[0, t + 1, :2]))) for t in (1, 2)]
    losses += [-torch.log(1 - torch.sigmoid(logit(states[0, t], others[0, t + 1, :2]))) for t in (1, 2)]
    found = evolution.auxiliary_loss(states, past, mask, others)
    torch.testing.assert_close(found, torch.stack(losses).mean())
    noise = torch.cat([past[..., :2], torch.randn(1, 4, 1)], 2)
    assert torch.equal(evolution.auxiliary_loss(states, noise, mask, others), found)


def test_diens_negatives_are_items_that_did_not_come_next() -> None:
    """Where all users go on to one item but one user to another, only pairs of the two are left; of one item none."""
    evolution = InterestEvolution(2, 1, DIENRecipe(auxiliary="inner"))
    states, mask = torch.ones(8, 2, 2), torch.ones(8, 2, dtype=torch.bool)
    past = torch.zeros(8, 2, 2)
    past[..., 1] = torch.randn(8, 2)  # a property that differs does not make another item
    assert evolution.auxiliary_loss(states, past, mask).item() == 0.0
    past[0, 1, 0] = 2.0
    # pairs (2, 0) and (0, 2): both have one score 2 and one score 0, on either side of the truth
    softplus = nn.functional.softplus(torch.tensor([-2.0, 0.0, 0.0, 2.0])).mean().item()
    for seed in range(20):
        torch.manual_seed(seed)
        assert evolution.auxiliary_loss(states, past, mask).item() in (0.0, pytest.approx(softplus))


@pytest.mark.parametrize("learnable", [False, True])
def test_diens_auxiliary_task_needs_items(learnable: bool) -> None:
    """Random items with gaps that fall by one each: nothing to learn. Where each item is the last one again: much."""
    torch.manual_seed(3)
    model: Any = Embedded("dien", SCHEMA, {"width": 4, "init_std": 1.0, "auxiliary_hidden": [16]})
    optimizer, losses = torch.optim.Adam(model.parameters(), lr=0.02), []
    for _ in range(200):
        ids = {name: torch.zeros(64, dtype=torch.long) for name in ("user", "item", "shop")}
        for name in ("item", "shop"):
            drawn = torch.randint(1, ROWS, (64, LENGTH))
            ids[f"buys.{name}"] = drawn[:, :1].expand(-1, LENGTH) if learnable else drawn
        ids["buys.gap"] = torch.randint(LENGTH, GAPS, (64, 1)) - torch.arange(LENGTH)
        mask = torch.ones(64, LENGTH, dtype=torch.bool)
        batch = Batch({}, torch.arange(64), {"buys": mask}, ids=ids, request_fields=frozenset({"user"}))
        loss = model.losses(batch)["next_item"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    last = sum(losses[-20:]) / 20
    assert last < 0.4 if learnable else 0.68 < last < 0.71  # chance: ln 2 ≈ 0.693


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
