"""The alignment study on a tiny data set with tokens of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from features.content.hash import image_sha, text_sha
from features.content.store import TokenWriter, Widths
from features.errors import UsageError
from freshrank.studies import alignment
from freshrank.studies.grocery import Groceries, read_groceries
from trainer.runtime.models.layers.alignment import alignment_pairs
from trainer.tokens import TokenStore

pytestmark = pytest.mark.slow

SMALL = {"width": 8, "heads": 2, "feed_forward": 16, "dropout": 0.0, "optimizer": {"lr": 0.01}}


@pytest.fixture()
def groceries(tmp_path: Path) -> Groceries:
    """Six products in three coarse classes, four photos each to train on and two to measure on."""
    root = tmp_path / "dataset"
    (root / "texts").mkdir(parents=True)
    header = "Class Name (str),Class ID (int),Coarse Class Name (str),Coarse Class ID (int),"
    lines = [header + "Iconic Image Path (str),Product Description Path (str)"]
    lists: dict[str, list[str]] = {"train": [], "val": []}
    for number in range(6):
        (root / "texts" / f"{number}.txt").write_text(f"Description {number}.\n", encoding="utf-8")
        lines.append(f"Pink-Fruit-{number},{number},Fruit,{number // 2},/i.jpg,/texts/{number}.txt")
        for name, photos in (("train", 4), ("val", 2)):
            lists[name] += [f"{name}/a b/{number}_{i}.jpg, {number}, {number // 2}" for i in range(photos)]
    (root / "classes.csv").write_text("\n".join(lines), encoding="utf-8")
    for name, rows in lists.items():
        (root / f"{name}.txt").write_text("\n".join(rows), encoding="utf-8")
    return read_groceries(tmp_path)


@pytest.fixture()
def store(groceries: Groceries, tmp_path: Path) -> TokenStore:
    """Tokens in which a photo resembles its product's text."""
    rng = np.random.default_rng(0)
    own = rng.normal(size=(6, 8))
    writer = TokenWriter(tmp_path / "tokens", Widths(3, 8, 8, 2), {})
    for number, product in groceries.products.items():
        sha = text_sha(product.name, product.description)
        assert sha is not None
        text = np.broadcast_to(own[number], (1, 3, 8)).astype(np.float16)
        writer.add_texts([sha], text, np.array([2], np.uint8))
    for photo in (*groceries.train, *groceries.val):
        sha = image_sha(photo.uri)
        assert sha is not None
        patches = (own[photo.product] + rng.normal(size=(1, 2, 8)) * 0.1).astype(np.float16)
        writer.add_images([sha], patches, patches[:, 0])
    writer.commit()
    return TokenStore(tmp_path / "tokens")


def test_reads_names_descriptions_and_lists(groceries: Groceries) -> None:
    """Names lose their hyphens, descriptions their line ends; a photo's URI is quoted."""
    product = groceries.products[3]
    assert (product.name, product.description, product.coarse) == ("Pink Fruit 3", "Description 3.", 1)
    assert (len(groceries.train), len(groceries.val)) == (24, 12)
    assert groceries.val[0].uri == "file:val/a%20b/0_0.jpg"


def test_wrong_folder_is_named(tmp_path: Path) -> None:
    """A folder without the data set is a usage error."""
    with pytest.raises(UsageError, match=r"not the data set: --images = .*; name the folder"):
        read_groceries(tmp_path / "elsewhere")


def test_negatives_are_of_another_product(groceries: Groceries, store: TokenStore) -> None:
    """Keys are the products', so no photo's negative is another photo of the same product."""
    content = alignment.content_of(groceries, list(groceries.val), store)
    for task, pairs in alignment_pairs(content, None, "category").items():
        wrong = pairs.label_N == 0
        product = content.text_key_I
        assert bool((product[pairs.text_N] != product[pairs.image_N])[wrong].all()), task
        assert torch.equal(content.category_I[pairs.text_N], content.category_I[pairs.image_N])
    assert content.text_mask_IT[0].tolist() == [True, True, False]


def test_study_trains_both_and_repeats(groceries: Groceries, store: TokenStore) -> None:
    """A row for each model, training and kind of negative; the same seed gives the same figures."""
    said: list[str] = []
    rows = alignment.study(groceries, store, 3, 2, 4, said.append, SMALL)
    again = alignment.study(groceries, store, 3, 2, 4, said.append, SMALL)
    keys = [(row.model, row.trained_on, row.negatives) for row in rows]
    assert len(set(keys)) == 8
    assert [(r.ita, r.tia, r.contrast) for r in rows] == [(r.ita, r.tia, r.contrast) for r in again]
    assert all(0.0 <= row.ita <= 1.0 for row in rows)
    # 12 photos to measure on; of four products unseen, six photos each
    assert {row.pairs for row in rows if row.trained_on == "all" and row.negatives == "random"} == {24}
    assert {row.pairs for row in rows if row.trained_on == "unseen" and row.negatives == "random"} == {48}
    printed = alignment.table(rows + again)
    assert printed.count("\n") == 9
    assert "± 0.00" in printed


def test_learns_the_pairs(groceries: Groceries, store: TokenStore) -> None:
    """After enough passes CameNN knows which text a photo has, on photos it never saw."""
    train = alignment.content_of(groceries, list(groceries.train), store)
    model = alignment.fit("camenn", train, store, 0, 60, SMALL)
    held = alignment.content_of(groceries, list(groceries.val), store)
    row = alignment.measure(model, "camenn", "all", "random", held, 0, 0.0)
    assert row.ita > 0.9
