"""The baselines as whole models: masks, requests, content, fields, tasks, losses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.models.factory import Embedded, make_batch, make_schema
from trainer.runtime.models.batch import Batch
from trainer.runtime.models.dien import DIENRecipe, InterestEvolution
from trainer.runtime.models.recipe import RecipeError
from trainer.runtime.models.registry import build, model_class, parse_recipe
from trainer.runtime.models.schema import ModelFeature, Schema

OF_FIELDS = ("lr", "fm", "ffm", "wide_deep", "deepfm", "afm", "xdeepfm", "mmoe")
OF_SEQUENCES = ("youtubenet", "din", "dien", "dupn", "bst")
OF_MODALITIES = ("dmf", "mmss", "naml")
ALL = OF_FIELDS + OF_SEQUENCES + OF_MODALITIES
SCHEMA = make_schema(numbers=True)


def score(model: Embedded, batch: Batch) -> Tensor:
    model.eval()
    with torch.no_grad():
        return model(batch)["cvr"]


def content_of(name: str) -> dict[str, Any]:
    return {} if name in OF_MODALITIES else {"content": "pooled"}


def differs(model: Embedded, batch: Batch, **changes: Any) -> bool:
    return not torch.allclose(score(model, replace(batch, **changes)), score(model, batch), atol=1e-7)


def shaken(name: str, recipe: dict[str, Any], schema: Schema = SCHEMA) -> Embedded:
    """A model whose small initial values cannot hide what it reads."""
    model = Embedded(name, schema, recipe)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


@pytest.mark.parametrize("name", ALL)
def test_content_counts_only_where_the_recipe_says_so(name: str) -> None:
    batch = make_batch(SCHEMA, 4, items=6)
    assert batch.content is not None
    changed = replace(batch.content, text_ITD=batch.content.text_ITD.roll(1, 2) * 2)
    assert differs(shaken(name, content_of(name)), batch, content=changed)
    assert not differs(shaken(name, {"content": "none"}), batch, content=None)
    recipe = parse_recipe(name, {"content": "none"})
    assert model_class(name).reads(SCHEMA, recipe).content is None


@pytest.mark.parametrize("name", OF_SEQUENCES + OF_MODALITIES)
def test_sequence_models_read_the_whole_history_and_its_properties(name: str) -> None:
    batch = make_batch(SCHEMA, 4)
    batch = replace(batch, masks_BL={n: torch.ones_like(m) for n, m in batch.masks_BL.items()})
    model = shaken(name, content_of(name))
    for field in ("buys.category_id", "buys.gap", "behaviours.type"):
        oldest = batch.ids[field].clone()
        oldest[:, 0] = (oldest[:, 0] + 1) % 4
        assert differs(model, batch, ids=batch.ids | {field: oldest}), field


@pytest.mark.parametrize("name", OF_SEQUENCES + OF_MODALITIES)
def test_histories_can_be_left_out_or_cut_to_the_newest(name: str) -> None:
    batch = make_batch(SCHEMA, 4)
    batch = replace(batch, masks_BL={n: torch.ones_like(m) for n, m in batch.masks_BL.items()})
    field = batch.ids["buys.category_id"].clone()
    field[:, :2] = (field[:, :2] + 1) % 5
    old = batch.ids | {"buys.category_id": field}
    assert differs(shaken(name, {}), batch, ids=old)
    assert not differs(shaken(name, {"history_items": 2}), batch, ids=old)
    assert not differs(shaken(name, {"sequences": ["behaviours"]}), batch, ids=old)
    recipe = parse_recipe(name, {"history_items": 2, "sequences": ["behaviours"]})
    assert [(s.name, s.length) for s in model_class(name).reads(SCHEMA, recipe).sequences] == [("behaviours", 2)]


@pytest.mark.parametrize("name", OF_FIELDS)
def test_models_of_fields_read_means_of_histories_or_none(name: str) -> None:
    batch = make_batch(SCHEMA, 4)
    other = batch.ids | {"buys.item_id": (batch.ids["buys.item_id"] + 1) % 40}
    assert differs(shaken(name, {}), batch, ids=other)
    assert not differs(shaken(name, {"history": "none"}), batch, ids=other)


@pytest.mark.parametrize("name", ALL)
def test_fields_can_be_chosen(name: str) -> None:
    recipe = {"fields": ["item_id", "category_id", "hour", "buys.item_id", "buys.category_id"]}
    recipe |= {"sequences": ["buys"]} if name not in OF_FIELDS else {}
    model, batch = shaken(name, recipe), make_batch(SCHEMA, 4)
    assert not differs(model, batch, ids=batch.ids | {"shop_id": (batch.ids["shop_id"] + 1) % 6})
    assert differs(model, batch, ids=batch.ids | {"hour": (batch.ids["hour"] + 1) % 25})
    with pytest.raises(RecipeError) as caught:
        build(name, SCHEMA, {"fields": ["colour"]})
    assert caught.value.field == "fields"


def test_tasks() -> None:
    schema = make_schema(tasks=("cvr", "ctr"))
    batch = make_batch(schema)
    assert set(Embedded("mmoe", schema)(batch)) == set(Embedded("mmoe", schema).losses(batch)) == {"cvr", "ctr"}
    assert set(Embedded("fm", schema)(batch)) == {"cvr"}
    assert set(Embedded("fm", schema, {"task": "ctr"})(batch)) == {"ctr"}
    with pytest.raises(RecipeError, match="no such task"):
        build("fm", schema, {"task": "sales"})


def test_lr_and_fm_by_hand() -> None:
    schema = Schema(
        (
            ModelFeature("a", "user", "a", 3),
            ModelFeature("b", "item", "b", 3),
            ModelFeature("n", "cross", "n", 2, "number"),
        )
    )
    batch = Batch(
        {},
        torch.tensor([0, 0]),
        ids={"a": torch.tensor([1]), "b": torch.tensor([1, 2]), "n": torch.tensor([0.5, -2.0])},
        request_fields=frozenset({"a"}),
    )
    model: Any = Embedded("fm", schema, {"width": 2})
    weights = {"a": 0.1, "b": 0.2, "n": 0.4}
    factors = {"a": [1.0, 2.0], "b": [3.0, -1.0], "n": [0.5, 1.0]}
    with torch.no_grad():
        for name in "abn":
            for row in (1, 2) if name == "b" else (1,):
                model.tables.tables[f"linear/{name}"].weight[row] = weights[name] * row
                model.tables.tables[f"main/{name}"].weight[row] = torch.tensor(factors[name]) * row
        model.model.linear.bias.fill_(-1.0)
    # row 0: a·b = 1, n = (.25, .5): a·n = 1.25, b·n = .25; linear −1 + .1 + .2 + .2
    # row 1: b = (6, −2), n = (−1, −2): a·b = 2, a·n = −5, b·n = −2; linear −1 + .1 + .4 − .8
    torch.testing.assert_close(model(batch)["cvr"], torch.tensor([2.0, -6.3]))
    linear: Any = Embedded("lr", schema)
    linear.tables.load_state_dict({k: v for k, v in model.tables.state_dict().items() if "linear" in k})
    torch.testing.assert_close(linear(batch)["cvr"], torch.tensor([0.5, -0.3]))


def test_diens_auxiliary_loss() -> None:
    """It is there, weighted, reaches the GRU and not the AUGRU, and is zero where no item follows another."""
    batch = make_batch(SCHEMA, 8)
    model: Any = Embedded("dien", SCHEMA, {"auxiliary_weight": 0.5})
    torch.manual_seed(0)
    half = model.losses(batch)
    assert set(half) == {"cvr", "next_item"}
    model.model.recipe = replace(model.model.recipe, auxiliary_weight=1.0)
    torch.manual_seed(0)
    torch.testing.assert_close(model.losses(batch)["next_item"], 2 * half["next_item"])
    half["next_item"].backward()
    evolution = model.model.evolution[0]
    assert evolution.extract.gru.weight_ih_l0.grad.abs().sum() > 0
    assert evolution.evolve.of_input.weight.grad is None
    single = {n: torch.zeros_like(m) for n, m in batch.masks_BL.items()}
    for mask in single.values():
        mask[:, -1] = True
    assert model.losses(replace(batch, masks_BL=single))["next_item"].item() == 0.0


def test_diens_auxiliary_loss_learns_who_follows() -> None:
    """With the paper's inner product: a user's items are all alike, so the next one can be told from the other kind."""
    torch.manual_seed(0)
    evolution, mask = InterestEvolution(48, 40, DIENRecipe(auxiliary="inner")), torch.ones(16, 4, dtype=torch.bool)
    past = torch.randn(16, 1, 1).sign() * torch.full((16, 4, 48), 0.5)
    optimizer = torch.optim.Adam(evolution.extract.parameters(), lr=0.02)
    for _ in range(40):
        optimizer.zero_grad()
        loss = evolution.auxiliary_loss(evolution.extract(past, mask)[0], past, mask)
        loss.backward()
        optimizer.step()
    assert loss < 0.05  # items of the same kind are equal, and no pair


@pytest.mark.parametrize("name", ["bst"])
def test_heads_must_divide_the_width(name: str) -> None:
    with pytest.raises(RecipeError) as caught:
        build(name, SCHEMA, {"heads": 7})
    assert caught.value.field == "heads"


@pytest.mark.parametrize("recipe", [{"score": "dot"}, {"score": "mlp"}])
def test_naml_scores(recipe: dict[str, Any]) -> None:
    model, batch = Embedded("naml", SCHEMA, recipe | {"filters": 8}), make_batch(SCHEMA)
    loss = model.loss(batch)
    loss.backward()
    assert all(p.grad is not None for p in model.model.parameters())


@pytest.mark.parametrize("name", ALL)
def test_every_parameter_gets_a_gradient(name: str) -> None:
    model = Embedded(name, SCHEMA, content_of(name))
    model.loss(make_batch(SCHEMA, 6)).backward()
    assert [n for n, p in model.model.named_parameters() if p.grad is None] == []
