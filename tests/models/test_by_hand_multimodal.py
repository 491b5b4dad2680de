"""NAML and MMSS against their equations, written out again an item at a time on shaken weights.

Content comes in normalised, so that a normalisation before it is read changes nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.models.factory import Embedded, make_batch
from trainer.runtime.models.batch import Batch
from trainer.runtime.models.schema import ContentWidths, ModelFeature, Schema, Sequence

SCHEMA = Schema(
    (
        ModelFeature("user", "user", "user", 9),
        ModelFeature("item_id", "item", "item", 20),
        ModelFeature("category_id", "item", "c", 5),
    ),
    (
        Sequence(
            "buys",
            4,
            (ModelFeature("buys.item_id", "item", "item", 20), ModelFeature("buys.category_id", "item", "c", 5)),
        ),
    ),
    content=ContentWidths(text_tokens=5, text_width=6, patches=4, image_width=7),
    tasks=("ctr",),
)
Weights = dict[str, Tensor]


def shaken(name: str, recipe: dict[str, Any]) -> tuple[Any, Weights, Batch]:
    """A model in evaluation, its weights, and an embedded batch with histories, items without text or image."""
    model = Embedded(name, SCHEMA, {"width": 3, "init_std": 1.0} | recipe).eval()
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.4)
    batch = make_batch(SCHEMA, candidates=(2, 1, 3), seed=4)
    content = batch.content
    assert content is not None
    tokens: dict[str, Any] = {
        "text_ITD": normal(content.text_ITD) * content.text_mask_IT[..., None],
        "image_IPD": normal(content.image_IPD) * content.image_mask_I[:, None, None],
        "image_global_ID": normal(content.image_global_ID) * content.image_mask_I[:, None],
    }
    has_text, mask = content.text_mask_IT.any(1), batch.masks_BL["buys"]
    assert 0 < mask.sum() < mask.numel() and not has_text.all() and not content.image_mask_I.all()
    batch = replace(batch, content=replace(content, **tokens))
    return model.model, dict(model.model.state_dict()), model.tables.embed(batch)


def normal(x: Tensor) -> Tensor:
    return functional.layer_norm(x, x.shape[-1:])


def linear(w: Weights, name: str, x: Tensor) -> Tensor:
    y = x @ w[f"{name}.weight"].T
    return y + w[f"{name}.bias"] if f"{name}.bias" in w else y


def pool(w: Weights, name: str, x_LE: Tensor) -> Tensor:
    """Attention of a learned query: q ᵀ tanh(V x + v), softmax, sum."""
    scores = linear(w, f"{name}.query", torch.tanh(linear(w, f"{name}.hidden", x_LE)))
    return scores.softmax(0).T[0] @ x_LE


def candidates(batch: Batch) -> list[tuple[Tensor, int]]:
    """IDs' embeddings and row of content of each candidate."""
    main, content = batch.embedded["main"], batch.content
    assert content is not None
    ids = torch.cat([main["item_id"], main["category_id"]], 1)
    return list(zip(ids, content.candidate_S.tolist(), strict=True))


def bought(batch: Batch, request: int) -> list[tuple[Tensor, int]]:
    """The same of a request's history."""
    main, content = batch.embedded["main"], batch.content
    assert content is not None
    here = batch.masks_BL["buys"][request]
    ids = torch.cat([main["buys.item_id"], main["buys.category_id"]], 2)[request, here]
    return list(zip(ids, content.history_BL["buys"][request, here].tolist(), strict=True))


def all_items(batch: Batch) -> list[tuple[Tensor, int]]:
    return candidates(batch) + [item for b in range(len(batch.masks_BL["buys"])) for item in bought(batch, b)]


def naml_item(w: Weights, batch: Batch, ids: Tensor, row: int) -> Tensor:
    """Views of IDs, words and image, pooled (Eqs. 1-8)."""
    content = batch.content
    assert content is not None
    views = [torch.relu(linear(w, "of_ids", ids))]
    words = content.text_ITD[row, content.text_mask_IT[row]]
    if len(words):
        edge = words.new_zeros(1, words.shape[1])
        padded = torch.cat([edge, words, edge])
        filters = w["text.convolution.weight"]  # [filters, width, 3]
        around = [sum(filters[:, :, k] @ padded[t + k] for k in range(3)) for t in range(len(words))]
        views.append(pool(w, "text.pool", torch.relu(torch.stack(around) + w["text.convolution.bias"])))  # type: ignore[arg-type]
    if content.image_mask_I[row]:
        views.append(torch.relu(linear(w, "image", content.image_global_ID[row])))
    return pool(w, "views", torch.stack(views))


def test_naml_items() -> None:
    model, w, batch = shaken("naml", {"filters": 4, "view_attention": 5})
    expected = torch.stack([naml_item(w, batch, *item) for item in all_items(batch)])
    torch.testing.assert_close(model.encode(model.items(batch), batch), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("score", ["dot", "mlp"])
def test_naml_scores(score: str) -> None:
    """A user is the pool of the items behind them; the score their product with the candidate, summed or mapped."""
    model, w, batch = shaken("naml", {"filters": 4, "view_attention": 5, "score": score, "hidden": [6]})
    expected = []
    for (ids, row), b, own in zip(candidates(batch), batch.request_S.tolist(), model.fields(batch), strict=True):
        target, user = naml_item(w, batch, ids, row), torch.zeros(4)
        past = [naml_item(w, batch, *item) for item in bought(batch, b)]
        if past:
            user = pool(w, "users.buys", torch.stack(past))
        if score == "dot":
            expected.append(w["bias"] + user @ target)
        else:
            x = torch.cat([own.flatten(), target, user, user * target])
            expected.append(linear(w, "mlp.layers.2", torch.relu(linear(w, "mlp.layers.0", x)))[0])
    torch.testing.assert_close(model(batch)["ctr"], torch.stack(expected), atol=1e-4, rtol=1e-4)


def test_mmss_items() -> None:
    """Attended words, attended patches behind their filter, and the attention of the IDs over what there is."""
    model, w, batch = shaken("mmss", {"item_width": 4, "token_attention": 5})
    content = batch.content
    assert content is not None
    expected = []
    for ids, row in all_items(batch):
        own = torch.tanh(linear(w, "of_ids", ids))
        views, text = [own], torch.zeros(4)
        if content.text_mask_IT[row].any():
            words = content.text_ITD[row, content.text_mask_IT[row]]
            text = pool(w, "tokens.words", torch.tanh(linear(w, "tokens.word", words)))
            views.append(text)
        if content.image_mask_I[row]:
            image = pool(w, "tokens.patches", torch.tanh(linear(w, "tokens.patch", content.image_IPD[row])))
            fits = linear(w, "tokens.filter", torch.cat([content.image_global_ID[row], text]))
            views.append(torch.sigmoid(fits) * image)
        seen = torch.stack(views)
        scores = linear(w, "score", torch.tanh(linear(w, "key", seen) + linear(w, "query", own)))
        expected.append(scores.softmax(0).T[0] @ seen)
    torch.testing.assert_close(model.encode(model.items(batch), batch), torch.stack(expected), atol=1e-4, rtol=1e-4)
