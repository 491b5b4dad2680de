"""MARN's parts by hand and by their gradients."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.models.factory import Embedded, make_batch, make_schema, shaken
from trainer.runtime.models.layers.multimodal import MultimodalFusion, Representation
from trainer.runtime.models.layers.property_gru import PropertyGRU, StateAttention
from trainer.runtime.models.layers.reversal import reversal_strength, reverse_gradient
from trainer.runtime.models.layers.text_cnn import TextCNN
from trainer.runtime.models.marn import MARN, MARNRecipe
from trainer.runtime.models.recipe import RecipeError

SMALL = {"width": 8, "title_filters": 4, "hidden": [16]}


def make(**recipe: Any) -> tuple[Embedded, MARN]:
    """A small MARN with plain tables."""
    model = Embedded("marn", make_schema(), SMALL | recipe)
    assert isinstance(model.model, MARN)
    return model, model.model


def make_fusion(adversary: Any = "double") -> tuple[MultimodalFusion, Tensor, Tensor]:
    """Three modalities of width 4, five items, one of which lacks a modality."""
    torch.manual_seed(0)
    fusion = MultimodalFusion(3, 4, adversary)
    e_NMD = torch.randn(5, 3, 4, requires_grad=True)
    mask_NM = torch.ones(5, 3, dtype=torch.bool)
    mask_NM[2, 1] = False
    return fusion, e_NMD, mask_NM


def touched(module: torch.nn.Module) -> set[str]:
    """Parameters that got a gradient other than zero."""
    return {k for k, p in module.named_parameters() if p.grad is not None and bool(p.grad.abs().sum() > 0)}


def test_the_papers_settings_are_defaults() -> None:
    """Widths of the IDs and statistics, exact AdaGrad with rate 0.1."""
    recipe = MARNRecipe()
    assert recipe.id_widths == {"item_id": 32, "shop_id": 24, "brand_id": 24, "category_id": 16}
    assert (recipe.statistic_width, recipe.hidden) == (8, (512, 256))
    o = recipe.optimizer
    assert (o.name, o.lr, o.table_lr, o.table_exact) == ("adagrad", 0.1, 0.1, True)
    spaces = {space.name: space.width for space in MARN.spaces(make_schema(), recipe)}
    assert spaces == {"id32": 32, "id24": 24, "id16": 16, "statistic": 8, "property": 8, "context": 8}


def test_reversal() -> None:
    """The identity forward; the gradient times minus λ backward."""
    x = torch.tensor([1.0, -2.0], requires_grad=True)
    y = reverse_gradient(x, 0.3)
    assert torch.equal(y, x)
    (y * torch.tensor([2.0, 5.0])).sum().backward()
    torch.testing.assert_close(x.grad, torch.tensor([-0.6, -1.5]))


def test_schedule_by_hand() -> None:
    """λ0 (2 / (1 + e^{-10 p}) - 1)."""
    assert reversal_strength(0.0, 1.8) == 0.0
    assert reversal_strength(0.1, 1.0) == pytest.approx(2 / (1 + math.exp(-1)) - 1)
    assert reversal_strength(1.0, 0.05) == pytest.approx(0.05, rel=1e-3)


def test_fusion_by_hand() -> None:
    """One dimension, two modalities: s^m = tanh(S_m e^m), a^m = tanh(W_m s^m + b_m), c = max w^m c^m."""
    fusion = MultimodalFusion(2, 1, "double")
    with torch.no_grad():
        fusion.specific.copy_(torch.tensor([[[2.0]], [[-1.0]]]))
        fusion.attention.copy_(torch.tensor([[[0.5]], [[3.0]]]))
        fusion.attention_bias.copy_(torch.tensor([[0.1], [-0.2]]))
        fusion.invariant.weight.fill_(0.7)
        fusion.first.weight.copy_(torch.tensor([[1.0], [-2.0]]))
    e = [0.4, -0.9]
    found = fusion(torch.tensor([[[e[0]], [e[1]]]]), torch.ones(1, 2, dtype=torch.bool))
    s = [math.tanh(2.0 * e[0]), math.tanh(-1.0 * e[1])]
    a = [math.tanh(0.5 * s[0] + 0.1), math.tanh(3.0 * s[1] - 0.2)]
    c = [math.tanh(0.7 * x) for x in e]
    own = [math.exp(1.0 * c[0]), math.exp(-2.0 * c[1])]
    other = [math.exp(-2.0 * c[0]), math.exp(1.0 * c[1])]
    w = [1 - p / (p + q) for p, q in zip(own, other, strict=True)]
    wanted = a[0] * s[0] + a[1] * s[1] + max(w[0] * c[0], w[1] * c[1])
    assert float(found.item_ND.detach()) == pytest.approx(wanted, rel=1e-5)
    assert found.weight_NM.tolist()[0] == pytest.approx(w, rel=1e-5)
    first = -sum(math.log(1 - x) for x in w) / 2
    assert float(found.losses["first"].detach()) == pytest.approx(first, rel=1e-5)


def test_first_discriminator_reaches_itself_alone() -> None:
    """D0's loss does not reach the invariant projection, nor the embeddings."""
    fusion, e_NMD, mask_NM = make_fusion()
    fusion(e_NMD, mask_NM, 1.0).losses["first"].backward()
    assert touched(fusion) == {"first.weight"}
    assert e_NMD.grad is None


def test_specific_discriminator_stops_at_the_embeddings() -> None:
    """D_s trains the specific projections and the matrix that it shares with D1, and stops at e^m."""
    fusion, e_NMD, mask_NM = make_fusion()
    fusion(e_NMD, mask_NM, 1.0).losses["specific"].backward()
    assert touched(fusion) == {"specific", "second.weight"}
    assert e_NMD.grad is None


def test_second_discriminator_plays_against_the_invariant_projection() -> None:
    """D1's own gradient is as ever; what reaches projection and embeddings is times -λ; weights are detached."""
    gradients: dict[float, tuple[Any, Any, Any]] = {}
    for strength in (-1.0, 0.25):  # -1 undoes the reversal
        fusion, e_NMD, mask_NM = make_fusion()
        fusion(e_NMD, mask_NM, strength).losses["second"].backward()
        assert touched(fusion) == {"invariant.weight", "second.weight"}
        gradients[strength] = (fusion.second.weight.grad, fusion.invariant.weight.grad, e_NMD.grad)
    plain, against = gradients[-1.0], gradients[0.25]
    torch.testing.assert_close(against[0], plain[0])
    torch.testing.assert_close(against[1], -0.25 * plain[1])
    torch.testing.assert_close(against[2], -0.25 * plain[2])


def test_single_discriminator_is_unweighted() -> None:
    """ADV: no D0, no D_s; D1 on c^m itself, and c = max c^m."""
    fusion, e_NMD, mask_NM = make_fusion("single")
    found = fusion(e_NMD, mask_NM)
    assert set(found.losses) == {"second"}
    invariant = torch.tanh(fusion.invariant(e_NMD))
    logits = fusion.second(invariant)[mask_NM]
    target = torch.arange(3).expand(5, 3)[mask_NM]
    torch.testing.assert_close(found.losses["second"], torch.nn.functional.cross_entropy(logits, target))
    specific = (found.attention_NMD * found.specific_NMD).sum(1)
    most = torch.stack([invariant[n][mask_NM[n]].amax(0) for n in range(5)])
    torch.testing.assert_close(found.item_ND, specific + most)
    assert make_fusion("none")[0](e_NMD, mask_NM).losses == {}


@pytest.mark.parametrize("adversary", ["none", "single", "double"])
def test_a_missing_modality_enters_nothing(adversary: str) -> None:
    """Neither representation nor losses change with the embedding of a modality that is not there."""
    fusion, e_NMD, mask_NM = make_fusion(adversary)
    changed = e_NMD.detach().clone()
    changed[2, 1] += 100.0
    before, after = fusion(e_NMD, mask_NM, 0.5), fusion(changed, mask_NM, 0.5)
    torch.testing.assert_close(before.item_ND, after.item_ND)
    for name, loss in before.losses.items():
        torch.testing.assert_close(loss, after.losses[name])


def test_property_gru_by_hand() -> None:
    """Two behaviours of width one: the update gate reads property and item, never the state."""
    gru = PropertyGRU(1, 1, 1)
    weights = {"W_z": 0.5, "U_z": -1.0, "b_z": 0.2, "W_r": 0.3, "b_r": 0.1, "U_r": 2.0, "W": 1.5, "b": -0.4, "U": 0.8}
    with torch.no_grad():
        assert gru.update_of_property is not None
        gru.update_of_property.weight.fill_(weights["W_z"])
        gru.of_item.weight.copy_(torch.tensor([[weights["U_z"]], [weights["W_r"]], [weights["W"]]]))
        gru.of_item.bias.copy_(torch.tensor([weights["b_z"], weights["b_r"], weights["b"]]))
        gru.reset_of_state.weight.fill_(weights["U_r"])
        gru.new_of_state.weight.fill_(weights["U"])
    items, properties = [0.6, -0.3], [1.0, 2.0]

    def sigmoid(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    h, wanted = 0.0, []
    for i, q in zip(items, properties, strict=True):
        z = sigmoid(weights["W_z"] * q + weights["U_z"] * i + weights["b_z"])
        r = sigmoid(weights["W_r"] * i + weights["U_r"] * h + weights["b_r"])
        new = math.tanh(weights["W"] * i + weights["U"] * r * h + weights["b"])
        h = (1 - z) * h + z * new
        wanted.append(h)
    # padded in front, with a masked behaviour between
    x = torch.tensor([9.0, items[0], 7.0, items[1]]).view(1, 4, 1)
    p = torch.tensor([3.0, properties[0], 5.0, properties[1]]).view(1, 4, 1)
    found = gru(x, p, torch.tensor([[False, True, False, True]]))[0, :, 0].tolist()
    assert found == pytest.approx([0.0, wanted[0], wanted[0], wanted[1]], rel=1e-5)


def test_attention_of_states() -> None:
    """Weights are a softmax over the unmasked states, one set for each candidate; nothing for an empty history."""
    torch.manual_seed(0)
    attention = StateAttention(2, 3, (4,))
    states, candidates = torch.randn(2, 3, 2), torch.randn(3, 3)
    mask, request = torch.tensor([[False, True, True], [False, False, False]]), torch.tensor([0, 0, 1])
    found = attention(states, mask, candidates, request)
    for s in (0, 1):
        score = attention.score(torch.cat([states[0, 1:], candidates[s].expand(2, -1)], 1))[:, 0]
        torch.testing.assert_close(found[s], score.softmax(0) @ states[0, 1:])
    assert found[2].tolist() == [0.0, 0.0]


def test_text_cnn_by_hand() -> None:
    """One filter of two words: the largest rectified response of the windows that begin at a word."""
    cnn = TextCNN(1, 1, (2,))
    with torch.no_grad():
        cnn.convolutions[0].weight.copy_(torch.tensor([[[1.0, -1.0]]]))
        cnn.convolutions[0].bias.fill_(0.5)
    words = torch.tensor([[1.0, 3.0, 2.0, 99.0], [5.0, 99.0, 99.0, 99.0], [99.0, 99.0, 99.0, 99.0]])[..., None]
    mask = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]]).bool()
    # windows: 1-3, 3-2, 2-0 ; 5-0 ; none
    assert cnn(words, mask)[:, 0].tolist() == [2.5, 5.5, 0.0]


def test_losses_are_those_of_equation_10() -> None:
    """The sum of CTR, D_s, D0 and D1 unscaled; with the trade-off on the losses D_s and D1 are times λ."""
    batch = make_batch(make_schema(), 4, 3)
    model, _ = make(lambda0=0.5)
    plain = model.losses(batch)
    assert set(plain) == {"cvr", "specific", "first", "second"}
    scaled = make(lambda0=0.5, tradeoff="losses")[0].losses(batch)
    strength = reversal_strength(0.5, 0.5)
    for name in plain:
        factor = strength if name in ("specific", "second") else 1.0
        torch.testing.assert_close(scaled[name], factor * plain[name])


def test_progress_raises_the_reversal() -> None:
    """At the start D1 leaves the invariant projection alone; later it works against it."""
    batch = make_batch(make_schema(), 4, 3)
    found = []
    for progress in (0.0, 0.05, 1.0):
        model, marn = make(lambda0=1.0)
        model.losses(replace(batch, progress=progress))["second"].backward()
        assert marn.fusion is not None
        gradient = marn.fusion.invariant.weight.grad
        assert gradient is not None
        found.append(float(gradient.norm()))
    assert found[0] == 0.0
    assert found[1] / found[2] == pytest.approx(reversal_strength(0.05, 1) / reversal_strength(1, 1), rel=1e-4)


@pytest.mark.parametrize("tradeoff", ["reversal", "losses"])
def test_the_tradeoff_acts_once(tradeoff: str) -> None:
    """Multiplying the losses, λ leaves the reversal at 1: D1's gradient and its adversary's are both times λ."""
    batch, strength = make_batch(make_schema(), 4, 3), reversal_strength(0.5, 0.5)
    gradients = []
    for lambda0, progress, kind in ((0.5, 0.5, tradeoff), (1.0, 50.0, "reversal")):  # the second one's λ is 1
        model, marn = make(lambda0=lambda0, tradeoff=kind)
        model.losses(replace(batch, progress=progress))["second"].backward()
        assert marn.fusion is not None
        gradients.append((marn.fusion.second.weight.grad, marn.fusion.invariant.weight.grad))
    (own, against), (own_at_one, against_at_one) = gradients
    assert own is not None
    assert against is not None
    torch.testing.assert_close(against, strength * against_at_one)
    torch.testing.assert_close(own, own_at_one if tradeoff == "reversal" else strength * own_at_one)


@pytest.mark.parametrize(
    ("fusion", "modalities"),
    [
        ("ids", ("ids",)),
        ("image", ("image",)),
        ("conc", ("ids", "image", "title", "statistic")),
        ("maf", ("ids", "image", "title", "statistic")),
        ("maf_adv", ("ids", "image", "title", "statistic")),
        ("maf_ddma", ("ids", "image", "title", "statistic")),
    ],
)
def test_modalities_of_the_ablations(fusion: str, modalities: tuple[str, ...]) -> None:
    """Each row of Table 3 sees its modalities: what an item is matters only where it is one of them."""
    model, marn = make(fusion=fusion)
    shaken(model).eval()
    assert marn.modalities == modalities
    batch = make_batch(make_schema(), 4, 3)
    content = batch.content
    assert content is not None
    content = replace(
        content,
        image_mask_I=torch.ones_like(content.image_mask_I),
        text_mask_IT=torch.ones_like(content.text_mask_IT),
    )
    batch = replace(batch, content=content)
    other = {
        "ids": replace(batch, ids=batch.ids | {"item_id": (batch.ids["item_id"] + 1) % 40}),
        "image": replace(batch, content=replace(content, image_global_ID=content.image_global_ID.flip(0))),
        "title": replace(batch, content=replace(content, text_ITD=content.text_ITD.flip(0))),
        "statistic": replace(batch, ids=batch.ids | {"i_orders_7d@10": (batch.ids["i_orders_7d@10"] + 1) % 11}),
    }
    before = model(batch)["cvr"]
    seen = [name for name, changed in other.items() if not torch.equal(model(changed)["cvr"], before)]
    assert tuple(seen) == modalities


def test_conc_is_the_sum_of_projections() -> None:
    """BaseModel+CONC adds the projected modalities up."""
    model, marn = make(fusion="conc")
    batch = model.tables.embed(make_batch(make_schema(), 2, 2))
    e_NMD, mask_NM = marn._modalities(batch, marn._contents(batch), None)
    found = marn.item_representations(batch)
    assert isinstance(found, Tensor)
    torch.testing.assert_close(found, torch.where(mask_NM[..., None], e_NMD, torch.zeros_like(e_NMD)).sum(1))


def test_item_representations_know_the_item_alone() -> None:
    """Exported representations do not change with user, context, crosses or history, and are what the score reads."""
    model, marn = make()
    model.eval()
    batch = make_batch(make_schema(), 4, 3)
    other = {
        k: (v + 1) % 4 if "." in k or k in ("age_band", "hour", "x_category_buys") else v for k, v in batch.ids.items()
    }
    found = marn.item_representations(model.tables.embed(batch))
    again = marn.item_representations(model.tables.embed(replace(batch, ids=other)))
    assert isinstance(found, Representation)
    assert isinstance(again, Representation)
    assert torch.equal(found.item_ND, again.item_ND)
    _, whole = marn._score(model.tables.embed(batch))
    assert whole is not None
    torch.testing.assert_close(whole.item_ND[: len(found.item_ND)], found.item_ND)
    norms = marn.attention_by_modality(model.tables.embed(batch))
    assert norms.shape == (12, 4)
    assert torch.equal(norms == 0, ~found.mask_NM)


def test_what_the_data_lack_is_named() -> None:
    """An image model without images and attention without fusion say so."""
    with pytest.raises(RecipeError, match="fusion = 'image'"):
        Embedded("marn", make_schema(content=False), SMALL | {"fusion": "image"})
    model, marn = make(fusion="conc")
    with pytest.raises(RecipeError, match="has no attention"):
        marn.attention_by_modality(model.tables.embed(make_batch(make_schema())))
