"""Live listings by slot: what they are, what they show, and how they are dirty.

A listing has a fixed slot while it lives; its successor takes the slot, so that memory does not grow with the days.
All that belongs to one listing is drawn from its serial number alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from simulator.city import draws, wording
from simulator.city.config import CityConfig
from simulator.city.draws import Floats, Ints
from simulator.city.photo import PhotoSpec
from simulator.city.tables import BRANDS, CATEGORIES, ORIGINS, PACKAGES
from simulator.city.world import Goods, Shops

LIQUID = ("milk", "cream", "oil", "juice", "water", "beer", "icecream", "detergent")
UNKNOWN_FRESHNESS = 0.5  # what a shopper supposes of goods whose freshness the listing does not show


@dataclass
class Listings:
    """Listings by slot, L of them. `shown_*` is what text or photo shows; −1 (freshness: nan) where it does not."""

    serial: Ints
    created_us: Ints
    product: Ints
    shop: Ints
    category: Ints
    variety: Ints
    brand: Ints
    package: Ints
    weight: Ints
    origin: Ints
    freshness: Floats  # nan for goods that do not perish
    base_price: Floats
    price: Ints
    promoted: NDArray[np.bool_]
    declared: Ints  # the category that the listing's field names
    text_category: Ints
    text_variety: Ints
    text_origin: Ints
    text_weight: Ints
    text_brand: Ints
    photo_category: Ints
    photo_variety: Ints
    photo_package: Ints
    photo_freshness: Floats
    mismatch: Floats  # 0 .. 1: how far title and photo disagree
    poor_text: Floats
    poor_photo: Floats
    dirt_text: list[str] = field(default_factory=list)  # '' where clean
    dirt_photo: list[str] = field(default_factory=list)
    title: list[str] = field(default_factory=list)
    description: list[str] = field(default_factory=list)
    photo: list[PhotoSpec | None] = field(default_factory=list)
    image_uri: list[str | None] = field(default_factory=list)

    @classmethod
    def empty(cls, count: int) -> Listings:
        """As many slots without listings."""
        values: dict[str, object] = {}
        for name, kind in cls.__annotations__.items():
            text = str(kind)
            if text.startswith("list"):
                values[name] = [None if "None" in text else ""] * count
            else:
                dtype: type = np.float64 if text == "Floats" else np.bool_ if "bool" in text else np.int64
                values[name] = np.zeros(count, dtype=dtype)
        return cls(**values)  # type: ignore[arg-type]

    def item_id(self, slot: int) -> str:
        """The listing's public name, which tells nothing of the product."""
        return f"item{self.serial[slot]:08d}"


def fill(
    listings: Listings, slots: Ints, first_serial: int, created_us: Ints,
    config: CityConfig, seed: int, goods: Goods, shops: Shops,
) -> None:  # fmt: skip
    """New listings in these slots, numbered upwards from `first_serial`."""
    sold = goods.product_sold / goods.product_sold.sum()
    for offset, slot in enumerate(slots.tolist()):
        serial = first_serial + offset
        rng = draws.generator(seed, "listing", serial)
        shop = int(np.searchsorted(np.cumsum(shops.size), rng.random()).clip(0, config.shops - 1))
        product = int(np.searchsorted(np.cumsum(sold), rng.random()).clip(0, config.products - 1))
        _facts(listings, slot, product, shop, rng, goods, shops)
        listings.serial[slot] = serial
        listings.created_us[slot] = created_us[offset]
        kinds = _dirt(config, float(shops.care[shop]), rng)
        listings.dirt_text[slot], listings.dirt_photo[slot] = kinds
        _text(listings, slot, kinds[0], rng, config, goods, shops)
        _photo(listings, slot, kinds[1], rng, config, goods, shops)
        _disagreement(listings, slot)
        listings.promoted[slot] = rng.random() < config.promoted
        reprice(listings, slot)


def reprice(listings: Listings, slot: int) -> None:
    """The price in cents, a promotion taking a fifth off."""
    price = listings.base_price[slot] * (0.8 if listings.promoted[slot] else 1.0)
    listings.price[slot] = max(10, 10 * round(price / 10) - 1)


def _facts(
    listings: Listings, slot: int, product: int, shop: int, rng: np.random.Generator, goods: Goods, shops: Shops
) -> None:
    category = int(goods.product_category[product])
    listings.product[slot], listings.shop[slot], listings.category[slot] = product, shop, category
    listings.variety[slot] = goods.product_variety[product]
    listings.brand[slot] = goods.product_brand[product]
    listings.package[slot] = goods.product_package[product]
    listings.weight[slot] = goods.product_weight[product]
    listings.origin[slot] = (category * 3 + int(rng.integers(0, 6))) % len(ORIGINS)
    raw = 1 / (1 + np.exp(-(0.35 + shops.freshness[shop] + rng.normal(0, 1.5))))
    listings.freshness[slot] = raw if goods.perishable[category] else np.nan
    level = float(shops.price_level[shop]) * float(np.exp(rng.normal(0, 0.12)))
    listings.base_price[slot] = goods.product_price[product] * level


def _dirt(config: CityConfig, care: float, rng: np.random.Generator) -> tuple[str, str]:
    """Kinds of dirt in text and photo; the mean rate over shops is the setting's."""
    dirt = config.dirt
    rate = dirt.rate * (1.0 - care) / (1.0 - 2.2 / 3.8)  # 2.2 / 3.8: the mean care (world.shops)
    if rng.random() >= min(rate, 0.9):
        return "", ""
    names, weights = zip(*dirt.text, strict=True)
    text = str(rng.choice(names, p=np.array(weights) / sum(weights)))
    names, weights = zip(*dirt.photo, strict=True)
    photo = str(rng.choice(names, p=np.array(weights) / sum(weights)))
    both, where = rng.random() < dirt.both, rng.random()
    if both:
        return text, photo
    return (text, "") if where < dirt.text_share else ("", photo)


def _other_product(product: int, rng: np.random.Generator, goods: Goods) -> int:
    """Another product, of another variety; of the same category in three of ten mistakes where it has one."""
    category = goods.product_category[product]
    same = (goods.product_category == category) & (goods.product_variety != goods.product_variety[product])
    pool = same if rng.random() < 0.3 and same.any() else goods.product_category != category
    return int(rng.choice(np.flatnonzero(pool)))


def _text(
    listings: Listings, slot: int, dirt: str, rng: np.random.Generator, config: CityConfig, goods: Goods, shops: Shops
) -> None:
    product, shop = int(listings.product[slot]), int(listings.shop[slot])
    about = _other_product(product, rng, goods) if dirt == "wrong_title" else product
    category = CATEGORIES[goods.product_category[about]]
    variety = int(goods.product_variety[about])
    says_brand = rng.random() < shops.says_brand[shop]
    says_weight = rng.random() < shops.says_weight[shop]
    says_origin = rng.random() < shops.says_origin[shop]
    weight, origin = int(goods.product_weight[about]), int(listings.origin[slot])
    words = wording.Wording(
        category.noun, category.varieties[variety - int(goods.var_start[goods.product_category[about]])][0],
        BRANDS[goods.product_brand[about]][0] if says_brand else None,
        weight if says_weight else None, ORIGINS[origin] if says_origin else None, int(shops.wording[shop]),
    )  # fmt: skip
    title, description = wording.clean(words, category.name in LIQUID, rng)
    listings.declared[slot] = listings.category[slot]
    listings.text_category[slot], listings.text_variety[slot] = goods.product_category[about], variety
    listings.text_brand[slot] = goods.product_brand[about] if says_brand else -1
    listings.text_weight[slot] = weight if says_weight else -1
    listings.text_origin[slot] = origin if says_origin else -1
    listings.poor_text[slot] = 0.0
    if dirt in ("vague", "truncated"):
        cut = wording.vague(rng) if dirt == "vague" else wording.truncated(title, rng)
        title, description = cut
        listings.text_category[slot] = listings.text_category[slot] if dirt == "truncated" else -1
        for column in (listings.text_variety, listings.text_brand, listings.text_weight, listings.text_origin):
            column[slot] = -1
        listings.poor_text[slot] = 1.0 if dirt == "vague" else 0.8
    elif dirt == "misspelt":
        title, description = wording.misspelt(title, rng), wording.misspelt(description, rng)
        listings.poor_text[slot] = 0.6
    elif dirt == "wrong_category":
        others = np.setdiff1d(np.arange(config.categories), [listings.category[slot]])
        listings.declared[slot] = int(rng.choice(others))
    listings.title[slot], listings.description[slot] = title, description


def _photo(
    listings: Listings, slot: int, dirt: str, rng: np.random.Generator, config: CityConfig, goods: Goods, shops: Shops
) -> None:
    product = int(listings.product[slot])
    about = _other_product(product, rng, goods) if dirt == "wrong_photo" else product
    category_index, variety = int(goods.product_category[about]), int(goods.product_variety[about])
    category = CATEGORIES[category_index]
    freshness = float(listings.freshness[slot])
    if dirt == "wrong_photo":  # the other goods are of their own freshness, which is what shoppers see
        freshness = float(rng.random()) if category.perishable else np.nan
    name, colour = category.varieties[variety - int(goods.var_start[category_index])]
    brand = BRANDS[goods.product_brand[about]]
    package = int(goods.product_package[about])
    shop = int(listings.shop[slot])
    listings.photo[slot] = PhotoSpec(
        form=category.form, category=category.name, variety=name, colour=colour, brand=brand[0], brand_colour=brand[1],
        package=PACKAGES[package], freshness=None if np.isnan(freshness) else round(freshness, 3),
        dirt=dirt, background=int(shops.background[shop]), care=round(float(shops.care[shop]), 3),
        seed=int(rng.integers(1 << 31)), px=config.photo_px,
    ) if dirt != "missing" else None  # fmt: skip
    listings.image_uri[slot] = None
    missing = dirt == "missing"
    listings.photo_category[slot] = -1 if missing else category_index
    listings.photo_variety[slot] = -1 if missing else variety
    listings.photo_package[slot] = -1 if missing else package
    shown = {"missing": np.nan, "stock": np.nan, "blurred": 0.4 * freshness + 0.6 * UNKNOWN_FRESHNESS}
    shown["dark"] = 0.5 * freshness + 0.5 * UNKNOWN_FRESHNESS
    listings.photo_freshness[slot] = shown.get(dirt, freshness)
    listings.poor_photo[slot] = {"missing": 1.0, "stock": 0.35, "blurred": 0.7, "dark": 0.7}.get(dirt, 0.0)


def _disagreement(listings: Listings, slot: int) -> None:
    text, photo = int(listings.text_category[slot]), int(listings.photo_category[slot])
    mismatch = 0.0
    if text >= 0 and photo >= 0:
        if text != photo:
            mismatch = 1.0
        elif listings.text_variety[slot] not in (-1, listings.photo_variety[slot]):
            mismatch = 0.6
    if listings.declared[slot] != listings.category[slot]:
        mismatch = max(mismatch, 0.3)
    listings.mismatch[slot] = mismatch
