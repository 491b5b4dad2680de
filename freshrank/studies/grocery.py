"""The Grocery Store data set (Klasson et al. 2019): photos of groceries with a name and a description each."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from features.errors import UsageError


@dataclass(frozen=True)
class Product:
    """One fine-grained class.

    Args:
        number: Its number in the data set.
        name: Its name.
        description: Its description.
        coarse: Number of its coarse class, such as that of all apples.
    """

    number: int
    name: str
    description: str
    coarse: int


@dataclass(frozen=True)
class Photo:
    """One photo.

    Args:
        path: File, relative to the data set's `dataset` folder.
        product: Number of the product it shows.
    """

    path: str
    product: int

    @property
    def uri(self) -> str:
        """Its `file:` URI below `content.image_root`."""
        return "file:" + quote(self.path)


@dataclass(frozen=True)
class Groceries:
    """The data set.

    Args:
        root: Its `dataset` folder.
        products: Products by number.
        train: Photos to train on.
        val: Photos to measure on.
    """

    root: Path
    products: dict[int, Product]
    train: tuple[Photo, ...]
    val: tuple[Photo, ...]


def read_groceries(folder: Path) -> Groceries:
    """Read names, descriptions and lists of photos; photos themselves are not opened.

    Args:
        folder: The data set's folder, which holds `dataset/classes.csv`.

    Raises:
        UsageError: If it is not there.
    """
    root = folder / "dataset"
    if not (root / "classes.csv").is_file():
        raise UsageError(
            "not the data set",
            field="--images",
            value=str(folder),
            remedy="name the folder that holds dataset/classes.csv",
        )
    products = {}
    with (root / "classes.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            description = root / row["Product Description Path (str)"].lstrip("/")
            number = int(row["Class ID (int)"])
            products[number] = Product(
                number,
                row["Class Name (str)"].replace("-", " "),
                description.read_text(encoding="utf-8").strip(),
                int(row["Coarse Class ID (int)"]),
            )
    return Groceries(root, products, _photos(root / "train.txt"), _photos(root / "val.txt"))


def _photos(path: Path) -> tuple[Photo, ...]:
    rows = (line.split(",") for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    return tuple(Photo(row[0].strip(), int(row[1])) for row in rows)
