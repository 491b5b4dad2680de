"""A bundle of another format is refused by whoever would read it, in one line that says what to do.

And its tokens are read as the store's are: one format, one reader.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from features.content.store import TokenWriter
from features.errors import DataError
from features.layout import Layout
from serving.deploy import Deployer
from serving.export import Repository
from tests.serving.bundles import ITEMS, WIDTHS, make_bundle, sha, write_tokens
from tests.serving.memory_triton import MemoryTriton
from trainer.bundle import _sums, load_scorer, made_before
from trainer.evaluate.run import evaluate
from trainer.job import Job, _incumbent
from trainer.recipes import checked_recipe
from trainer.runtime.errors import BundleError
from trainer.runtime.scorer import FORMAT, Scorer
from trainer.runtime.tokens import TokenReader
from trainer.settings import TrainSettings
from trainer.tokens import copy_tokens


def of_format(bundle: Path, number: int) -> Path:
    """The same bundle as one of another format, whole by its sums."""
    path = bundle / "bundle.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | {"format": number}), encoding="utf-8")
    (bundle / "SHA256SUMS").write_text(sums := _sums(bundle), encoding="utf-8")
    return bundle.rename(bundle.with_name(hashlib.sha256(sums.encode()).hexdigest()[:16]))


@pytest.mark.parametrize("number", [FORMAT - 1, FORMAT + 1])
def test_a_bundle_of_another_format_says_make_it_again(tmp_path: Path, number: int) -> None:
    layout = Layout(tmp_path)
    old = of_format(layout.bundles / make_bundle(layout.bundles, "one"), number)
    says = f"of format {number}, .*bundle = '{old.name}'; make the bundle again"
    with pytest.raises(BundleError, match=says):
        Scorer(old)
    with pytest.raises(DataError, match=says):
        load_scorer(old)
    with pytest.raises(DataError, match=says):
        evaluate(None, [], {"candidate": old}, None, "cvr", None)  # type: ignore[arg-type]
    repository = Repository(tmp_path / "repository")
    with pytest.raises(DataError, match=says):
        Deployer(layout, repository, MemoryTriton(repository.folder)).deploy(old.name)
    assert not repository.folder.exists()


def test_a_bundle_of_another_format_counts_as_not_made(tmp_path: Path) -> None:
    """So that making it again does make it."""
    bundles, noted = tmp_path / "bundles", tmp_path / "bundle.json"
    bundle = make_bundle(bundles, "one")
    assert made_before(noted, bundles) is None
    noted.write_text(json.dumps({"bundle": bundle}), encoding="utf-8")
    assert made_before(noted, bundles) == bundle
    old = of_format(bundles / bundle, FORMAT - 1)
    assert made_before(noted, bundles) is None  # gone
    noted.write_text(json.dumps({"bundle": old.name}), encoding="utf-8")
    assert made_before(noted, bundles) is None


def test_weights_of_another_format_are_not_carried(tmp_path: Path) -> None:
    old = of_format(tmp_path / make_bundle(tmp_path, "one"), FORMAT - 1)
    job = Job(
        "window", None, "checkpoints", "camenn", checked_recipe("camenn", {}), TrainSettings(),
        incumbent=str(old),
    )  # fmt: skip
    assert _incumbent(job, None) == (None, "the incumbent is a bundle of another format")


def test_a_bundles_tokens_are_the_stores(tmp_path: Path) -> None:
    """What the store lacks, or knows to be broken, the copy lacks."""
    write_tokens(tmp_path / "store", ITEMS)
    writer = TokenWriter(tmp_path / "store", WIDTHS, {})
    writer.add_broken(["b" * 64])
    writer.commit()
    store = TokenReader(tmp_path / "store")
    texts, images = (sorted(sha(kind, item) for item in ITEMS[:5]) for kind in ("text", "image"))
    copy_tokens(tmp_path / "copy", store, [*texts, "e" * 64], [*images, "b" * 64])
    copy = TokenReader(tmp_path / "copy")
    assert copy.widths == store.widths
    shas = [*texts, *images, "b" * 64, "e" * 64, None, sha("text", ITEMS[-1])]
    assert (copy.rows(shas) < 0).tolist() == [False] * 10 + [True] * 4
    for known, gather in ((texts, "gather_text"), (images, "gather_image")):
        for a, b in zip(*(getattr(t, gather)(t.rows([*known, None])) for t in (copy, store)), strict=True):
            np.testing.assert_array_equal(a, b)
    assert not list((tmp_path / "copy").glob("*.parquet"))
