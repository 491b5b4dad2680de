"""Files as they come: quotes, gaps that are no gaps, categories written in two ways, and errors that say where."""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from features.errors import DataError
from trainer.flat.dataset import SPLITS, read_dataset
from trainer.flat.encode import EncodedSet, encode
from trainer.flat.recipe import DataRecipe

NAN, INF = math.nan, math.inf
ROWS: dict[str, list[Any]] = {"y": [1, 0, 1], "c": ["a", "b", "a"], "x": [1.0, 2.0, 3.0]}
TOML = 'label = "y"\ncategorical = ["c"]\nnumerical = ["x"]\nfiles = {{train = "train.{0}", valid = "valid.{0}", '


def describe(folder: Path, kind: str) -> None:
    (folder / "dataset.toml").write_text(TOML.format(kind) + f'test = "test.{kind}"}}\n', encoding="utf-8")


def texts(folder: Path, train: str, test: str = "", **recipe: Any) -> EncodedSet:
    """Encode CSV files of these rows; `valid` is as `train`."""
    describe(folder, "csv")
    for split in SPLITS:
        (folder / f"{split}.csv").write_text(
            "y,c,x\n" + (test or train if split == "test" else train), encoding="utf-8"
        )
    return encode(read_dataset(folder), DataRecipe(**recipe), folder / "cache")


def columns(folder: Path, train: dict[str, list[Any]], test: dict[str, list[Any]] | None = None, **recipe: Any) -> Any:
    """Encode Parquet files of these columns, each in place of one of `ROWS`."""
    describe(folder, "parquet")
    for split in SPLITS:
        new = test if split == "test" and test is not None else train
        pl.DataFrame(ROWS | new, strict=False).write_parquet(folder / f"{split}.parquet")
    return encode(read_dataset(folder), DataRecipe(**recipe), folder / "cache")


def ids(encoded: EncodedSet, split: Any = "train", column: int = 0) -> list[int]:
    found: list[int] = encoded.split(split).ids_NF[:, column].tolist()
    return found


def numbers(encoded: EncodedSet) -> Any:
    return encoded.split("train").numbers_NK[:, 0]


@pytest.mark.parametrize(("late", "rows"), [('"a, b"', 7), ('"t1"', 6), ('5" pipe', 7), ("#t", 7)])
def test_a_late_quote_is_a_quote(tmp_path: Path, late: str, rows: int) -> None:
    """Long after the rows from which a dialect could be guessed."""
    lines = (f"{i % 2},{late if i == 45_000 else f't{i % 5}'},{i}\n" for i in range(60_000))
    encoded = texts(tmp_path, "".join(lines), "1,t1,1\n")
    assert encoded.schema.features[0].rows == rows
    assert len(encoded.split("train")) == 60_000


@pytest.mark.parametrize(
    ("row", "what"),
    [("1,a, b,1", "line 3 .*Columns: 3 Found: 4"), ("1,a", "line 3 .*Columns: 3 Found: 2"), ('1,"a,1', "line 3 ")],
)
def test_a_broken_line_is_named(tmp_path: Path, row: str, what: str) -> None:
    with pytest.raises(DataError, match=what) as caught:
        texts(tmp_path, f"1,a,1\n{row}\n0,b,2\n")
    assert caught.value.field == "files.train" and caught.value.value == str(tmp_path / "train.csv")


def test_other_encodings_are_named(tmp_path: Path) -> None:
    texts(tmp_path, "1,a,1\n0,b,2\n")
    (tmp_path / "train.csv").write_bytes("y,c,x\n1,café,1\n0,b,2\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"line 2 .*UTF-8"):
        encode(read_dataset(tmp_path), DataRecipe(), tmp_path / "cache")


def test_packed_files_and_capitals(tmp_path: Path) -> None:
    text = "y\tc\tx\n1\ta\t1\n0\tb\t2\n"
    (tmp_path / "train.tsv.gz").write_bytes(gzip.compress(text.encode()))
    (tmp_path / "valid.TSV").write_text(text, encoding="utf-8")
    (tmp_path / "test.CSV").write_text(text.replace("\t", ","), encoding="utf-8")
    (tmp_path / "dataset.toml").write_text(
        'label = "y"\ncategorical = ["c"]\nnumerical = ["x"]\n'
        'files = {train = "train.tsv.gz", valid = "valid.TSV", test = "test.CSV"}\n',
        encoding="utf-8",
    )
    encoded = encode(read_dataset(tmp_path), DataRecipe(), tmp_path / "cache")
    assert [ids(encoded, split) for split in SPLITS] == [[1, 2]] * 3
    (tmp_path / "train.tsv.gz").write_bytes(text.encode())
    with pytest.raises(DataError, match="first line"):
        encode(read_dataset(tmp_path), DataRecipe(), tmp_path / "cache")


def test_a_column_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    texts(tmp_path, "1,a,1\n0,b,2\n")
    (tmp_path / "test.csv").write_text("y,c,x,x\n1,a,1,2\n", encoding="utf-8")
    with pytest.raises(DataError, match="twice") as caught:
        encode(read_dataset(tmp_path), DataRecipe(), tmp_path / "cache")
    assert caught.value.field == "files.test" and caught.value.value == ["x"]


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [({"scale": "standard"}, [-1.0, NAN, 1.0]), ({"scale": "minmax"}, [0, NAN, 1]), ({"scale": "log"}, [0, NAN, 1.1])],
)
def test_nan_is_missing(tmp_path: Path, recipe: dict[str, Any], expected: list[float]) -> None:
    x = [0.0, NAN, math.exp(1.1) - 1]
    found = columns(tmp_path, {"x": x}, **recipe)
    np.testing.assert_allclose(numbers(found), expected, atol=1e-6)
    (tmp_path / "csv").mkdir()
    found = texts(tmp_path / "csv", "".join(f"{i % 2},a,{value}\n" for i, value in enumerate(x)), **recipe)
    np.testing.assert_allclose(numbers(found), expected, atol=1e-6)


def test_nan_is_missing_in_buckets_and_categories(tmp_path: Path) -> None:
    found = columns(tmp_path, {"x": [1.0, NAN, 5.0]}, numerical="bucket", buckets=2)
    assert found.schema.features[1].rows == 3 and ids(found, column=1) == [2, 0, 2]
    found = columns(tmp_path, {"x": [1.0, NAN, 20.0]}, numerical="bucket", bucketing="squared_log")
    assert found.schema.features[1].rows == 3 and ids(found, column=1) == [1, 0, 2]
    found = columns(tmp_path, {"c": [1.5, NAN, 1.5]})
    assert found.schema.features[0].rows == 2 and ids(found) == [1, 0, 1]


@pytest.mark.parametrize("recipe", [{}, {"numerical": "bucket"}, {"numerical": "bucket", "bucketing": "squared_log"}])
def test_infinite_numbers_are_refused(tmp_path: Path, recipe: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"infinite .row 3 of .*train.parquet, 1 such.: x = '-inf'"):
        columns(tmp_path, {"x": [1.0, 2.0, -INF]}, **recipe)
    with pytest.raises(DataError, match=r"infinite .row 2 of .*test.csv, 2 such.: x = '1e400'"):
        texts(tmp_path, "1,a,1\n0,b,2\n", "1,a,1\n0,b,1e400\n1,a,inf\n", **recipe)


def test_wrong_values_are_shown_with_file_and_row(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        texts(tmp_path, "1,a,1\n0,b,cheap\n0,b,dear\n")
    assert caught.value.field == "x" and caught.value.value == "cheap"
    assert f"no number (row 2 of {tmp_path / 'train.csv'}, 2 such)" in caught.value.what
    with pytest.raises(DataError, match=r"row 2 of .*, 1 such.: y = 'perhaps'"):
        texts(tmp_path, "1,a,1\nperhaps,b,2\n")
    with pytest.raises(DataError, match=r"row 2 of .*, 1 such.: y = 'nan'"):
        columns(tmp_path, {"y": [1.0, NAN, 1.0]})


def test_true_and_false_are_labels(tmp_path: Path) -> None:
    assert texts(tmp_path, "True,a,1\nfalse,b,2\nTRUE,a,3\n0,b,4\n").split("train").labels_N.tolist() == [1, 0, 1, 0]
    assert columns(tmp_path, {"y": [True, False, True]}).split("train").labels_N.tolist() == [1, 0, 1]


@pytest.mark.parametrize("split", ["train", "valid"])
def test_one_class_is_refused_before_training(tmp_path: Path, split: str) -> None:
    texts(tmp_path, "1,a,1\n0,b,2\n", "1,a,1\n")  # of the test split it is not
    (tmp_path / f"{split}.csv").write_text("y,c,x\n1,a,1\n1,b,2\n", encoding="utf-8")
    with pytest.raises(DataError, match="one class alone, 1") as caught:
        encode(read_dataset(tmp_path), DataRecipe(), tmp_path / "cache")
    assert caught.value.field == f"files.{split}"


def test_whole_floats_are_the_integers_of_another_split(tmp_path: Path) -> None:
    found = columns(tmp_path, {"c": [1, 2, 1]}, {"c": [1.0, 2.0, None]})
    assert ids(found, "test") == [1, 2, 0] and found.unseen["test"] == {"c": 0.0}
    found = columns(tmp_path, {"c": [1.0, -0.0, 2.5]}, {"c": [1, 0, 2]})
    assert ids(found, "test")[:2] == [ids(found)[0], ids(found)[1]] and ids(found, "test")[2] == 0


@pytest.mark.parametrize(
    ("train", "test", "seen"),
    [
        (["1", "2", ""], ["1.0", "2.0", "3.0"], [True, True, False]),
        (["1.0", "2.0", "-3.0"], ["1", "2.00", "-3"], [True, True, True]),
        (["1.5", "1.10", "2"], ["1.50", "1.1", "2.0"], [False, False, True]),  # beyond whole numbers text is text
        (["007", "1", "2"], ["7", "1.0", "007"], [False, False, True]),  # no numerals alone: nothing is touched
        (["1", "2", "3"], ["01", "1.", "+1"], [False, False, False]),
    ],
)
def test_numerals_of_text_files_match(tmp_path: Path, train: list[str], test: list[str], seen: list[bool]) -> None:
    first, second = ("".join(f"{i % 2},{c},1\n" for i, c in enumerate(values)) for values in (train, test))
    assert [index > 0 for index in ids(texts(tmp_path, first, second), "test")] == seen


def test_shares_of_unseen_values(tmp_path: Path) -> None:
    found = texts(tmp_path, "1,a,1\n0,a,2\n0,b,2\n", "1,a,1\n0,q,2\n1,b,3\n0,,4\n", min_count=2)
    assert found.unseen == {"valid": {"c": round(1 / 3, 6)}, "test": {"c": round(2 / 3, 6)}}  # of those present


def test_zero_in_place_of_missing_numbers(tmp_path: Path) -> None:
    x = [None, NAN, 6.0]
    np.testing.assert_array_equal(numbers(columns(tmp_path, {"x": x}, missing="zero")), [0, 0, 6])
    scaled = numbers(columns(tmp_path, {"x": x}, missing="zero", scale="standard"))
    np.testing.assert_allclose(scaled, np.array([-2, -2, 4]) / math.sqrt(8), rtol=1e-6)
    buckets: dict[str, Any] = {"numerical": "bucket", "bucketing": "squared_log", "missing": "zero"}
    found = columns(tmp_path, {"x": [None, 0.5, 20.0]}, **buckets)
    assert found.schema.features[1].rows == 2 and ids(found, column=1) == [0, 0, 1]


def test_empty_text_is_missing_in_every_kind_of_file(tmp_path: Path) -> None:
    assert ids(columns(tmp_path, {"c": ["a", "", None], "x": ["1", "", "2"]})) == [1, 0, 0]
    assert ids(texts(tmp_path, '1,a,1\n0,"",2\n1,,3\n')) == [1, 0, 0]
