"""What is there: products, shops, shoppers. Arrays by slot; a slot whose shopper leaves is filled with a new one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.city import draws
from simulator.city.config import CityConfig
from simulator.city.draws import Floats, Ints
from simulator.city.tables import BRANDS, CATEGORIES, ORIGINS, PACKAGES, WEATHER

STYLE = 4  # dimensions of a brand's style and of the taste for it
DAYPARTS = 4  # night, morning, afternoon, evening


@dataclass
class Goods:
    """Static facts of categories, varieties and products. C categories, V varieties over all, P products."""

    var_start: Ints  # [C] first variety of a category
    var_count: Ints  # [C]
    var_category: Ints  # [V]
    perishable: NDArray[np.bool_]  # [C]
    cycle: Floats  # [C] days
    slow: Floats  # [C] share of slow purchases, mean given by the delays' setting
    goes_with: NDArray[np.bool_]  # [C, C]
    moment: Floats  # [C, DAYPARTS, WEATHER], no main effect in any of the three
    hour: Floats  # [C, DAYPARTS]
    use: Floats  # [C] share of households that use it
    brand_style: Floats  # [B, STYLE]
    origin_style: Floats  # [O, STYLE]
    origin_quality: Floats  # [O]
    product_category: Ints  # [P]
    product_variety: Ints  # [P] among all varieties
    product_brand: Ints  # [P]
    product_package: Ints  # [P]
    product_weight: Ints  # [P] grams
    product_price: Floats  # [P] minor units
    product_quality: Floats  # [P]
    product_sold: Floats  # [P] share of listings, a long tail


@dataclass
class Shops:
    """Shops. S of them."""

    zone: Ints
    x: Floats
    y: Floats
    price_level: Floats
    care: Floats  # 0 careless .. 1 careful
    pace: Floats  # minutes to prepare an order
    standing: Floats
    says_origin: Floats  # share of listings whose text names it
    says_weight: Floats
    says_brand: Floats
    wording: Ints  # word order of titles
    background: Ints  # habit of taking photos
    freshness: Floats  # of what it sells
    size: Floats  # share of listings


@dataclass
class Shoppers:
    """Shoppers by slot. U slots; what is personal hangs on `serial`, which names the shopper."""

    serial: Ints
    zone: Ints
    x: Floats
    y: Floats
    income: Floats  # standard normal
    household: Ints
    age: Ints
    activity: Floats
    peak_hour: Floats
    price_care: Floats
    fresh_care: Floats
    uses: NDArray[np.bool_]  # [U, C]
    cycle: Floats  # [U, C] days a package lasts this household


def goods(config: CityConfig, seed: int) -> Goods:
    """Categories, varieties, brands and products of a seed."""
    rng = draws.generator(seed, "goods")
    categories = CATEGORIES[: config.categories]
    count = len(categories)
    names = [category.name for category in categories]
    var_count = np.array([len(category.varieties) for category in categories])
    var_start = np.concatenate([[0], np.cumsum(var_count)[:-1]])
    goes_with = np.zeros((count, count), dtype=bool)
    for place, category in enumerate(categories):
        for other in category.goes_with:
            if other in names:
                goes_with[place, names.index(other)] = True
    moment = rng.normal(size=(count, DAYPARTS, len(WEATHER)))
    for axis in (1, 2):
        moment -= moment.mean(axis=axis, keepdims=True)
    moment /= moment.std()
    quick = np.array([category.kind == "quick" for category in categories])
    slow = np.where(quick, 0.6, 1.4)
    use = np.clip(0.75 * (np.arange(count) + 1.0) ** -0.35, 0.12, 0.75)
    category_of = np.concatenate([np.arange(count), rng.choice(count, config.products - count, p=use / use.sum())])
    variety = var_start[category_of] + rng.integers(0, 1000, config.products) % var_count[category_of]
    # a brand keeps to a handful of categories
    brand = (category_of * 7 + rng.integers(0, 6, config.products) * 5) % len(BRANDS)
    style = rng.normal(size=(len(BRANDS), STYLE)) / np.sqrt(STYLE)
    package = np.zeros(config.products, dtype=np.int64)
    weight = np.zeros(config.products, dtype=np.int64)
    price = np.zeros(config.products)
    for product, place in enumerate(category_of):
        category = categories[place]
        package[product] = PACKAGES.index(category.packages[rng.integers(len(category.packages))])
        weight[product] = category.weights_g[rng.integers(len(category.weights_g))]
        typical = float(np.median(category.weights_g))
        price[product] = category.price_minor * (weight[product] / typical) ** 0.75 * np.exp(rng.normal(0.0, 0.22))
    return Goods(
        var_start=var_start, var_count=var_count, var_category=np.repeat(np.arange(count), var_count),
        perishable=np.array([category.perishable for category in categories]),
        cycle=np.array([float(category.cycle_days) for category in categories]),
        slow=slow / slow.mean(), goes_with=goes_with, moment=moment,
        hour=rng.normal(0.0, 0.3, size=(count, DAYPARTS)), use=use[rng.permutation(count)],
        brand_style=style, origin_style=rng.normal(size=(len(ORIGINS), STYLE)) / np.sqrt(STYLE),
        origin_quality=rng.normal(0.0, 0.6, len(ORIGINS)),
        product_category=category_of, product_variety=variety, product_brand=brand, product_package=package,
        product_weight=weight, product_price=price, product_quality=rng.normal(size=config.products),
        product_sold=rng.permutation(1.0 / (np.arange(config.products) + 8.0) ** 0.8),
    )  # fmt: skip


def shops(config: CityConfig, seed: int) -> Shops:
    """Shops of a seed; half of them careful, a few careless."""
    rng = draws.generator(seed, "shops")
    count = config.shops
    care = rng.beta(2.2, 1.6, count)
    zone = np.arange(count) % config.zones
    x, y = zone_places(config, seed)
    return Shops(
        zone=zone, x=x[zone] + rng.normal(0, 0.6, count), y=y[zone] + rng.normal(0, 0.6, count),
        price_level=np.exp(rng.normal(0, 0.1, count)), care=care, pace=rng.uniform(8, 30, count),
        standing=rng.normal(size=count), says_origin=rng.uniform(0.6, 0.98, count),
        says_weight=rng.uniform(0.65, 0.98, count), says_brand=rng.uniform(0.6, 1.0, count),
        wording=rng.integers(0, 5, count), background=rng.integers(0, 6, count),
        freshness=rng.normal(0, 0.35, count), size=rng.dirichlet(np.full(count, 3.0)),
    )  # fmt: skip


def zone_places(config: CityConfig, seed: int) -> tuple[Floats, Floats]:
    """Centres of the zones, kilometres."""
    rng = draws.generator(seed, "zones")
    angle = np.linspace(0, 2 * np.pi, config.zones, endpoint=False) + rng.normal(0, 0.15, config.zones)
    return 4.0 * np.cos(angle), 4.0 * np.sin(angle)


def new_shoppers(config: CityConfig, seed: int, serials: Ints, stock: Goods) -> Shoppers:
    """Shoppers by their serial numbers; whoever else exists does not change them."""
    count = len(serials)
    rng = draws.generator(seed, "shoppers", int(serials[0]) if count else 0, count)
    zone = rng.integers(0, config.zones, count)
    x, y = zone_places(config, seed)
    household = rng.choice([1, 2, 3, 4, 5], count, p=[0.27, 0.31, 0.18, 0.17, 0.07])
    income = rng.normal(size=count)
    age = rng.integers(0, 4, count)
    # households lean to some goods together: two hidden tastes move all uses
    lean = rng.normal(size=(count, 3)) @ draws.generator(seed, "lean").normal(0, 0.55, size=(3, len(stock.use)))
    odds = np.log(stock.use / (1 - stock.use))[None, :] - 0.75 + lean + 0.2 * (household[:, None] - 2)
    cycle = stock.cycle[None, :] * np.exp(rng.normal(0, 0.25, (count, len(stock.use))))
    return Shoppers(
        serial=serials, zone=zone, x=x[zone] + rng.normal(0, 1.1, count), y=y[zone] + rng.normal(0, 1.1, count),
        income=income, household=household, age=age,
        activity=rng.gamma(2.0, 0.5, count),
        peak_hour=rng.choice([8.5, 12.5, 18.0, 20.5], count, p=[0.2, 0.2, 0.4, 0.2]),
        price_care=np.exp(-0.4 * income + rng.normal(0, 0.25, count)).clip(0.2, 4.0),
        fresh_care=np.exp(0.65 * income + 0.5 * (age - 1.5) + rng.normal(0, 0.3, count)).clip(0.05, 4.0) / 1.5,
        uses=rng.random((count, len(stock.use))) < 1 / (1 + np.exp(-odds)),
        cycle=cycle * (2.0 / (household[:, None] + 0.6)) ** 0.5,
    )  # fmt: skip
