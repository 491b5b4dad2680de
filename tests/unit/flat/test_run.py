"""A run from files to `result.json`: what is shared between runs, what is said, what ends it early."""

from __future__ import annotations

import json
import math
import threading
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from features.errors import UsageError
from trainer.flat import encode as encoding
from trainer.flat import run
from trainer.flat.dataset import SPLITS, read_dataset
from trainer.flat.encode import EncodedSet, encode
from trainer.flat.fit import Fit, Score
from trainer.flat.recipe import DataRecipe, TrainRecipe
from trainer.flat.source import extract

SHORT = "[train]\nepochs = 1\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path, rng = tmp_path / "set", np.random.default_rng(0)
    path.mkdir()
    for split in SPLITS:
        a = rng.integers(0, 6, 400)
        pl.DataFrame({"y": (rng.random(400) < (a + 1) / 8).astype(int), "a": a, "x": a / 2}).write_csv(
            path / f"{split}.csv"
        )
    write(path, 'categorical = ["a"]\nnumerical = ["x"]\n')
    return path


def write(folder: Path, fields: str) -> None:
    (folder / "dataset.toml").write_text(
        f'label = "y"\n{fields}files = {{train = "train.csv", valid = "valid.csv", test = "test.csv"}}\n',
        encoding="utf-8",
    )


def trained(folder: Path, text: str = SHORT, model: str = "lr", out: str = "out", **more: Any) -> dict[str, Any]:
    recipe = folder.parent / "recipe.toml"
    recipe.write_text(text, encoding="utf-8")
    return run(folder, model, recipe, folder.parent / out, **({"say": lambda _: None} | more))


def extracted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The splits that are read from now on."""
    made: list[str] = []

    def counted(*asked: Any) -> Any:
        made.append(asked[3])
        return extract(*asked)

    monkeypatch.setattr(encoding, "extract", counted)
    return made


def test_a_set_is_encoded_once_for_all_models(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = extracted(monkeypatch)
    for model in ("lr", "fm"):
        trained(folder, model=model, out=f"runs/{model}")
    assert made == list(SPLITS) and (folder.parent / "runs/encoded").is_dir()
    trained(folder, "[data]\nmin_count = 2\n" + SHORT, out="runs/other")
    trained(folder, out="runs/again", cache=folder.parent / "elsewhere")
    assert len(made) == 9 and (folder.parent / "elsewhere").is_dir()


def test_runs_at_the_same_time_encode_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = extracted(monkeypatch)
    found: list[EncodedSet] = []

    def one() -> None:
        found.append(encode(read_dataset(folder), DataRecipe(), folder / "cache"))

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({encoded.folder for encoded in found}) == 1 and len(found) == 4
    assert made == list(SPLITS)


def test_values_without_a_row_are_reported(folder: Path) -> None:
    rows = pl.read_csv(folder / "test.csv").with_columns(a="item " + pl.col("a").cast(pl.String))
    rows.write_csv(folder / "test.csv")
    lines: list[str] = []
    result = trained(folder, say=lines.append)
    assert result["unseen"] == {"valid": {"a": 0.0}, "test": {"a": 1.0}}
    assert [line for line in lines if "without a row" in line] == [
        "values without a row from the train split: 100% of a in test"
    ]


def test_the_described_recipe_leaves_out_what_is_not_used(folder: Path) -> None:
    own = trained(folder, model="fm")["recipe"]["model"]
    assert "optimizer" not in own and own["width"] == 16


@pytest.mark.parametrize("as_json", [False, True])
def test_a_test_split_of_one_class_is_told_as_such(
    folder: Path, capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    from freshrank.commands.train import command

    rows = pl.read_csv(folder / "test.csv").filter(pl.col("y") == 0)
    rows.write_csv(folder / "test.csv")
    recipe, cache = folder.parent / "recipe.toml", folder.parent / "cache"
    recipe.write_text(SHORT, encoding="utf-8")
    command(
        model="lr",
        data=str(folder),
        recipe=str(recipe),
        out=str(folder.parent / "out"),
        cache=str(cache),
        as_json=as_json,
    )
    shown = capsys.readouterr().out
    if as_json:
        assert json.loads(shown)["auc"] is None and json.loads(shown)["logloss"] > 0
    else:
        assert "AUC -, log loss 0." in shown
    assert cache.is_dir()


def test_a_cache_belongs_to_flat_sets(folder: Path) -> None:
    from freshrank.commands.train import command

    with pytest.raises(UsageError) as caught:
        command(date="2025-03-09", cache="somewhere")
    assert caught.value.field == "--cache"


def test_ffm_needs_two_fields(folder: Path) -> None:
    for fields, own in (('categorical = ["a"]\n', ""), ('categorical = ["a", "x"]\n', '[model]\nfields = ["a"]\n')):
        write(folder, fields)
        with pytest.raises(UsageError) as caught:
            trained(folder, SHORT + own, "ffm")
        assert caught.value.field == "model.fields"


def test_a_gpu_that_is_not_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError) as caught:
        trained(folder, '[train]\ndevice = "cuda"\n')
    assert caught.value.field == "train.device"


def test_batches_that_never_fill(folder: Path) -> None:
    with pytest.raises(UsageError) as caught:
        trained(folder, "[train]\nbatch_size = 401\ndrop_last = true\n")
    assert caught.value.field == "train.batch_size"


def test_an_errors_table_is_named(folder: Path) -> None:
    for model, text, field in (("fm", '[model]\nfields = ["q"]\n', "model.fields"), ("fashionbert", "", "model")):
        with pytest.raises(UsageError) as caught:
            trained(folder, text, model)
        assert caught.value.field == field


def test_divergence_from_the_start_is_an_error(folder: Path) -> None:
    text = '[train]\nlearning_rate = 1e30\noptimizer = "sgd"\nclip_norm = 0\nl2_embedding = 1.0\nbatch_size = 10\n'
    with pytest.raises(UsageError) as caught:
        trained(folder, text)
    assert caught.value.field == "train.learning_rate" and caught.value.value == 1e30


def test_divergence_later_keeps_the_best_epoch(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Fit.score
    calls: list[int] = []

    def score(fit: Fit, arrays: Any) -> Score:
        calls.append(len(calls))
        if len(calls) == 2:
            with torch.no_grad():
                fit.tables[0].fill_(math.inf)  # as a step too far leaves them
        return real(fit, arrays)

    monkeypatch.setattr(Fit, "score", score)
    result = trained(folder, "[train]\nepochs = 9\nmin_delta = -1.0\npatience = 2\n")
    assert result["best_epoch"] == 1 and result["epochs"] == 3 and result["auc"] > 0.5
    kept = json.loads(
        (folder.parent / "out/result.json").read_text(encoding="utf-8"), parse_constant=pytest.fail
    )  # no NaN: strict JSON
    assert [epoch["logloss"] is None for epoch in kept["history"]] == [False, True, True]


@pytest.mark.parametrize("l2_linear", [None, 0.5])
def test_first_order_weights_may_have_a_penalty_of_their_own(folder: Path, l2_linear: float | None) -> None:
    from trainer.flat.fit import FlatModel
    from trainer.flat.tables import PlainTables
    from trainer.runtime.models.registry import build

    encoded = encode(read_dataset(folder), DataRecipe(), folder / "cache")
    ranker = build("fm", encoded.schema, {"width": 2})
    tables = PlainTables(encoded.schema, type(ranker).spaces(encoded.schema, ranker.recipe))
    fit = Fit(FlatModel(tables, ranker), TrainRecipe(l2_embedding=0.1, l2_linear=l2_linear), lambda _: None)
    for weight in fit.tables:
        weight.grad = torch.zeros_like(weight)
    ids = torch.zeros(1, 1, dtype=torch.int32)
    fit._penalise(ids, torch.zeros(1, 1))
    for name, rate in (("main", 0.1), ("linear", 0.1 if l2_linear is None else l2_linear)):
        own: Any = tables.tables[name].weight
        torch.testing.assert_close(own.grad, rate * own.detach())
