"""Gates and the experts that they spare."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.models.factory import Embedded, make_batch, make_schema, shaken
from trainer.runtime.models.camenn import CameNN
from trainer.runtime.models.layers.gates import TopKGate, top_k_weights

SMALL = {"width": 8, "heads": 2, "feed_forward": 12, "dropout": 0.0}


def test_weights_by_hand() -> None:
    """Logits ln 1, ln 3, ln 6 and k = 2: 3 and 6 share the weight; k = M is the plain softmax."""
    logits = torch.tensor([[1.0, 3.0, 6.0]]).log()
    torch.testing.assert_close(top_k_weights(logits, 2), torch.tensor([[0.0, 1 / 3, 2 / 3]]))
    torch.testing.assert_close(top_k_weights(logits, 3), torch.tensor([[0.1, 0.3, 0.6]]))
    torch.testing.assert_close(top_k_weights(logits, 1), torch.tensor([[0.0, 0.0, 1.0]]))


def test_gradient_reaches_the_chosen_alone() -> None:
    """d/dx of the second weight, softmax over the two chosen: p(1-p) and its negative; nothing for the third."""
    logits = torch.tensor([[0.0, 3.0, 6.0]]).add(1.0).log().requires_grad_()  # chosen: 4 and 7
    top_k_weights(logits, 2)[0, 1].backward()
    p = 4 / 11
    torch.testing.assert_close(logits.grad, torch.tensor([[0.0, p * (1 - p), -p * (1 - p)]]))
    gate = TopKGate(3, 4, 2).double()
    assert torch.autograd.gradcheck(gate, torch.randn(5, 3, dtype=torch.double, requires_grad=True))


def test_k_must_fit() -> None:
    """k is between one and the experts."""
    with pytest.raises(ValueError, match="top_k 5 is not between 1 and 4"):
        TopKGate(3, 4, 5)


class Counter:
    """Counts the sequences that a module runs on."""

    def __init__(self, module: nn.Module) -> None:
        self.sequences = 0
        module.register_forward_pre_hook(self._count)

    def _count(self, _module: nn.Module, inputs: tuple[Any, ...]) -> None:
        self.sequences += len(inputs[0])


@pytest.mark.parametrize("frame", ["transformer", "mmoe", "mose"])
def test_experts_run_on_those_that_chose_them(frame: str) -> None:
    """Each expert sees as many candidates as chose it, k of M experts each in all."""
    recipe = SMALL | {"frame": frame, "attention": "joint", "alignment_weight": 0.0, "top_k": 2, "experts": 4}
    model = Embedded("camenn", make_schema(), recipe, seed=1)
    assert isinstance(model.model, CameNN)
    shaken(model)
    batch, gate = make_batch(make_schema(), 8, 5), model.model.frame.gates["cvr"]
    read: list[Tensor] = []
    hook = gate.register_forward_pre_hook(lambda _module, inputs: read.append(inputs[0].detach()))
    model.losses(batch)
    hook.remove()
    with torch.no_grad():  # what all candidates have in common cancels: the choice depends on the candidate
        gate.linear.bias.copy_(-gate.linear.weight @ read[0].mean(0))
    counters = [Counter(expert) for expert in model.model.frame.experts]
    model.losses(batch)
    seen = [counter.sequences for counter in counters]
    assert sum(seen) == 2 * 40
    assert all(0 < count < 40 for count in seen)
    use = model.model.last_expert_use()["cvr"]
    torch.testing.assert_close(use * 40, torch.tensor(seen, dtype=torch.float))


@pytest.mark.parametrize("attention", ["prefix", "joint"])
def test_unchosen_experts_neither_run_nor_learn(attention: str) -> None:
    """With all gates on expert 2 the others get no input and no gradient."""
    recipe = SMALL | {"attention": attention, "top_k": 1, "experts": 3}
    model = Embedded("camenn", make_schema(), recipe)
    assert isinstance(model.model, CameNN)
    gates = [*model.model.frame.gates.values()]
    gates += [*getattr(model.model.frame, "user_gates", {}).values()]
    with torch.no_grad():
        for gate in gates:
            gate.linear.bias.copy_(torch.tensor([0.0, 0.0, 1e3]))
    counters = [Counter(expert) for expert in model.model.frame.experts]
    model.loss(make_batch(make_schema(), 6, 4)).backward()
    assert [counter.sequences > 0 for counter in counters] == [False, False, True]
    for j, expert in enumerate(model.model.frame.experts):
        assert all((p.grad is not None) == (j == 2) for p in expert.parameters())
    assert model.model.last_expert_use()["cvr"].tolist() == [0.0, 0.0, 1.0]


def test_users_are_encoded_once_a_request() -> None:
    """With prefix attention the shared bottom sees each request's side once, however many candidates there are."""
    model = Embedded("camenn", make_schema(), SMALL | {"top_k": 1})
    assert isinstance(model.model, CameNN)
    lengths: list[tuple[int, ...]] = []
    model.model.frame.shared.register_forward_pre_hook(lambda _module, inputs: lengths.append(inputs[0].shape[:2]))
    batch = model.tables.embed(make_batch(make_schema(), candidates=(50, 1)))
    tokens = model.model._input(batch)
    model.model._score(tokens, ("cvr",))
    assert lengths[0] == (2, tokens.user_BUD.shape[1])
    assert sum(rows for rows, _ in lengths[1:]) == 51
