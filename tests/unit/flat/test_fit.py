"""Fitting flat sets: penalties, clipping, plateaus, the best epoch, repeatability, and a public set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import nn

from features.errors import UsageError
from trainer.flat import run
from trainer.flat.dataset import read_dataset
from trainer.flat.encode import EncodedSet, encode
from trainer.flat.fit import Epoch, Fit, FlatModel, Score, _clip
from trainer.flat.recipe import DataRecipe, TrainRecipe
from trainer.flat.tables import PlainTables
from trainer.runtime.models.registry import REGISTRY, build
from trainer.trainee import total


def quiet(_: str) -> None:
    """Say nothing."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two fields whose crossing decides, and a number."""
    path = tmp_path_factory.mktemp("set")
    rng = np.random.default_rng(0)
    for split, rows in (("train", 1500), ("valid", 500), ("test", 500)):
        a, b, x = rng.integers(0, 6, rows), rng.integers(0, 6, rows), rng.normal(size=rows)
        logit = 3 * ((a + b) % 2) - 1.5 + 0.8 * x
        label = (rng.random(rows) < 1 / (1 + np.exp(-logit))).astype(int)
        pl.DataFrame({"label": label, "a": a, "b": b, "x": x}).write_csv(path / f"{split}.csv")
    (path / "dataset.toml").write_text(
        'label = "label"\ncategorical = ["a", "b"]\nnumerical = ["x"]\n'
        'files = {train = "train.csv", valid = "valid.csv", test = "test.csv"}\n',
        encoding="utf-8",
    )
    return path


@pytest.fixture(scope="module")
def encoded(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> EncodedSet:
    return encode(read_dataset(folder), DataRecipe(), tmp_path_factory.mktemp("cache"))


def fit(encoded: EncodedSet, model: str = "fm", own: dict[str, Any] | None = None, **recipe: Any) -> Fit:
    torch.manual_seed(0)
    ranker = build(model, encoded.schema, {"width": 4} | (own or {}))
    spaces = ranker.spaces(encoded.schema, ranker.recipe)
    tables = PlainTables(encoded.schema, spaces, sparse=recipe.get("optimizer") == "lazy_adam")
    with torch.no_grad():
        for parameter in tables.parameters():
            parameter.normal_(std=0.3)
    return Fit(FlatModel(tables, ranker), TrainRecipe(**{"batch_size": 256, **recipe}), quiet)


def recipe_file(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def batch_of(encoded: EncodedSet, rows: int = 64) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    train = encoded.split("train")
    return tuple(torch.from_numpy(np.array(x[:rows])) for x in (train.ids_NF, train.numbers_NK, train.labels_N))  # type: ignore[return-value]


@pytest.mark.parametrize("rows", ["table", "touched"])
def test_penalties_are_the_gradients_of_their_terms(encoded: EncodedSet, rows: str) -> None:
    ours = fit(
        encoded, "deepfm", {"hidden": [5]}, l2_embedding=0.3, l1_embedding=0.1, l2_net=0.2, l1_net=0.05, l2_rows=rows
    )
    ids, numbers, labels = batch_of(encoded, 3)
    model = ours.model

    def loss() -> torch.Tensor:
        return total(model.ranker.losses(model.batch(ids, numbers, labels)))

    model.eval()
    loss().backward()
    ours._penalise(ids, numbers)
    found = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    touched = torch.unique(model.tables.rows(ids, numbers)) if rows == "touched" else slice(None)
    terms = [0.15 * t[touched].square().sum() + 0.1 * t[touched].abs().sum() for t in ours.tables]
    terms += [0.1 * p.square().sum() + 0.05 * p.abs().sum() for p in ours.net]
    (loss() + torch.stack(terms).sum()).backward()
    expected = [p.grad for p in model.parameters() if p.grad is not None]
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_clipping_equals_torchs_and_counts_sparse_gradients(encoded: EncodedSet) -> None:
    norms = {}
    for sparse in ("adam", "lazy_adam"):
        ours = fit(encoded, optimizer=sparse)
        ids, numbers, labels = batch_of(encoded)
        (100 * total(ours.model.ranker.losses(ours.model.batch(ids, numbers, labels)))).backward()
        parameters = [*ours.tables, *ours.net]
        if sparse == "adam":
            expected = [p.grad.clone() for p in parameters if p.grad is not None]
            reference = [nn.Parameter(torch.zeros_like(p)) for p in parameters]
            for p, gradient in zip(reference, expected, strict=True):
                p.grad = gradient
            norm = torch.nn.utils.clip_grad_norm_(reference, 0.5)
            assert norm > 0.5
        _clip(parameters, 0.5)
        for p, q in zip(parameters, reference, strict=True):
            assert p.grad is not None
            torch.testing.assert_close(p.grad.to_dense() if p.grad.is_sparse else p.grad, q.grad)
        norms[sparse] = True
    assert len(norms) == 2


def test_lazy_adam_leaves_untouched_rows_alone(encoded: EncodedSet) -> None:
    for optimizer, moves in (("adam", True), ("lazy_adam", False)):
        ours = fit(encoded, optimizer=optimizer, l2_embedding=0.1, l2_rows="table" if moves else "touched")
        before = ours.tables[0].detach().clone()
        ids, numbers, labels = batch_of(encoded, 2)
        total(ours.model.ranker.losses(ours.model.batch(ids, numbers, labels))).backward()
        ours._penalise(ids, numbers)
        for step in ours.optimizers:
            step.step()
        touched = torch.unique(ours.model.tables.rows(ids, numbers))
        untouched = torch.ones(len(before), dtype=torch.bool)
        untouched[touched] = False
        assert torch.equal(ours.tables[0][untouched], before[untouched]) != moves
        assert not torch.equal(ours.tables[0][touched], before[touched])


def test_numbers_scale_their_vector_and_missing_ones_have_row_0(encoded: EncodedSet) -> None:
    tables = fit(encoded).model.tables
    ids = torch.tensor([[1, 2], [1, 2], [1, 2]], dtype=torch.int32)
    vectors = tables(ids, torch.tensor([[2.0], [-1.0], [float("nan")]]))["main"]["x"]
    weight: Any = tables.tables["main"].weight
    torch.testing.assert_close(vectors, torch.stack([2 * weight[-1], -weight[-1], weight[-2]]))


def test_plateaus_reduce_the_learning_rate_and_end_training(
    encoded: EncodedSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = fit(encoded, epochs=20, patience=2, learning_rate=1e-2, min_learning_rate=1e-4)
    scores = iter([0.6, 0.7, 0.7, 0.8, 0.79, 0.800000001, 0.9])
    monkeypatch.setattr(ours, "score", lambda _: Score(next(scores), 0.5))
    epochs, best = ours.run(encoded)
    assert [e.auc for e in epochs] == [0.6, 0.7, 0.7, 0.8, 0.79, 0.800000001]
    np.testing.assert_allclose([e.learning_rate for e in epochs], [1e-2, 1e-2, 1e-2, 1e-3, 1e-3, 1e-4])
    assert best == 4


@pytest.mark.parametrize("watch", ["auc", "logloss", "auc-logloss"])
def test_the_best_epoch_is_put_back(encoded: EncodedSet, watch: str) -> None:
    ours = fit(encoded, watch=watch, epochs=6, learning_rate=0.5, reduce_factor=1.0, patience=6)
    epochs, best = ours.run(encoded)
    value = {
        "auc": lambda e: e.auc,
        "logloss": lambda e: -e.logloss,
        "auc-logloss": lambda e: e.auc - e.logloss,
    }[watch]
    assert best == max(epochs, key=value).epoch
    again = ours.score(encoded.split("valid"))
    assert (again.auc, again.logloss) == (epochs[best - 1].auc, epochs[best - 1].logloss)


def test_dropping_the_last_batch(encoded: EncodedSet, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = {}
    for drop in (False, True):
        ours = fit(encoded, batch_size=400, drop_last=drop, epochs=1)
        count: list[int] = []
        monkeypatch.setattr(ours, "_penalise", lambda ids, _, count=count: count.append(len(ids)))
        ours.run(encoded)
        steps[drop] = count
    assert steps == {False: [400, 400, 400, 300], True: [400, 400, 400]}


@pytest.mark.slow
def test_a_run_is_repeatable_and_not_repeated(folder: Path, tmp_path: Path) -> None:
    recipe = recipe_file(
        tmp_path / "recipe.toml",
        "[model]\nwidth = 4\nhidden = [8]\ndropout = 0.2\nbatch_norm = true\n"
        "[train]\nepochs = 3\nbatch_size = 128\nlearning_rate = 0.02\nembedding_dropout = 0.1\n",
    )
    lines: list[str] = []
    first = run(folder, "deepfm", recipe, tmp_path / "one", 5, say=lines.append)
    second = run(folder, "deepfm", recipe, tmp_path / "two", 5, say=quiet)
    other = run(folder, "deepfm", recipe, tmp_path / "three", 6, say=quiet)
    assert (first["auc"], first["logloss"]) == (second["auc"], second["logloss"]) != (other["auc"], other["logloss"])
    assert json.loads((tmp_path / "one/result.json").read_text(encoding="utf-8")) == first
    assert first["recipe"]["model"]["hidden"] == [8] and first["recipe"]["train"]["seed"] == 5
    assert first["rows"] == {"train": 1500, "valid": 500, "test": 500}
    assert len(lines) == first["epochs"] == 3
    assert run(folder, "deepfm", recipe, tmp_path / "one", 5, say=lines.append) == first
    assert len(lines) == 4 and "already" in lines[-1]


@pytest.mark.slow
def test_models_learn_what_they_can_express(folder: Path, tmp_path: Path) -> None:
    """The crossing of two fields: beyond LR, within reach of every machine of fields."""
    text = "[model]\nwidth = 4\n{}\n[train]\nepochs = 12\nbatch_size = 64\nlearning_rate = 0.03\n"
    auc = {}
    for model, own in (("lr", ""), ("fm", ""), ("ffm", ""), ("afm", ""), ("xdeepfm", "cin = [8]\nhidden = [16]")):
        recipe = recipe_file(tmp_path / f"{model}.toml", text.format(own))
        auc[model] = run(folder, model, recipe, tmp_path / model, 0, cache=tmp_path / "cache", say=quiet)["auc"]
    assert min(auc[model] for model in ("fm", "ffm", "afm", "xdeepfm")) > auc["lr"] + 0.1, auc


@pytest.mark.slow
@pytest.mark.parametrize("model", sorted(set(REGISTRY) - {"camenn", "marn", "fashionbert"}))
def test_every_baseline_trains_on_a_flat_set(folder: Path, tmp_path: Path, model: str) -> None:
    recipe = recipe_file(
        tmp_path / "recipe.toml", "[model]\nwidth = 4\n[train]\nepochs = 2\nbatch_size = 100\nlearning_rate = 0.01\n"
    )
    result = run(folder, model, recipe, tmp_path / "out", cache=folder / "cache", say=quiet)
    assert result["auc"] > 0.6 and result["logloss"] < 0.69


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("[model]\nwidht = 4", "model.widht"),
        ("[train]\nbatch = 4", "train.batch"),
        ("[train]\nbatch_size = 0", "train.batch_size"),
        ("[train]\nwatch = 'f1'", "train.watch"),
        ("[data]\nnumerical = 'drop'", "data.numerical"),
        ("[train]\noptimizer = 'lazy_adam'\nl2_embedding = 1.0", "train.l2_rows"),
        ("[train", "file"),
        ("model = 3", "model"),
    ],
)
def test_wrong_recipes_are_named(folder: Path, tmp_path: Path, text: str, field: str) -> None:
    with pytest.raises(UsageError) as caught:
        run(folder, "fm", recipe_file(tmp_path / "recipe.toml", text), tmp_path / "out", say=quiet)
    assert caught.value.field == field
    with pytest.raises(UsageError):
        run(folder, "no such model", None, tmp_path / "out", say=quiet)


@pytest.mark.slow
def test_a_public_set(tmp_path: Path) -> None:
    """Wisconsin breast cancer, which scikit-learn ships: logistic regression on scaled numbers reaches .99."""
    from sklearn.datasets import load_breast_cancer

    x, y = load_breast_cancer(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    names = [f"f{i}" for i in range(x.shape[1])]
    for split, rows in (("train", order[:369]), ("valid", order[369:469]), ("test", order[469:])):
        frame = pl.DataFrame({"label": y[rows], **{n: x[rows, i] for i, n in enumerate(names)}})
        frame.write_parquet(tmp_path / f"{split}.parquet")
    (tmp_path / "dataset.toml").write_text(
        f'label = "label"\nnumerical = {json.dumps(names)}\n'
        'files = {train = "train.parquet", valid = "valid.parquet", test = "test.parquet"}\n',
        encoding="utf-8",
    )
    recipe = recipe_file(
        tmp_path / "recipe.toml",
        '[data]\nscale = "standard"\n[train]\nlearning_rate = 0.02\nbatch_size = 64\nepochs = 60\nwatch = "logloss"\n',
    )
    result = run(tmp_path, "lr", recipe, tmp_path / "out", say=quiet)
    assert result["auc"] > 0.985 and result["logloss"] < 0.12
    assert isinstance(Epoch(**result["history"][0]), Epoch)


@pytest.mark.slow
def test_lr_reaches_the_optimum_of_scikit_learns(tmp_path: Path) -> None:
    """The same fields of a public set, the same penalty: the same AUC from another solver."""
    from tests.benchmarks.flat_discounts import make_set, reference, write_recipe

    folder = make_set(tmp_path / "set", 6_000)
    full = {"batch_size": 10_000, "epochs": 120, "learning_rate": 0.05, "min_delta": -1.0}  # the last epoch, whatever
    recipe = write_recipe(tmp_path / "lr.toml", "lr", l2=1e-3, **full)
    found = run(folder, "lr", recipe, tmp_path / "out", 0, cache=folder / "encoded", say=quiet)
    assert found["auc"] > 0.7
    assert abs(found["auc"] - reference(folder, 1e-3)) < 5e-4
