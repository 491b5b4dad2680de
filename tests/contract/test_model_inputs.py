"""The table of `docs/models/README.md` says which model sees what; here each input is changed to see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import torch

from tests.contract.test_models import CASES, IDS, close, make, outputs, scores
from tests.models.factory import make_batch, make_schema, narrowed, shaken
from trainer.runtime.models.batch import Batch
from trainer.runtime.models.registry import REGISTRY, parse_recipe

TABLE = Path(__file__).parents[2] / "docs" / "models" / "README.md"
Change = Callable[[Batch], Batch]


def fields(*names: str) -> Change:
    """Other values of some fields."""
    return lambda batch: replace(batch, ids={k: (v + 1) % 4 if k in names else v for k, v in batch.ids.items()})


def history(name: str) -> Change:
    """Other items, and other fields of them."""

    def change(batch: Batch) -> Batch:
        assert batch.content is not None
        ids = {k: (v + 1) % 4 if k.startswith(f"{name}.") else v for k, v in batch.ids.items()}
        items = {k: (v + 1) % 12 if k == name else v for k, v in batch.content.history_BL.items()}
        return replace(batch, ids=ids, content=replace(batch.content, history_BL=items))

    return change


def content(name: str) -> Change:
    """Other tokens."""

    def change(batch: Batch) -> Batch:
        assert batch.content is not None
        changed: dict[str, Any] = {name: getattr(batch.content, name).flip(-1)}
        return replace(batch, content=replace(batch.content, **changed))

    return change


INPUTS: dict[str, Change] = {
    "user, context": fields("age_band", "hour"),
    "item": fields("item_id", "shop_id"),
    "crosses": fields("x_category_buys"),
    "bought": history("buys"),
    "behaviours": history("behaviours"),
    "text": content("text_ITD"),
    "patches": content("image_IPD"),
    "whole photo": content("image_global_ID"),
}


def seen(name: str, recipe: dict[str, Any]) -> set[str]:
    """Inputs whose change changes a score, of a model that is made and fed as training does it: by what it reads."""
    batch = complete(make_batch(make_schema(), 6, 4, seed=2))
    reads = REGISTRY[name].reads(make_schema(), parse_recipe(name, recipe))
    model = shaken(make(name, recipe, reads))
    before = scores(model, narrowed(batch, reads))
    return {
        title
        for title, change in INPUTS.items()
        if not torch.equal(scores(model, narrowed(change(batch), reads)), before)
    }


def complete(batch: Batch) -> Batch:
    """The batch with an image of every item and whole histories."""
    assert batch.content is not None
    every = replace(batch.content, image_mask_I=torch.ones_like(batch.content.image_mask_I))
    return replace(batch, content=every, masks_BL={k: torch.ones_like(v) for k, v in batch.masks_BL.items()})


def row_of(name: str) -> str:
    """The table's row: `●` seen by default, `○` with `content = "pooled"`, `–` not at all."""
    default = seen(name, {})
    choices = get_args(get_type_hints(REGISTRY[name].Recipe).get("content"))
    pooled = seen(name, {"content": "pooled"}) if "pooled" in choices else default
    marks = ["●" if title in default else "○" if title in pooled else "–" for title in INPUTS]
    return f"| `{name}` | {' | '.join(marks)} |"


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_table_says_what_models_see(name: str) -> None:
    """The documented row is what changing each input finds."""
    assert row_of(name) in TABLE.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize(("name", "variant"), CASES, ids=IDS)
def test_what_a_model_reads_is_all_it_needs(name: str, variant: dict[str, Any]) -> None:
    """Made on what it reads a model has the same weights, and scores alike from that alone."""
    schema, batch = make_schema(), complete(make_batch(make_schema(), 6, 4, seed=2))
    if name == "camenn":  # by design it reads one of a statistic's two bucketings
        schema = replace(schema, features=tuple(f for f in schema.features if not f.name.endswith("@100")))
    reads = REGISTRY[name].reads(schema, parse_recipe(name, variant))
    whole, narrow = shaken(make(name, variant, schema)), make(name, variant, reads)
    narrow.load_state_dict(whole.state_dict())
    close(outputs(narrow, narrowed(batch, reads)), outputs(whole, narrowed(batch, schema)))
