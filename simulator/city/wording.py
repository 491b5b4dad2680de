"""Titles and descriptions, by each shop's habit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_MARKETING = ("best price", "top quality", "new", "super tasty", "family favourite", "limited offer", "as always good")
_ORDERS = (
    "{brand} {variety} {noun} {weight}",
    "{variety} {noun}, {weight}, {brand}",
    "{noun} {variety} {brand} {weight}",
    "{marketing}! {variety} {noun} {weight}",
    "{noun} - {variety} ({brand}) {weight}",
)
_OPENINGS = (
    "{Variety} {noun} for every day.",
    "Our {noun}: {variety}.",
    "{Variety} {noun}, carefully packed.",
    "Tasty {variety} {noun}.",
    "{noun} ({variety}), ready to enjoy.",
)
_ORIGINS = ("From {origin}.", "Origin: {origin}.", "Produce of {origin}.", "Comes from {origin}.")
_WEIGHTS = ("Net weight {weight}.", "Pack of {weight}.", "Contents: {weight}.")
_CLOSINGS = ("Store in a cool place.", "Delivered to your door.", "Ask us for more.", "Thank you for buying local.", "")
_VAGUE = (
    "Good item",
    "Fresh food, great deal",
    "Special offer",
    "Daily essentials",
    "Product as pictured",
    "See photo",
)


@dataclass(frozen=True)
class Wording:
    """What a text is about and which of it is said; None is not said."""

    noun: str
    variety: str
    brand: str | None
    weight_g: int | None
    origin: str | None
    order: int


def weight_text(weight_g: int, liquid: bool) -> str:
    """A weight as labels print it.

    Example:
        >>> weight_text(1500, liquid=False), weight_text(330, liquid=True)
        ('1.5 kg', '330 ml')
    """
    unit, thousand = ("ml", "l") if liquid else ("g", "kg")
    return f"{weight_g / 1000:g} {thousand}" if weight_g >= 1000 else f"{weight_g} {unit}"


def clean(words: Wording, liquid: bool, rng: np.random.Generator) -> tuple[str, str]:
    """Title and description."""
    weight = weight_text(words.weight_g, liquid) if words.weight_g else ""
    values = {
        "noun": words.noun,
        "variety": words.variety,
        "Variety": words.variety[:1].upper() + words.variety[1:],
        "brand": words.brand or "",
        "weight": weight,
        "origin": words.origin or "",
        "marketing": str(rng.choice(_MARKETING)),
    }
    in_title = bool(weight) and rng.random() < 0.6
    title = _tidy(_ORDERS[words.order % len(_ORDERS)].format(**(values if in_title else values | {"weight": ""})))
    parts = [str(rng.choice(_OPENINGS))]
    if words.origin:
        parts.append(str(rng.choice(_ORIGINS)))
    if weight and not in_title:
        parts.append(str(rng.choice(_WEIGHTS)))
    parts.append(str(rng.choice(_CLOSINGS)))
    description = " ".join(part for part in parts if part).format(**values)
    return title[:1].upper() + title[1:], description[:1].upper() + description[1:]


def vague(rng: np.random.Generator) -> tuple[str, str]:
    """A text that says nothing."""
    return str(rng.choice(_VAGUE)), str(rng.choice(["", "Great quality.", "Order now.", "While stocks last."]))


def truncated(title: str, rng: np.random.Generator) -> tuple[str, str]:
    """The first letters of a title, and no description."""
    return title[: max(3, int(len(title) * rng.uniform(0.25, 0.5)))].rstrip() + "…", ""


def misspelt(text: str, rng: np.random.Generator) -> str:
    """Letters swapped, dropped or doubled in about every second word."""
    words = []
    for word in text.split(" "):
        letters = list(word)
        if len(letters) > 3 and rng.random() < 0.65:
            place = int(rng.integers(1, len(letters) - 1))
            what = int(rng.integers(3))
            if what == 0:
                letters[place - 1], letters[place] = letters[place], letters[place - 1]
            elif what == 1:
                del letters[place]
            else:
                letters.insert(place, letters[place])
        words.append("".join(letters))
    return " ".join(words)


def _tidy(text: str) -> str:
    text = " ".join(text.split()).replace("()", "").replace(" ,", ",").strip(" ,-!")
    return " ".join(text.replace(", ,", ",").replace(",,", ",").split())
