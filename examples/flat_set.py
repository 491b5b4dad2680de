"""Write a small flat CTR set, train two models on it, and compare them.

    .venv/bin/python examples/flat_set.py [folder]

Whether somebody clicks depends on user and item *together*: each user likes one kind of item. Logistic regression,
which adds one weight a field, cannot see that; a factorization machine can.
"""

from __future__ import annotations

import csv
import random
import sys
from pathlib import Path

from trainer.flat.run import run

DATASET = """\
label = "click"
categorical = ["user", "item"]
numerical = ["price"]
files = {train = "train.csv", valid = "valid.csv", test = "test.csv"}
"""
RECIPE = """\
[data]
scale = "log"
[model]
width = 4
init_std = 0.1
[train]
batch_size = 256
learning_rate = 0.02
epochs = 8
threads = 1
"""


def write_set(folder: Path) -> None:
    """Write `dataset.toml`, a CSV a split, and `recipe.toml`."""
    folder.mkdir(parents=True, exist_ok=True)
    draws = random.Random(0)
    for split, rows in (("train", 6000), ("valid", 1500), ("test", 1500)):
        with (folder / f"{split}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["click", "user", "item", "price"])
            for _ in range(rows):
                user, item = draws.randrange(20), draws.randrange(30)
                likes = user % 3 == item % 3
                click = draws.random() < (0.7 if likes else 0.2)
                writer.writerow([int(click), f"u{user}", f"i{item}", round(draws.lognormvariate(1, 0.5), 2)])
    (folder / "dataset.toml").write_text(DATASET, encoding="utf-8")
    (folder / "recipe.toml").write_text(RECIPE, encoding="utf-8")


def main(folder: Path) -> None:
    """Write the set where there is none, train both models, and say how well each does on the test split."""
    if not (folder / "dataset.toml").exists():
        write_set(folder)
    for model in ("lr", "fm"):
        # The command for it: freshrank train --data FOLDER --model fm --recipe FOLDER/recipe.toml
        result = run(folder, model, folder / "recipe.toml", folder / "runs" / model)
        print(f"{model}: AUC {result['auc']:.3f}, log loss {result['logloss']:.3f} after {result['epochs']} epochs")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("runs/flat_example"))
