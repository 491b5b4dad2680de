"""Train a registered model on a flat set and say how well it does on the test split."""

from __future__ import annotations

import hashlib
import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from features import atomic
from features.encoded import JsonObject
from features.errors import UsageError
from trainer.flat.dataset import read_dataset
from trainer.flat.recipe import read_recipe
from trainer.recipes import usage
from trainer.runtime.models.recipe import RecipeError, plain


def _stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def run(
    data: Path,
    model: str,
    recipe: Path | None,
    out: Path,
    seed: int | None = None,
    *,
    cache: Path | None = None,
    say: Callable[[str], None] = _stderr,
) -> JsonObject:
    """Encode the set where it is not yet, train, restore the best epoch, score the test split.

    Doing it again with the same files, recipe and seed gives the result that is there.

    Args:
        data: Folder with `dataset.toml`.
        model: Registered model.
        recipe: `recipe.toml`; None for the defaults.
        out: Folder of `result.json` and `weights.safetensors`.
        seed: Seed in place of the recipe's.
        cache: Folder of encoded sets, shared by runs, also at the same time; None for `encoded` beside `out`.
        say: Takes lines of progress.

    Returns:
        What `result.json` holds: `auc` and `logloss` of the test split, `epochs`, `best_epoch`, `seconds`, `recipe`,
        `unseen`, and more. A log loss of a model that diverged is None.

    Raises:
        UsageError: If model or recipe are wrong, or the first epoch diverges.
        DataError: If the set is.
        NotReadyError: If a file is missing.
    """
    began = time.perf_counter()
    dataset = read_dataset(data)
    flat, typed = read_recipe(recipe, model, seed)

    import torch
    from safetensors.torch import save

    from trainer.flat.encode import encode, fingerprint
    from trainer.flat.fit import Fit, FlatModel, initialise
    from trainer.flat.tables import PlainTables
    from trainer.runtime.models.registry import build, model_class

    if flat.train.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("there is no GPU", field="train.device", value="cuda", remedy='use "cpu"')
    own = {name: value for name, value in plain(typed).items() if name != "optimizer"}  # [train] has its own
    described = {"data": asdict(flat.data), "train": asdict(flat.train), "model": own}
    facts = json.dumps([model, described, fingerprint(dataset, flat.data)], sort_keys=True)
    run_id = hashlib.sha256(facts.encode()).hexdigest()[:16]
    done = out / "result.json"
    if done.is_file():
        before: JsonObject = json.loads(done.read_text(encoding="utf-8"))
        if before.get("run") == run_id:
            say(f"{done} is there already, from the same files and recipe")
            return before

    encoded = encode(dataset, flat.data, cache or out.parent / "encoded")
    _warn(encoded.unseen, say)
    if flat.train.threads:
        torch.set_num_threads(flat.train.threads)
    torch.manual_seed(flat.train.seed)
    try:
        ranker = build(model, encoded.schema, plain(typed))
        spaces = model_class(model).spaces(encoded.schema, typed)
    except RecipeError as error:
        raise usage(error, "model.") from None
    if flat.train.initialiser == "xavier_normal":
        initialise(ranker, products=flat.train.cin_initialiser == "xavier_normal")
    tables = PlainTables(
        encoded.schema,
        spaces,
        sparse=flat.train.optimizer == "lazy_adam",
        dropout=flat.train.embedding_dropout,
        numbers=flat.train.number_initialiser,
    )
    fit = Fit(FlatModel(tables, ranker), flat.train, say)
    prepared = time.perf_counter()
    epochs, best_epoch = fit.run(encoded)
    test, valid = fit.score(encoded.split("test")), epochs[best_epoch - 1]
    result: JsonObject = {
        "model": model,
        "auc": test.auc,
        "logloss": _finite(test.logloss),
        "epochs": len(epochs),
        "best_epoch": best_epoch,
        "seconds": round(time.perf_counter() - began, 3),
        "training_seconds": round(time.perf_counter() - prepared, 3),
        "valid": {"auc": valid.auc, "logloss": valid.logloss},
        "unseen": encoded.unseen,
        "rows": {split: len(encoded.split(split)) for split in ("train", "valid", "test")},
        "parameters": sum(p.numel() for p in fit.model.parameters()),
        "recipe": described,
        "history": [{name: _finite(value) for name, value in asdict(epoch).items()} for epoch in epochs],
        "run": run_id,
    }
    weights = {name: value.contiguous() for name, value in fit.model.state_dict().items()}
    atomic.write_bytes(out / "weights.safetensors", save(weights))
    atomic.write_text(done, json.dumps(result, indent=1))
    return result


def _finite(value: float | None) -> float | None:
    """None in place of what JSON has no word for."""
    return value if value is not None and math.isfinite(value) else None


def _warn(unseen: dict[str, dict[str, float]], say: Callable[[str], None]) -> None:
    """One line if most values of some field have no row: it may be written in another way than in the train split."""
    shown = [
        f"{share:.0%} of {field} in {split}"
        for split, shares in unseen.items()
        for field, share in shares.items()
        if share > 0.5
    ]
    if shown:
        say(f"values without a row from the train split: {', '.join(shown)}")
