"""FashionBERT's adaptive loss, masking and matching."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from tests.models.factory import Embedded, make_batch, make_schema
from trainer.runtime.models.fashionbert import FashionBERT, _restored, adaptive_weights
from trainer.runtime.models.recipe import RecipeError

SMALL = {"width": 8, "heads": 2, "feed_forward": 12, "dropout": 0.0, "layers": 1}


def make(**recipe: Any) -> tuple[Embedded, FashionBERT]:
    """A small FashionBERT with plain tables."""
    model = Embedded("fashionbert", make_schema(), SMALL | recipe)
    assert isinstance(model.model, FashionBERT)
    return model, model.model


def test_adaptive_weights_by_hand() -> None:
    """w_i = Π_{j≠i} (3 - g_j) / Σ_k Π_{j≠k} (3 - g_j), g = softmax(L)²: the largest loss weighs most."""
    losses = [0.2, 1.5, 0.7]
    total = sum(math.exp(x) for x in losses)
    g = [(math.exp(x) / total) ** 2 for x in losses]
    products = [(3 - g[1]) * (3 - g[2]), (3 - g[2]) * (3 - g[0]), (3 - g[0]) * (3 - g[1])]
    found = adaptive_weights(torch.tensor(losses)).tolist()
    assert found == pytest.approx([p / sum(products) for p in products], rel=1e-6)
    assert max(found) == found[1]


@pytest.mark.parametrize("detach", [False, True])
def test_weights_pass_gradients_unless_told(detach: bool) -> None:
    """As released, the weights are part of the graph."""
    batch = make_batch(make_schema(), 6, 3)
    found = []
    for adaptive in (True, False):
        model, fashion = make(detach_weights=detach, adaptive=adaptive)
        torch.manual_seed(1)
        losses = model.losses(batch)
        assert set(losses) == {"cvr", "text", "alignment", "image"}
        found.append({k: v.detach() for k, v in losses.items()})
        (losses["text"] + losses["alignment"] + losses["image"]).backward()
        found.append({"match": fashion.match.weight.grad.clone()})
    raw = torch.stack([3 * found[2][k] for k in ("text", "alignment", "image")]).requires_grad_()
    weights = adaptive_weights(raw.detach() if detach else raw)
    (weights * raw).sum().backward()
    assert raw.grad is not None
    # the match head is reached through the alignment loss alone: its gradient shows the factor
    torch.testing.assert_close(found[1]["match"], 3 * found[3]["match"] * raw.grad[1], rtol=1e-4, atol=1e-6)


def test_restoring_by_hand() -> None:
    """KL of the guess from the truth, mean over hidden tokens alone."""
    truth = torch.tensor([[[0.0, 0.0], [3.0, 1.0]]])
    guess = torch.tensor([[[math.log(3.0), 0.0], [9.0, -9.0]]])
    wanted = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert float(_restored(guess, truth, torch.tensor([[True, False]]))) == pytest.approx(wanted, rel=1e-5)
    assert float(_restored(guess, truth, torch.tensor([[False, False]]))) == 0.0


def test_false_pairs_are_not_restored() -> None:
    """Restoring losses come from pairs that belong together."""
    _, fashion = make(masked=1.0)
    content = make_batch(make_schema(), seed=2).content
    assert content is not None
    both = (content.text_mask_IT.any(1) & content.image_mask_I).nonzero().flatten()[:2]
    text, image = both, both.flip(0)
    losses = fashion._pretrain(content, text, image, torch.zeros(2))
    assert float(losses["text"].detach()) == float(losses["image"].detach()) == 0.0
    losses = fashion._pretrain(content, both, both, torch.ones(2))
    assert float(losses["text"].detach()) > 0
    assert float(losses["image"].detach()) > 0


def test_masked_everything_cannot_match() -> None:
    """With every token masked in training, a pair's logit depends on its lengths alone: masking is for real."""
    _, fashion = make(masked=1.0)
    seen: list[torch.Tensor] = []
    fashion.match.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].detach()))
    content = make_batch(make_schema(), seed=2).content
    assert content is not None
    lengths = content.text_mask_IT.sum(1)
    fit = (content.image_mask_I & (lengths == lengths.mode().values)).nonzero().flatten()
    assert len(fit) >= 2
    fashion._pretrain(content, fit[:2], fit[:2], torch.ones(2))
    torch.testing.assert_close(seen[0][0], seen[0][1])


def test_needs_content() -> None:
    """Data without text and image are refused by name."""
    with pytest.raises(RecipeError, match="fashionbert"):
        Embedded("fashionbert", make_schema(content=False), SMALL)
