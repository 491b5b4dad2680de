"""What every registered model keeps, on small random data."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.models.factory import Embedded, make_batch, make_schema, shaken, take_requests
from trainer.runtime.models.batch import Batch
from trainer.runtime.models.recipe import RecipeError, load, plain
from trainer.runtime.models.registry import REGISTRY, build, parse_recipe
from trainer.runtime.models.schema import Schema

# Recipes that make a model small and its dropout nil; fields that a recipe lacks are left out.
SMALL: dict[str, Any] = {
    "width": 8,
    "heads": 2,
    "feed_forward": 16,
    "layers": 1,
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "hidden": [16],
    "title_filters": 4,
    "view_dropout": 0.0,
    "filters": 8,
    "cin": [8],
}
VARIANTS: dict[str, tuple[dict[str, Any], ...]] = {
    "camenn": (
        {},
        {"attention": "joint", "history": "tokens"},
        {"frame": "mmoe", "fields": "groups"},
        {"frame": "mose", "history": "item", "target": "modalities", "fields": "groups"},
        {"alignment_context": "full", "history": "item", "target": "modalities"},
        {"history": "item", "target": "modalities", "alignment_form": "tokens"},
    ),
    "marn": (
        {},
        {"fusion": "conc", "behaviours": "gru"},
        {"fusion": "maf_adv", "tradeoff": "losses"},
        {"fusion": "image"},
    ),
}
CASES = [(name, variant) for name in sorted(REGISTRY) for variant in VARIANTS.get(name, ({},))]
IDS = ["-".join([name, *map(str, variant.values())]) for name, variant in CASES]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small matrices are fastest on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def small(name: str, variant: dict[str, Any]) -> dict[str, Any]:
    """The small recipe of a model."""
    known = plain(parse_recipe(name))
    return {
        k: v for k, v in SMALL.items() if k in known and isinstance(known[k], list) == isinstance(v, list)
    } | variant


def make(name: str, variant: dict[str, Any], schema: Schema | None = None, seed: int = 0) -> Embedded:
    """A small model with plain tables."""
    return Embedded(name, schema or make_schema(), small(name, variant), seed)


def scores(model: Embedded, batch: Batch) -> Tensor:
    """Scores of the ranking task in evaluation."""
    return outputs(model, batch)["cvr"]


def outputs(model: Embedded, batch: Batch) -> dict[str, Tensor]:
    """All logits in evaluation."""
    model.eval()
    with torch.no_grad():
        found: dict[str, Tensor] = model(batch)
    return found


def losses(model: Embedded, batch: Batch) -> dict[str, Tensor]:
    """All losses in training, drawn alike every time."""
    model.train()
    torch.manual_seed(7)
    with torch.no_grad():
        return model.losses(batch)


def close(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    """The same names, and values that differ by rounding alone."""
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert bool(value.isfinite().all())
        torch.testing.assert_close(found[name], value, atol=1e-5, rtol=1e-5, msg=partial("{}: {}".format, name))


@pytest.mark.parametrize(("name", "variant"), CASES, ids=IDS)
def test_learns_by_heart(name: str, variant: dict[str, Any]) -> None:
    """Overfits 64 requests of two candidates to near-zero loss of the ranking task.

    Every other request buys one of the two: neither the user nor the candidate alone tells what is bought.
    """
    schema = make_schema()
    batch = make_batch(schema, 64, 2, items=39, seed=3)
    item_S = torch.arange(128) % 38 + 1
    # a user field with a row for each request tells every model which request it is
    fields = tuple(replace(f, rows=65) if f.name == "age_band" else f for f in schema.features)
    schema = replace(schema, features=fields)
    owner = torch.arange(64) + 1
    bought_S = ((owner % 2)[batch.request_S] * (item_S % 2)).float()
    assert sorted(set(bought_S.view(64, 2).sum(1).tolist())) == [0.0, 1.0]
    batch = replace(batch, ids=batch.ids | {"item_id": item_S, "age_band": owner}, labels_S={"cvr": bought_S})
    model = make(name, variant | ({"alignment_weight": 0.0} if name == "camenn" else {}), schema)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01 if name == "camenn" else 0.03)
    loss = torch.tensor(1.0)
    for _ in range(200):
        model.train()
        optimiser.zero_grad()
        found = model.losses(batch)
        loss = found["cvr"]
        torch.stack(list(found.values())).sum().backward()
        optimiser.step()
        if loss < 0.02:
            break
    assert loss < 0.05
    settle(model, batch)
    assert functional.binary_cross_entropy_with_logits(scores(model, batch), bought_S) < 0.1


def settle(model: Embedded, batch: Batch) -> None:
    """Let running statistics, such as Dice's, reach what the weights make of the batch."""
    model.train()
    with torch.no_grad():
        for _ in range(100 if [*model.model.buffers()] else 0):
            model(batch)


@pytest.mark.parametrize(("name", "variant"), CASES, ids=IDS)
def test_same_seed_same_model(name: str, variant: dict[str, Any]) -> None:
    """Two models of one seed have equal weights, losses and gradients; another seed differs."""
    batch = make_batch(make_schema(), 8, 3)
    found = []
    for seed in (5, 5, 6):
        model = make(name, variant, seed=seed)
        loss = model.loss(batch)
        loss.backward()
        found.append((loss.detach(), [p.grad for p in model.parameters() if p.grad is not None]))
    assert torch.equal(found[0][0], found[1][0])
    assert all(torch.equal(a, b) for a, b in zip(found[0][1], found[1][1], strict=True))
    assert not torch.equal(found[0][0], found[2][0])


@pytest.mark.parametrize(
    "case",
    [
        {"empty_history": True},
        {"no_text": True},
        {"no_image": True},
        {"no_text": True, "no_image": True, "empty_history": True},
        {"candidates": (1,)},
        {"candidates": (1, 4)},
        {"candidates": (1000,), "items": 40},
    ],
    ids=["no-history", "no-text", "no-image", "nothing", "one-candidate", "one-and-four", "thousand"],
)
@pytest.mark.parametrize(("name", "variant"), CASES, ids=IDS)
def test_survives(name: str, variant: dict[str, Any], case: dict[str, Any]) -> None:
    """Finite scores of every candidate, finite losses and gradients, whatever is missing."""
    batch = make_batch(make_schema(), **case)
    model = make(name, variant)
    model.eval()
    with torch.no_grad():
        for task, logits_S in model(batch).items():
            assert logits_S.shape == batch.request_S.shape, task
            assert torch.isfinite(logits_S).all(), task
    model.train()
    model.loss(batch).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize(("name", "variant"), CASES, ids=IDS)
def test_masked_values_do_not_count(name: str, variant: dict[str, Any]) -> None:
    """Whatever stands where a mask is False, scores, alignment and losses stay, at weights as large as trained ones."""
    batch = make_batch(make_schema(), 6, 3, seed=2)
    model = shaken(make(name, variant))
    content = batch.content
    assert content is not None
    noise = torch.Generator().manual_seed(9)
    dirt_ITD = torch.randn(content.text_ITD.shape, generator=noise) * 50
    dirt_IPD = torch.randn(content.image_IPD.shape, generator=noise) * 50
    has_image = content.image_mask_I
    dirty = replace(
        content,
        text_ITD=torch.where(content.text_mask_IT[..., None], content.text_ITD, dirt_ITD),
        image_IPD=torch.where(has_image[:, None, None], content.image_IPD, dirt_IPD),
        image_global_ID=torch.where(has_image[:, None], content.image_global_ID, dirt_IPD[:, 0]),
        history_BL={k: torch.where(batch.masks_BL[k], v, (v + 5) % 12) for k, v in content.history_BL.items()},
    )
    ids = {
        k: torch.where(batch.masks_BL[k.split(".")[0]], v, (v + 1) % 4) if "." in k else v for k, v in batch.ids.items()
    }
    assert not bool(has_image.all())
    assert not bool(content.text_mask_IT.all())
    changed = replace(batch, content=dirty, ids=ids)
    close(outputs(model, changed), outputs(model, batch))
    close(losses(model, changed), losses(model, batch))


@pytest.mark.parametrize(("name", "variant"), CASES, ids=IDS)
def test_batch_mates_do_not_count(name: str, variant: dict[str, Any]) -> None:
    """A request scores the same alone, beside others, and in another order."""
    batch = make_batch(make_schema(), candidates=(3, 1, 5, 2), seed=4)
    model = shaken(make(name, variant))
    together = outputs(model, batch)
    own = [{task: logits_S[batch.request_S == b] for task, logits_S in together.items()} for b in range(4)]
    for b in range(4):
        close(outputs(model, take_requests(batch, [b])), own[b])
    turned = outputs(model, take_requests(batch, [3, 2, 1, 0]))
    close({task: logits_S[:2] for task, logits_S in turned.items()}, own[3])


@pytest.mark.parametrize(("name", "variant"), CASES, ids=IDS)
def test_position_shown_does_not_count(name: str, variant: dict[str, Any]) -> None:
    """The position that a candidate was shown at enters no score."""
    batch = make_batch(make_schema(), 4, 3)
    model = make(name, variant)
    assert torch.equal(scores(model, batch), scores(model, replace(batch, labels_S={})))


@pytest.mark.parametrize(("name", "variant"), CASES, ids=IDS)
def test_state_dict_round_trip(name: str, variant: dict[str, Any]) -> None:
    """Weights and the recipe's plain values make the same model again."""
    schema, batch = make_schema(), make_batch(make_schema(), 4, 3)
    model = make(name, variant)
    recipe = json.loads(json.dumps(plain(model.model.recipe)))
    again = Embedded(name, schema, recipe, seed=99)
    again.load_state_dict(model.state_dict())
    assert again.model.recipe == model.model.recipe
    assert torch.equal(scores(again, batch), scores(model, batch))


@pytest.mark.parametrize(("name", "variant"), CASES, ids=IDS)
def test_every_weight_learns(name: str, variant: dict[str, Any]) -> None:
    """Each weight of the dense part gets a gradient from some batch."""
    model = make(name, variant)
    model.train()
    # several batches: an expert that no gate chose gets none from one
    for seed in range(4):
        model.loss(make_batch(make_schema(), 16, 4, seed=seed)).backward()
    without = [k for k, p in model.model.named_parameters() if p.grad is None or not bool(p.grad.abs().sum() > 0)]
    assert without == []


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_learns_clicks(name: str) -> None:
    """The task can be chosen: `ctr` where the data have it."""
    schema = make_schema(tasks=("cvr", "ctr"))
    if "task" not in plain(parse_recipe(name)):
        pytest.skip("scores all tasks")
    model = Embedded(name, schema, small(name, {"task": "ctr"}))
    batch = make_batch(schema, 4, 3)
    found = model(batch)
    assert "ctr" in found
    assert "ctr" in model.losses(batch)
    if "cvr" in found:
        return  # scores all tasks
    with pytest.raises(RecipeError, match="task"):
        build(name, schema, small(name, {"task": "gmv"}))


@pytest.mark.parametrize("name", sorted(set(REGISTRY) - {"marn", "fashionbert", "mmss"}))
def test_takes_flat_data(name: str) -> None:
    """Models of fields and sequences also take data without histories and content, numbers included."""
    schema = make_schema(content=False, sequences=(), numbers=True)
    try:
        model = Embedded(name, schema, small(name, {}))
    except RecipeError as error:
        pytest.skip(f"says so: {error}")
    batch = make_batch(schema, 4, 3)
    assert torch.isfinite(scores(model, batch)).all()


def test_unknown_model_and_field_are_named() -> None:
    """One clear error names field, value and remedy, inside the runtime too."""
    with pytest.raises(RecipeError, match=r"unknown model: model = 'camen'; use one of: .*camenn"):
        build("camen", make_schema())
    with pytest.raises(RecipeError, match=r"unknown field: widht = 3; use one of: .*width"):
        parse_recipe("camenn", {"widht": 3})
    with pytest.raises(RecipeError, match=r"unknown field: optimizer\.rate = 3; use one of: .*lr"):
        parse_recipe("camenn", {"optimizer": {"rate": 3}})


def test_nested_recipe_keeps_defaults() -> None:
    """A part of a nested table changes that part alone."""
    recipe = load(REGISTRY["camenn"].Recipe, {"optimizer": {"lr": 0.1}})
    assert (recipe.optimizer.lr, recipe.optimizer.beta1) == (0.1, 0.95)
