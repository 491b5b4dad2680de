"""Negatives for text-image alignment."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models.factory import make_batch, make_schema
from trainer.runtime.models.layers.alignment import (
    accuracy,
    alignment_pairs,
    derangement,
    diagonal_contrast,
    similarity,
)

keys = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 2)), max_size=20)


@settings(max_examples=200, deadline=None)
@given(rows=keys, seed=st.integers(0, 1000), grouped=st.booleans())
def test_partners_differ_in_both_and_marginals_are_equal(
    rows: list[tuple[int, int, int]], seed: int, grouped: bool
) -> None:
    """Whatever the keys: a permutation; partners differ in text and image and share the group, or are oneself."""
    text, image, group = (torch.tensor([row[c] for row in rows], dtype=torch.long) for c in range(3))
    rng = torch.Generator().manual_seed(seed)
    partner = derangement(text, image, group if grouped else None, rng)
    every = torch.arange(len(rows))
    assert torch.equal(partner.sort().values, every)
    moved = partner != every
    assert bool((text[partner] != text)[moved].all())
    assert bool((image[partner] != image)[moved].all())
    if grouped:
        assert torch.equal(group[partner], group)


@pytest.mark.parametrize("n", [2, 3, 10, 65])
def test_distinct_items_all_find_a_partner(n: int) -> None:
    """Nothing is left out where all keys differ."""
    keys = torch.arange(n)
    for seed in range(20):
        partner = derangement(keys, keys, generator=torch.Generator().manual_seed(seed))
        assert not bool((partner == keys).any())


def test_all_items_alike_give_no_pairs() -> None:
    """One text for all: nothing can be told apart."""
    content = make_batch(make_schema()).content
    assert content is not None
    found = alignment_pairs(replace(content, text_key_I=torch.zeros_like(content.text_key_I)))
    assert [len(pairs.label_N) for pairs in found.values()] == [0, 0]


@pytest.mark.parametrize("negatives", ["random", "category"])
def test_pairs_have_equal_marginals(negatives: str) -> None:
    """Each text and each image is as often right as wrong; ITA keeps the image, TIA the text."""
    content = make_batch(make_schema(), items=60, seed=1).content
    assert content is not None
    found = alignment_pairs(content, None, negatives, torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    for task, pairs in found.items():
        n = len(pairs.label_N) // 2
        assert n > 20
        assert pairs.label_N.tolist() == [1.0] * n + [0.0] * n
        assert torch.equal(pairs.text_N[:n], pairs.image_N[:n])
        assert torch.equal(pairs.text_N[:n].sort().values, pairs.text_N[n:].sort().values)
        assert torch.equal(pairs.image_N[:n].sort().values, pairs.image_N[n:].sort().values)
        kept = pairs.image_N if task == "ita" else pairs.text_N
        assert torch.equal(kept[:n], kept[n:])
        if negatives == "category":
            assert torch.equal(content.category_I[pairs.text_N], content.category_I[pairs.image_N])


def test_measures_by_hand() -> None:
    """Accuracy at one half, cosine of images with texts, diagonal less rest."""
    assert accuracy(torch.tensor([1.0, -1.0, 2.0, -3.0]), torch.tensor([1.0, 1.0, 0.0, 0.0])) == 0.5
    cosine = similarity(torch.tensor([[2.0, 0.0], [0.0, 3.0]]), torch.tensor([[1.0, 1.0], [0.0, 5.0]]))
    half = 2**-0.5
    torch.testing.assert_close(cosine, torch.tensor([[half, half], [0.0, 1.0]]))
    assert diagonal_contrast(cosine) == pytest.approx((half + 1) / 2 - half / 2)
