"""CameNN's tokens, its alignment tasks and what they may see."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.models.factory import Embedded, make_batch, make_schema
from trainer.runtime.models.batch import Batch
from trainer.runtime.models.camenn import CameNN, CameNNRecipe
from trainer.runtime.models.layers.alignment import alignment_pairs
from trainer.runtime.models.layers.item_tokens import ItemTokens
from trainer.runtime.models.recipe import RecipeError

pytestmark = pytest.mark.slow

SMALL = {"width": 8, "heads": 2, "feed_forward": 12, "dropout": 0.0}


def make(**recipe: Any) -> tuple[Embedded, CameNN]:
    """A small CameNN with plain tables."""
    model = Embedded("camenn", make_schema(), SMALL | recipe)
    assert isinstance(model.model, CameNN)
    return model, model.model


def complete(batch: Batch) -> Batch:
    """The batch with a text and an image for every item."""
    assert batch.content is not None
    content = batch.content
    mask_IT = content.text_mask_IT.clone()
    mask_IT[:, 0] = True
    rng = torch.Generator().manual_seed(8)
    text, image = (torch.randn(x.shape, generator=rng) for x in (content.text_ITD, content.image_IPD))
    whole = replace(
        content,
        text_ITD=text * mask_IT[..., None],
        text_mask_IT=mask_IT,
        image_IPD=image,
        image_mask_I=torch.ones_like(content.image_mask_I),
    )
    return replace(batch, content=whole)


def test_the_papers_settings_are_defaults() -> None:
    """Adam's settings and the sizes stand in the recipe."""
    recipe = CameNNRecipe()
    o = recipe.optimizer
    assert (o.name, o.lr, o.beta1, o.beta2, o.weight_decay) == ("adam", 4e-4, 0.95, 0.999, 1e-4)
    assert (recipe.width, recipe.heads, recipe.experts, recipe.top_k) == (64, 8, 4, 2)
    assert (recipe.feed_forward, recipe.history_items, recipe.dropout) == (256, 10, 0.1)


def test_item_tokens_by_hand() -> None:
    """[cls, txt, sep, img]: the linear map of the normalised token plus position plus segment (Eq. 1 and 2)."""
    batch = complete(make_batch(make_schema()))
    content = batch.content
    assert content is not None
    torch.manual_seed(0)
    widths = make_schema().content
    items = ItemTokens(widths, 8)
    found = items.embed(content, "tokens")
    raw = content.text_ITD[3, 0]
    normal = (raw - raw.mean()) / (raw.var(unbiased=False) + 1e-5).sqrt()
    wanted = items.text.weight @ normal + items.text.bias + items.text_position[0] + items.text_segment[0]
    torch.testing.assert_close(found.text_ITD[3, 0], wanted)
    tokens, mask, text, image = items.together(found, torch.tensor([3, 4]), torch.tensor([5, 4]))
    length = found.text_ITD.shape[1]
    assert tokens.shape == (2, 1 + length + 1 + 4, 8)
    assert (text, image) == (slice(1, 1 + length), slice(2 + length, 6 + length))
    torch.testing.assert_close(tokens[0, text], found.text_ITD[3])
    torch.testing.assert_close(tokens[0, image], found.image_IPD[5])
    torch.testing.assert_close(tokens[1, 0], items.cls[0])
    torch.testing.assert_close(tokens[1, 1 + length], items.sep[0])
    assert torch.equal(mask[0, text], content.text_mask_IT[3, :length])


def test_reduced_forms_are_means() -> None:
    """`modalities` holds the means of what is not masked, `item` their sum with cls."""
    batch = make_batch(make_schema(), seed=1)
    content = batch.content
    assert content is not None
    items = ItemTokens(make_schema().content, 8)
    whole, means = items.embed(content, "tokens"), items.embed(content, "modalities")
    i = int((content.text_mask_IT.sum(1) == 3).nonzero()[0])
    torch.testing.assert_close(means.text_ITD[i, 0], whole.text_ITD[i, :3].mean(0))
    without = int((~content.image_mask_I).nonzero()[0])
    assert not bool(means.image_mask_IP[without].any())
    text = means.text_ITD[without, 0] * means.text_mask_IT[without, 0]
    torch.testing.assert_close(items.summed(means)[without], items.cls[0] + text)


def test_history_length_follows_its_form() -> None:
    """All tokens, four, or one for each item of the history."""
    batch = make_batch(make_schema())
    lengths = {}
    for form in ("tokens", "modalities", "item"):
        model, camenn = make(history=form)
        lengths[form] = camenn._user(model.tables.embed(batch))[0].shape[1]
    fields = 2  # age_band, hour
    assert batch.content is not None
    bought = batch.content.history_BL["buys"][batch.masks_BL["buys"]].unique()
    texts = int(batch.content.text_mask_IT[bought].sum(dim=1).max())  # columns that no bought item reaches are cut
    assert lengths == {"tokens": fields + 4 * (1 + texts + 1 + 4), "modalities": fields + 4 * 4, "item": fields + 4}


def test_fields_of_a_group_share_a_token() -> None:
    """User, context, item and cross are a token each, the sum of their fields."""
    schema, batch = make_schema(), make_batch(make_schema())
    model, camenn = make(fields="groups", history_items=0)
    own_groups = {f.group for f in schema.features} & {"item", "cross"}
    tokens = camenn._input(model.tables.embed(batch))
    assert tokens.user_BUD.shape[1] == len({f.group for f in schema.features} & {"user", "context"})
    assert tokens.own_SCD.shape[1] - tokens.image.stop == len(own_groups)
    embedded = model.tables.embed(batch).embedded["main"]
    crosses = [f.name for f in schema.features if f.group == "cross"]
    roles = camenn.own_role[[camenn.own_fields.index(name) for name in crosses]].sum(0)
    wanted = sum((embedded[name] for name in crosses), start=roles)
    torch.testing.assert_close(tokens.own_SCD[:, -1], wanted)


@pytest.mark.parametrize("context", ["masked", "full"])
def test_alignment_sees_fields_only_in_full_context(context: str) -> None:
    """By default no gradient of ITA and TIA reaches any embedding of a field or of the history."""
    model, camenn = make(alignment_context=context)
    batch = complete(make_batch(make_schema(), 6, 3, seed=1))
    losses = model.losses(batch)
    assert set(losses) == {"cvr", "ita", "tia"}
    (losses["ita"] + losses["tia"]).backward()
    reached = any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in model.tables.parameters())
    assert reached == (context == "full")
    assert camenn.items.text.weight.grad is not None


def test_alignment_off_by_weight() -> None:
    """Weight zero leaves ranking alone; weight two doubles both losses."""
    batch = complete(make_batch(make_schema(), 6, 3, seed=1))
    found = []
    for weight in (0.0, 1.0, 2.0):
        model, _ = make(alignment_weight=weight)
        torch.manual_seed(5)
        found.append(model.losses(batch))
    assert set(found[0]) == {"cvr"}
    torch.testing.assert_close(found[2]["ita"], 2 * found[1]["ita"])
    torch.testing.assert_close(found[2]["cvr"], found[0]["cvr"])


def test_alignment_may_read_all_tokens_of_a_reduced_candidate() -> None:
    """The same weights align alike, whether ranking reads all tokens of a candidate or its means."""
    batch = complete(make_batch(make_schema(), 6, 3, seed=1))
    found = []
    for target in ("tokens", "modalities"):
        model, _ = make(target=target, alignment_form="tokens")
        found.append(model.eval()(batch))
    torch.testing.assert_close(found[0]["ita"], found[1]["ita"])
    assert not torch.equal(found[0]["cvr"], found[1]["cvr"])
    with pytest.raises(RecipeError, match="alignment_form"):
        make(target="modalities", alignment_form="tokens", alignment_context="full")


def test_missing_modality_has_no_alignment() -> None:
    """Listings without text or image enter no alignment loss; none is left where all lack one; their logits are 0."""
    model, _ = make()
    batch = make_batch(make_schema(), 6, 3, seed=1)
    content = batch.content
    assert content is not None
    assert "ita" not in model.losses(make_batch(make_schema(), 6, 3, no_image=True))
    pairs = alignment_pairs(content)
    whole = content.text_mask_IT.any(1) & content.image_mask_I
    assert not bool(whole.all())
    for found in pairs.values():
        assert bool(whole[found.text_N].all())
        assert bool(whole[found.image_N].all())
    model.eval()
    logits = model(batch)
    lacks_S = ~whole[content.candidate_S]
    assert torch.equal(logits["ita"] == 0, lacks_S)
    assert torch.equal(logits["tia"] == 0, lacks_S)


@pytest.mark.parametrize("context", ["masked", "full"])
def test_served_alignment_is_that_of_the_own_pair(context: str) -> None:
    """`forward` gives each candidate what `align` gives for its own text with its own image."""
    model, camenn = make(alignment_context=context)
    model.eval()
    batch = model.tables.embed(complete(make_batch(make_schema(), 3, 4, seed=2)))
    content = batch.content
    assert content is not None
    own = content.candidate_S
    found = camenn(batch)
    if context == "masked":
        wanted = camenn.align(content, own, own)
    else:
        rows = torch.arange(len(own))
        wanted = camenn._score(camenn._input(batch, rows, own, own), ("ita", "tia"))
    torch.testing.assert_close(found["ita"], wanted["ita"], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found["tia"], wanted["tia"], atol=1e-5, rtol=1e-5)


def test_alignment_can_be_learnt() -> None:
    """ITA and TIA get right which texts and images of a tiny catalogue belong together."""
    model, camenn = make()
    batch = complete(make_batch(make_schema(), 4, 4, items=8, seed=3))
    content = batch.content
    assert content is not None
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    torch.manual_seed(0)
    for _ in range(80):
        optimiser.zero_grad()
        losses = model.losses(batch)
        (losses["ita"] + losses["tia"]).backward()
        optimiser.step()
    shown = content.candidate_S.unique()
    right = 0
    for task, pairs in alignment_pairs(content, shown, generator=torch.Generator().manual_seed(1)).items():
        logits = camenn.align(content, pairs.text_N, pairs.image_N, (task,))[task]
        right += int(((logits > 0) == (pairs.label_N > 0)).sum())
    assert right >= 0.9 * 4 * len(shown)


def test_modalities_alone_ignore_each_other() -> None:
    """Figures 4 and 5: the text's vector knows nothing of the image, nor the image's of the text."""
    _, camenn = make()
    content = complete(make_batch(make_schema())).content
    assert content is not None
    text, image = camenn.modality_vectors(content)
    other = replace(content, image_IPD=content.image_IPD.flip(0))
    text_again, image_again = camenn.modality_vectors(other)
    assert torch.equal(text, text_again)
    torch.testing.assert_close(image.flip(0), image_again)


def test_only_the_newest_items_count() -> None:
    """With two history items, older ones change nothing; the newest does."""
    model, _ = make(history_items=2)
    model.eval()
    batch = make_batch(make_schema(), 3, 2, seed=1)
    full = {k: torch.ones_like(v) for k, v in batch.masks_BL.items()}
    batch = replace(batch, masks_BL=full)
    content = batch.content
    assert content is not None

    def with_item(position: int) -> torch.Tensor:
        index = content.history_BL["buys"].clone()
        index[:, position] = (index[:, position] + 1) % 12
        changed = replace(content, history_BL=content.history_BL | {"buys": index})
        found: torch.Tensor = model(replace(batch, content=changed))["cvr"]
        return found

    base = model(batch)["cvr"]
    assert torch.equal(with_item(0), base)
    assert torch.equal(with_item(1), base)
    assert not torch.equal(with_item(3), base)
