"""Flat sets become indices: learned from the train split alone, the same from CSV and Parquet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.errors import DataError, NotReadyError
from trainer.flat.dataset import SPLITS, read_dataset
from trainer.flat.encode import EncodedSet, encode
from trainer.flat.recipe import DataRecipe

ROWS = {
    "train": {
        "y": [1, 0, 0, 1, 0, 0],
        "shop": ["b", "a", "a", "c", "a", None],
        "price": [1.0, 2.0, 3.0, None, 5.0, 6.0],
    },
    "valid": {"y": [1, 0], "shop": ["c", "new"], "price": [7.0, None]},
    "test": {"y": [0, 1], "shop": ["a", "b"], "price": [-1.0, 2.5]},
}
TOML = """
label = "y"
categorical = ["shop"]
numerical = ["price"]
files = {{train = "train.{0}", valid = "valid.{0}", test = "test.{0}"}}
"""


def make(folder: Path, kind: str = "csv") -> Path:
    folder.mkdir(exist_ok=True)
    for split, columns in ROWS.items():
        frame = pl.DataFrame(columns)
        path = folder / f"{split}.{kind}"
        frame.write_csv(path) if kind == "csv" else frame.write_parquet(path)
    (folder / "dataset.toml").write_text(TOML.format(kind), encoding="utf-8")
    return folder


def encoded(folder: Path, **recipe: object) -> EncodedSet:
    return encode(read_dataset(folder), DataRecipe(**recipe), folder / "cache")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_vocabulary_and_numbers(tmp_path: Path, kind: str) -> None:
    out = encoded(make(tmp_path / kind, kind))
    assert [(f.name, f.rows, f.kind) for f in out.schema.features] == [("shop", 4, "id"), ("price", 2, "number")]
    train, valid = out.split("train"), out.split("valid")
    # most frequent first, ties by value; missing and unseen values share row 0
    assert train.ids_NF[:, 0].tolist() == [2, 1, 1, 3, 1, 0]
    assert valid.ids_NF[:, 0].tolist() == [3, 0]
    np.testing.assert_array_equal(train.numbers_NK[:, 0], np.array([1, 2, 3, np.nan, 5, 6], np.float32))
    assert train.labels_N.tolist() == ROWS["train"]["y"]


def test_rare_values_share_row_0(tmp_path: Path) -> None:
    out = encoded(make(tmp_path), min_count=2)
    assert out.schema.features[0].rows == 2
    assert out.split("train").ids_NF[:, 0].tolist() == [0, 1, 1, 0, 1, 0]


def test_quantile_buckets(tmp_path: Path) -> None:
    out = encoded(make(tmp_path), numerical="bucket", buckets=2)
    assert [(f.name, f.rows, f.kind) for f in out.schema.features] == [("shop", 4, "id"), ("price", 3, "id")]
    assert out.split("train").ids_NF[:, 1].tolist() == [1, 1, 2, 0, 2, 2]  # edge 3: the median of 1 2 3 5 6
    assert out.split("test").ids_NF[:, 1].tolist() == [1, 1]


def test_squared_log_buckets_as_for_criteo(tmp_path: Path) -> None:
    folder = make(tmp_path)
    pl.DataFrame({"y": [0, 1] * 4, "shop": ["a"] * 8, "price": [0.0, 1.0, 1.9, 2.0, 2.5, 3.0, 20.0, None]}).write_csv(
        folder / "train.csv"
    )
    out = encoded(folder, numerical="bucket", bucketing="squared_log")
    ids = out.split("train").ids_NF[:, 1]
    expected = ["0", "1", "1", "2", "0", "1", "8", None]  # ⌊ln(2.5)²⌋ = 0, ⌊ln(3)²⌋ = 1, ⌊ln(20)²⌋ = 8
    groups = {value: {int(i) for i, e in zip(ids, expected, strict=True) if e == value} for value in set(expected)}
    assert all(len(found) == 1 for found in groups.values()) and groups[None] == {0}
    assert len(set.union(*groups.values())) == 5


@pytest.mark.parametrize(
    ("scale", "expected"),
    [("standard", [-1.29399, -0.75483]), ("minmax", [0.0, 0.2]), ("log", [0.6931, 1.0986]), ("none", [1.0, 2.0])],
)
def test_scales(tmp_path: Path, scale: str, expected: list[float]) -> None:
    out = encoded(make(tmp_path), scale=scale)
    np.testing.assert_allclose(out.split("train").numbers_NK[:2, 0], expected, atol=1e-4)


def test_an_encoded_set_is_used_again_until_a_file_changes(tmp_path: Path) -> None:
    folder = make(tmp_path)
    first = encoded(folder).folder
    made = (first / "fields.json").stat().st_mtime_ns
    assert encoded(folder).folder == first and (first / "fields.json").stat().st_mtime_ns == made
    (folder / "test.csv").write_text("y,shop,price\n1,a,2\n", encoding="utf-8")
    assert encoded(folder).folder != first


def test_columns_of_odd_names_and_more_than_needed(tmp_path: Path) -> None:
    for split in SPLITS:
        pl.DataFrame({'a "b"': ["x", "y"], "la.bel": [0, 1], "spare": [1, 2]}).write_csv(tmp_path / f"{split}.csv")
    (tmp_path / "dataset.toml").write_text(
        'label = "la.bel"\ncategorical = [\'a "b"\']\n'
        'files = {train = "train.csv", valid = "valid.csv", test = "test.csv"}\n',
        encoding="utf-8",
    )
    assert encoded(tmp_path).split("test").ids_NF.tolist() == [[1], [2]]


@pytest.mark.parametrize(
    ("rows", "field"),
    [
        ("y,shop,price\n2,a,1\n", "y"),
        ("y,shop,price\n,a,1\n", "y"),
        ("y,shop,price\n1,a,cheap\n", "price"),
        ("y,shop\n1,a\n", "files.train"),
        ("y,shop,price\n", "files.train"),
    ],
)
def test_wrong_files_are_named(tmp_path: Path, rows: str, field: str) -> None:
    folder = make(tmp_path)
    (folder / "train.csv").write_text(rows, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        encoded(folder)
    assert caught.value.field == field
    assert not list((folder / "cache").glob("[!.]*"))


@pytest.mark.parametrize(
    ("text", "error", "field"),
    [
        (None, NotReadyError, "data"),
        ('label = "y"', DataError, "categorical"),
        ('categorical = ["shop"]', DataError, "label"),
        ('label = "y"\ncategorical = ["y"]', DataError, "dataset.toml"),
        ('label = "y"\ncategorical = ["shop"]\nfiles = {train = "train.csv"}', DataError, "files"),
        ('label = "y"\ncategorical = "shop"', DataError, "categorical"),
        ('label = "y"\nsequence = ["shop"]', DataError, "sequence"),
        (TOML.format("csv").replace("test.csv", "gone.csv"), NotReadyError, "files.test"),
        (TOML.format("csv").replace("test.csv", "test.xls"), DataError, "files.test"),
        (TOML.format("csv").replace("files = {", 'files = {dev = "valid.csv", '), DataError, "files"),
    ],
)
def test_wrong_descriptions_are_named(tmp_path: Path, text: str | None, error: type[Exception], field: str) -> None:
    folder = make(tmp_path)
    (folder / "dataset.toml").unlink()
    if text is not None:
        (folder / "dataset.toml").write_text(text, encoding="utf-8")
    with pytest.raises(error) as caught:
        read_dataset(folder)
    assert caught.value.field == field  # type: ignore[attr-defined]
