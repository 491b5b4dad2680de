"""What a photo shows, and where rendered photos are kept."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PhotoSpec:
    """Everything a photo is made from.

    Args:
        form: Shape of the goods (tables.Category).
        category: Category.
        variety: Variety.
        colour: The variety's colour, #rrggbb.
        brand: Brand name on the label.
        brand_colour: The label's colour.
        package: Kind of package.
        freshness: 0 spoilt .. 1 fresh; None for goods that do not perish.
        dirt: '' or the kind of dirty photo.
        background: The shop's habit.
        care: The shop's care, 0 .. 1.
        seed: Of everything that is chance in it.
        px: Side, pixels.
    """

    form: str
    category: str
    variety: str
    colour: str
    brand: str
    brand_colour: str
    package: str
    freshness: float | None
    dirt: str
    background: int
    care: float
    seed: int
    px: int
