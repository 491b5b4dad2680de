"""`dataset.toml`: which columns of which files are what."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from features.configuration import read
from features.errors import DataError, NotReadyError, UsageError

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = ("train", "valid", "test")
KINDS = ("csv", "tsv", "csv.gz", "tsv.gz", "parquet")


@dataclass(frozen=True)
class Dataset:
    """A flat set.

    Args:
        label: Column of the label, 0 or 1.
        categorical: Columns that are looked up as they stand, as text.
        numerical: Columns that are numbers.
        files: Split → file, relative to the folder; `.csv`, `.tsv`, either with `.gz`, or `.parquet`.
        delimiter: Between the columns of a text file; empty for a comma, or a tab in `.tsv`.
        folder: Where the files are.
    """

    label: str = ""
    categorical: tuple[str, ...] = ()
    numerical: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    delimiter: str = ""
    folder: Path = field(default=Path(), init=False)

    @property
    def columns(self) -> tuple[str, ...]:
        """Label, categorical and numerical columns, in this order."""
        return (self.label, *self.categorical, *self.numerical)

    def path(self, split: Split) -> Path:
        """The file of a split."""
        return self.folder / self.files[split]


def kind_of(name: str) -> str:
    """One of `KINDS` by a file's name, or nothing."""
    return next((kind for kind in KINDS if name.lower().endswith(f".{kind}")), "")


def read_dataset(folder: Path) -> Dataset:
    """Read `dataset.toml`.

    Args:
        folder: The folder that holds it and the files.

    Raises:
        NotReadyError: If there is no such file, or a split's file is missing.
        DataError: If it says something impossible.
    """
    path = folder / "dataset.toml"
    if not path.is_file():
        raise NotReadyError(
            "no flat set here", field="data", value=str(folder), remedy="give a folder with dataset.toml"
        )
    values = read_toml(path)
    try:
        dataset = read(Dataset, values)
    except UsageError as error:
        raise DataError(
            f"dataset.toml: {error.what}", field=error.field, value=error.value, remedy=error.remedy
        ) from None
    object.__setattr__(dataset, "folder", folder)
    if not dataset.label:
        raise DataError("dataset.toml names no label", field="label", value="", remedy='write label = "<column>"')
    if not dataset.categorical and not dataset.numerical:
        raise DataError(
            "dataset.toml names no field", field="categorical", value=[], remedy="name columns to learn from"
        )
    twice = sorted({name for name in dataset.columns if dataset.columns.count(name) > 1})
    if twice:
        raise DataError("a column has two roles", field="dataset.toml", value=twice, remedy="name each column once")
    extra = sorted(set(dataset.files) - set(SPLITS))
    if extra:
        raise DataError("no such split", field="files", value=extra, remedy=f"use one of: {', '.join(SPLITS)}")
    for split in SPLITS:
        if split not in dataset.files:
            raise DataError(
                "a split has no file", field="files", value=split, remedy=f'add {split} = "<file>" to files'
            )
        if not kind_of(dataset.files[split]):
            raise DataError(
                "unknown kind of file",
                field=f"files.{split}",
                value=dataset.files[split],
                remedy=f"use one of: {', '.join(f'.{kind}' for kind in KINDS)}",
            )
        if not dataset.path(split).is_file():
            raise NotReadyError(
                "a split's file is missing",
                field=f"files.{split}",
                value=str(dataset.path(split)),
                remedy="put it there",
            )
    return dataset


def read_toml(path: Path) -> dict[str, object]:
    """A TOML file.

    Raises:
        NotReadyError: If it is not there.
        UsageError: If it is no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))  # a pipe such as /dev/stdin will do
    except FileNotFoundError:
        raise NotReadyError(
            "no such file", field="file", value=str(path), remedy="give an existing TOML file"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise UsageError(f"not TOML: {error}", field="file", value=str(path), remedy="mend the file") from None
