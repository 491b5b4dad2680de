"""Photos of the GroceryStoreDataset for products of the same class; everything else stays without one."""

from __future__ import annotations

import csv
import hashlib
import re
from collections import defaultdict
from pathlib import Path

from features.atomic import write_bytes
from features.errors import UsageError
from features.layout import Layout

# Type of product and category of the Complete Journey to classes of the photos, finer ones first. What is cut, dried,
# organic in general or "processed" has no class, nor have packages, whose photos show Swedish brands.
_CLASSES: tuple[tuple[str, str], ...] = (
    (r"APPLES GRANNY", "Granny-Smith"), (r"APPLES RED DEL", "Red-Delicious"), (r"APPLES GOLD DEL", "Golden-Delicious"),
    (r"APPLES GALA", "Royal-Gala"), (r"^APPLES (OTHER|FUJI|BRAEBURN).*, APPLES", "Pink-Lady"),
    (r"^AVOCADO", "Avocado"), (r"^BANANAS", "Banana"), (r"^KIWI", "Kiwi"), (r"^LEMONS", "Lemon"), (r"^LIMES", "Lime"),
    (r"^MANGO", "Mango"), (r"^CANTALOUPE", "Cantaloupe"), (r"^HONEYDEW", "Honeydew-Melon"),
    (r"^WATERMELON", "Watermelon"), (r"^NECTARINES", "Nectarine"), (r"^ORANGES", "Orange"), (r"^PAPAYA", "Papaya"),
    (r"^PEACHES", "Peach"), (r"^PEARS ANJOU", "Anjou"), (r"^PEARS", "Conference"), (r"^PINEAPPLE WHOLE", "Pineapple"),
    (r"^PLUMS", "Plum"), (r"^GRAPEFRUIT", "Red-Grapefruit"), (r"^(CLEMENTINES|TANGERINES)", "Satsumas"),
    (r"^ASPARAGUS", "Asparagus"), (r"^CABBAGE", "Cabbage"), (r"^CARROTS.*, CARROTS", "Carrots"),
    (r"^CUCUMBERS", "Cucumber"), (r"^GARLIC WHOLE", "Garlic"), (r"^MUSHROOMS.*, MUSHROOMS", "Brown-Cap-Mushroom"),
    (r"^ONIONS YELLOW", "Yellow-Onion"), (r"^PEPPERS GREEN", "Green-Bell-Pepper"), (r"^PEPPERS RED", "Red-Bell-Pepper"),
    (r"^PEPPERS OTHER BELL", "Yellow-Bell-Pepper"), (r"^POTATOES SWEET", "Sweet-Potato"),
    (r"^POTATOES RUSSET", "Floury-Potato"), (r"^POTATOES.*, POTATOES", "Solid-Potato"),
    (r"^TOMATOES (HOTHOUSE ON THE )?VINE", "Vine-Tomato"), (r"^TOMATOES.*, TOMATOES", "Regular-Tomato"),
    (r"^SQUASH ZUCCHINI", "Zucchini"),
)  # fmt: skip


class ClassPhotos:
    """Gives products the photos of their class, and keeps what it gives under its content hash.

    Args:
        folder: The GroceryStoreDataset: the folder that holds `dataset/`, or `dataset/` itself.
        layout: Where blobs are kept.

    Raises:
        UsageError: If the folder holds no `classes.csv` with photos beside it.
    """

    def __init__(self, folder: Path, layout: Layout) -> None:
        root = folder / "dataset" if (folder / "dataset").is_dir() else folder
        if not (root / "classes.csv").is_file():
            raise UsageError(
                "no GroceryStoreDataset", field="photos", value=str(folder),
                remedy="name the folder that holds dataset/classes.csv",
            )  # fmt: skip
        self._layout = layout
        self._files = _photos_by_class(root)
        self._kept: dict[Path, str] = {}

    def __call__(self, words: str, product: int) -> str | None:
        """The image URI of a product, always the same one.

        Args:
            words: `<type of product>, <category>`.
            product: The product's number.

        Returns:
            `blob:<sha256>`, or None where no class fits.
        """
        name = class_of(words)
        files = self._files.get(name, []) if name else []
        if not files:
            return None
        pick = hashlib.sha256(str(product).encode()).digest()
        file = files[int.from_bytes(pick[:8], "big") % len(files)]
        if file not in self._kept:
            data = file.read_bytes()
            digest = hashlib.sha256(data).hexdigest()
            blob = self._layout.blob(digest)
            if not blob.exists():
                write_bytes(blob, data)
            self._kept[file] = f"blob:{digest}"
        return self._kept[file]


def class_of(words: str) -> str | None:
    """The photo class of a product.

    Example:
        >>> class_of("BANANAS, TROPICAL FRUIT")
        'Banana'
        >>> class_of("POTATO CHIPS, BAG SNACKS") is None
        True
    """
    return next((name for pattern, name in _CLASSES if re.search(pattern, words)), None)


def _photos_by_class(root: Path) -> dict[str, list[Path]]:
    """Class to its photos in the training and validation folders, sorted; the test folder stays unseen."""
    files = defaultdict(list)
    with (root / "classes.csv").open(newline="", encoding="utf-8") as table:
        known = {row["Class Name (str)"] for row in csv.DictReader(table)}
    for split in ("train", "val"):
        for file in sorted((root / split).rglob("*.jpg")):
            if file.parent.name in known:
                files[file.parent.name].append(file)
    return dict(files)
