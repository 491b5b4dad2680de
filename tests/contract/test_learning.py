"""Every registered model learns: by its own optimisers what fields tell, and what a history tells of a candidate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.contract.test_models import CASES, IDS, small
from tests.models.factory import Embedded, OwnOptimizers, make_batch, make_schema
from trainer.evaluate.metrics import auc
from trainer.runtime.models.batch import Batch
from trainer.runtime.models.recipe import Optimizer
from trainer.runtime.models.registry import REGISTRY, parse_recipe

STATISTIC = "i_orders_7d@10"
EFFECTS = torch.tensor([0.0, 2.0, -2.0, 2.0, -2.0])  # of the categories
STEPS = 100
# what a hundred steps at the paper's rate need
OWN: dict[str, dict[str, Any]] = {"camenn": {"width": 16, "alignment_weight": 0.0}}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small matrices are fastest on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@cache
def planted(seed: int, requests: int = 32) -> Batch:
    """Fresh requests whose candidates are bought for one statistic and their category; the odds rank with AUC .91."""
    batch = make_batch(make_schema(), requests, 4, items=24, seed=seed)
    logit_S = 0.75 * (batch.ids[STATISTIC].float() - 5.0) + EFFECTS[batch.ids["category_id"]] - 0.5
    draw_S = torch.rand(len(logit_S), generator=torch.Generator().manual_seed(seed))
    return replace(batch, labels_S={"cvr": (draw_S < logit_S.sigmoid()).float()})


def trained(name: str, optimizer: Optimizer | None = None) -> tuple[float, dict[str, float]]:
    """AUC on fresh requests after training by the recipe's own optimisers, and how far the statistic's rows moved.

    Args:
        name: The model.
        optimizer: Another wish than its recipe's.

    Returns:
        The AUC, and space → mean distance, in initial standard deviations.
    """
    recipe = small(name, OWN.get(name, {}))
    schema = REGISTRY[name].reads(make_schema(), parse_recipe(name, recipe))
    model = Embedded(name, schema, recipe)
    spaces = [s for s in model.tables.spaces if STATISTIC in s.features]
    table = {s.name: model.tables.table(s.name, STATISTIC).weight for s in spaces}
    first = {space: weight.detach().clone() for space, weight in table.items()}
    optimisers = OwnOptimizers(model, optimizer)
    for step in range(STEPS):
        model.train()
        model.loss(replace(planted(step), progress=step / STEPS)).backward()
        optimisers.step(step / STEPS)
    model.eval()
    fresh = [planted(1000 + seed, 64) for seed in range(6)]
    with torch.no_grad():
        logits = torch.cat([model(batch)["cvr"] for batch in fresh])
    reached = auc(logits.numpy(), torch.cat([batch.labels_S["cvr"] for batch in fresh]).numpy())
    assert reached is not None
    moved = {s.name: float((table[s.name].detach() - first[s.name]).abs().mean()) / s.init_std for s in spaces}
    return reached, moved


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_learns_by_its_own_optimisers(name: str) -> None:
    """With the rates and sums of its recipe a model finds a planted signal, and its tables take part."""
    reached, moved = trained(name)
    assert reached > 0.78
    assert moved
    assert min(moved.values()) > 1.0


def test_frozen_tables_do_not_pass() -> None:
    """Sums that start where MARN's dense part has them leave its tables where they are."""
    own: Optimizer = REGISTRY["marn"].Recipe().optimizer
    reached, moved = trained("marn", replace(own, table_initial_accumulator=0.1))
    assert reached < 0.6
    assert max(moved.values()) < 0.5


SLOW = {"camenn-joint-tokens", "camenn-full-item-modalities", "camenn-item-modalities-tokens"}
HISTORIES = [
    (name, variant, sequence.name, f"{i}-{sequence.name}")
    for (name, variant), i in zip(CASES, IDS, strict=True)
    if i not in SLOW
    for sequence in REGISTRY[name].reads(make_schema(), parse_recipe(name, variant)).sequences
]
ADDITIVE = {"lr"}  # no term of candidate and history together


def visited(sequence: str) -> tuple[Batch, Tensor]:
    """Requests that differ in one history alone, and the categories in it, [S, L] with 0 where there is none.

    Items and categories are one and the same, so that models which see a history by its content can tell them apart.
    """
    batch = make_batch(make_schema(), 24, 3, items=4, seed=11)
    rng = torch.Generator().manual_seed(5)
    category_S = torch.arange(1, 4).repeat(24)
    masks = {name: torch.ones_like(mask) for name, mask in batch.masks_BL.items()}
    past = {name: torch.ones_like(mask, dtype=torch.long) for name, mask in masks.items()}
    length = masks[sequence].shape[1]
    kept_B = torch.randint(1, 3, (24,), generator=rng)
    masks[sequence] = torch.arange(length) >= (length - kept_B)[:, None]
    past[sequence] = torch.randint(1, 4, masks[sequence].shape, generator=rng)
    ids = {name: torch.ones_like(values) for name, values in batch.ids.items()} | {"category_id": category_S}
    ids |= {f"{name}.category_id": items_BL for name, items_BL in past.items()}
    assert batch.content is not None
    content = replace(batch.content, candidate_S=category_S, history_BL=past)
    content = replace(content, image_mask_I=torch.ones_like(content.image_mask_I))
    own_SL = past[sequence].masked_fill(~masks[sequence], 0)[batch.request_S]
    found_S = (own_SL == category_S[:, None]).any(dim=1).float()
    return replace(batch, ids=ids, masks_BL=masks, content=content, labels_S={"cvr": found_S}), own_SL


@pytest.mark.parametrize(
    ("name", "variant", "sequence"), [case[:3] for case in HISTORIES], ids=[c[3] for c in HISTORIES]
)
def test_learns_what_a_history_tells_of_a_candidate(name: str, variant: dict[str, Any], sequence: str) -> None:
    """Whether the candidate's category occurs in the history, which nothing else in the batch can tell.

    So small a network may stop halfway; from one of three starts it must get there.
    """
    recipe = small(name, variant)
    recipe |= (
        {"init_std": 0.1}
        | ({"width": 16} if "width" in recipe else {})
        | ({"hidden": [64]} if "hidden" in recipe else {})
    )
    schema = REGISTRY[name].reads(make_schema(), parse_recipe(name, recipe))
    batch, own_SL = visited(sequence)
    if name in ADDITIVE:
        ids = batch.ids | {"category_id": torch.ones_like(batch.ids["category_id"])}
        batch = replace(batch, ids=ids, labels_S={"cvr": (own_SL == 1).any(dim=1).float()})
    rate = 0.1 if name in ADDITIVE else 0.01
    assert any(_reaches(Embedded(name, schema, recipe, seed), batch, rate) for seed in range(3))


def _reaches(model: Embedded, batch: Batch, rate: float) -> bool:
    """Whether the loss of the ranking task falls below .1 within 250 steps."""
    optimiser = torch.optim.Adam(model.parameters(), lr=rate)
    for _ in range(250):
        model.train()
        optimiser.zero_grad()
        losses = model.losses(batch)
        torch.stack(list(losses.values())).sum().backward()
        optimiser.step()
        if losses["cvr"] < 0.1:
            return True
    return False
