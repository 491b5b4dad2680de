"""`make bench`: every flat model on a public set, beside scikit-learn's optimum of logistic regression."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.benchmarks.flat_discounts import MODELS, make_set, reference, write_recipe
from trainer.flat import run

ROWS = 60_000
OUT = Path("runs/benchmarks/flat_discounts")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_set(tmp_path_factory.mktemp("discounts") / "set", ROWS)


@pytest.mark.parametrize("model", MODELS)
def test_flat_discounts(folder: Path, model: str) -> None:
    recipe = write_recipe(folder.parent / f"{model}.toml", model, batch_size=1024, learning_rate=2e-3, threads=2)
    found = run(folder, model, recipe, folder.parent / model, 0, cache=folder.parent / "encoded")
    kept = {name: found[name] for name in ("model", "auc", "logloss", "epochs", "seconds", "parameters")}
    kept["rows_per_second"] = round(0.7 * ROWS * found["epochs"] / found["seconds"])
    if model == "lr":
        kept["scikit_learn_auc"] = reference(folder)
        assert abs(found["auc"] - kept["scikit_learn_auc"]) < 0.01
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / f"{model}.json").write_text(json.dumps(kept, indent=1), encoding="utf-8")
    print(json.dumps(kept))
    assert found["auc"] > 0.75
