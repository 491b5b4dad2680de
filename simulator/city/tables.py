# ruff: noqa: E501  (a table reads better in long lines)
"""What the city sells: categories with their varieties, rhythms, packages and looks; brands; origins; weather."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Category:
    """A category of goods.

    Args:
        name: Its id.
        noun: What a title calls it.
        form: How it is drawn.
        cycle_days: How long a package lasts a middling household.
        price_minor: Middling price.
        weights_g: Weights it comes in.
        packages: Packages it comes in.
        varieties: Names and colours.
        perishable: Whether freshness shows and matters.
        kind: `quick` goods are bought at once, `planned` ones later.
        goes_with: What is wanted after it was bought.
    """

    name: str
    noun: str
    form: str
    cycle_days: int
    price_minor: int
    weights_g: tuple[int, ...]
    packages: tuple[str, ...]
    varieties: tuple[tuple[str, str], ...]
    perishable: bool
    kind: str
    goes_with: tuple[str, ...] = ()


def _row(
    name: str, noun: str, form: str, cycle: int, price: int, weights: str, packages: str, varieties: str, flags: str = "",
    goes_with: str = "",
) -> Category:  # fmt: skip
    pairs = tuple((part.split("#")[0].strip(), "#" + part.split("#")[1].strip()) for part in varieties.split(","))
    return Category(
        name, noun, form, cycle, price, tuple(int(weight) for weight in weights.split()), tuple(packages.split()),
        pairs, "p" in flags, "quick" if "q" in flags else "planned", tuple(goes_with.split()),
    )  # fmt: skip


CATEGORIES: tuple[Category, ...] = (
    _row("milk", "milk", "carton", 3, 139, "500 1000 1500", "carton bottle pouch", "whole #2f6fb5, semi-skimmed #58a55c, skimmed #d98b9c, oat #c9a46a, lactose-free #8f7bc0", "q", "cereal"),
    _row("bread", "bread", "loaf", 3, 289, "400 500 750", "bag paper loose", "white #e6c58c, rye #8a5a34, sourdough #c08a4e, wholegrain #a06f3f, seeded #b58a55", "pq", "butter cheese"),
    _row("bananas", "bananas", "long", 3, 179, "500 1000", "loose bag tray", "Cavendish #f2d23c, baby #f6e06a, red #b5563f, plantain #8fae3d", "pq", "yogurt"),
    _row("apples", "apples", "round", 7, 299, "500 1000 2000", "loose bag tray net", "Gala #d9503f, Fuji #c8344a, Granny Smith #8dbb3a, Golden #e3c84a, Pink Lady #e0707f", "p"),
    _row("tomatoes", "tomatoes", "round", 3, 249, "250 500 1000", "loose tray bag", "vine #d63a2e, cherry #e8452f, plum #b9342c, beefsteak #e06a52, yellow #efc23c", "pq", "cheese herbs"),
    _row("salad", "lettuce", "leaf", 3, 199, "150 250 400", "loose bag tray", "iceberg #a9cf6b, romaine #6fae45, lollo rosso #8a3f52, rocket #4f9140, lamb's #3f7d3a", "pq", "tomatoes"),
    _row("herbs", "herbs", "leaf", 7, 149, "20 40 80", "loose bag pot", "basil #4da03f, parsley #3b8f46, coriander #6dbb4c, mint #57b98a, dill #88b85a", "p"),
    _row("cucumbers", "cucumbers", "long", 3, 119, "300 600", "loose net tray", "English #3f7f3f, mini #5ba04a, pickling #7da04f", "pq"),
    _row("carrots", "carrots", "long", 7, 129, "500 1000", "loose bag tray", "orange #ec8a2b, purple #7a4670, yellow #ecc14a, baby #f29a46", "p"),
    _row("potatoes", "potatoes", "round", 14, 249, "1000 2000 3000", "bag net loose", "waxy #d9b873, floury #c39a5a, red #b3544a, new #e8d09a, sweet #c8743f", "p"),
    _row("onions", "onions", "round", 14, 149, "500 1000 2000", "net bag loose", "brown #c58a3f, red #8e3a5c, white #efe9d8, shallot #c98f77", "p"),
    _row("peppers", "peppers", "round", 7, 259, "300 500", "loose bag tray", "red #cf2f2a, green #4a9a3a, yellow #f0c02f, orange #ef8a2a", "p"),
    _row("mushrooms", "mushrooms", "round", 7, 219, "200 400", "tray bag loose", "button #ece4d4, chestnut #a8774f, oyster #cfc4b2, shiitake #7d5638", "p"),
    _row("berries", "berries", "cluster", 3, 349, "125 250 500", "tray tub bag", "strawberry #dc2f3f, blueberry #3f4f8f, raspberry #d8456f, blackberry #3a2a4a", "pq", "yogurt cream"),
    _row("grapes", "grapes", "cluster", 7, 329, "500 1000", "tray bag loose", "green #b3cc5a, red #8f3450, black #3c2a4c", "p"),
    _row("citrus", "oranges", "round", 7, 279, "1000 2000", "net loose bag", "navel #f2922b, blood #d9542f, mandarin #f5a23a, lemon #f4dc45, grapefruit #f0a98a", "p"),
    _row("avocados", "avocados", "round", 7, 299, "200 400", "loose net tray", "Hass #3d4a35, Fuerte #5f8a45, green skin #7ba653", "p", "bread"),
    _row("chicken", "chicken", "slab", 7, 649, "300 500 1000", "tray bag paper", "breast #f1c2b0, thigh #dc9a86, wings #e6b08c, minced #e8a99a", "p", "salad"),
    _row("beef", "beef", "slab", 7, 899, "250 500 800", "tray paper bag", "steak #a82f35, minced #b8484a, stew #8f2c2f, ribs #9c3f3c", "p", "potatoes"),
    _row("fish", "fish", "slab", 7, 949, "200 400 600", "tray paper bag", "salmon #f08a62, cod #efe6da, trout #e0a58a, tuna #b8434a", "p", "citrus herbs"),
    _row("ham", "ham", "slab", 7, 299, "100 150 250", "tray bag paper", "cooked #eaa9a4, smoked #cf7f78, Serrano #a5423f, turkey #f0d0bd", "p", "bread"),
    _row("cheese", "cheese", "slab", 7, 399, "150 250 500", "tray bag paper", "gouda #efc14f, brie #f3ead0, cheddar #eb9a3a, feta #f7f4ec, blue #cfd4c8", "p"),
    _row("yogurt", "yogurt", "tub", 7, 189, "150 500 1000", "tub jar bottle", "natural #f4f4f0, strawberry #f0a0b0, peach #f6c48a, vanilla #f3e2a5, Greek #dfe9f5", "q"),
    _row("butter", "butter", "bar", 14, 279, "125 250 500", "box tub paper", "salted #f0d264, unsalted #f6e6a0, spreadable #ecc85a", ""),
    _row("eggs", "eggs", "egg", 7, 329, "300 600 900", "box tray net", "free range #d9a679, barn #e8c6a0, white #f4efe6, quail #cabfa5", "q", "ham"),
    _row("cream", "cream", "tub", 14, 169, "200 500", "tub bottle carton", "single #f6efdc, double #f0e2bd, sour #e6eee6, whipped #fbf7ef", ""),
    _row("cereal", "cereal", "box", 14, 349, "300 500 750", "box bag tub", "muesli #c79a5c, corn flakes #eab54a, chocolate #6f4630, granola #b5803f, oats #d8c09a", "", "milk"),
    _row("pasta", "pasta", "bag", 14, 159, "500 1000", "bag box paper", "spaghetti #edcf7c, penne #e5bf62, fusilli #e9c97a, tagliatelle #e0b455, wholewheat #a87a48", "", "sauce cheese"),
    _row("rice", "rice", "bag", 28, 279, "500 1000 2000", "bag box paper", "basmati #f2ecd9, jasmine #f7f3ea, brown #b28a5a, risotto #ece0c2", ""),
    _row("sauce", "sauce", "jar", 14, 229, "200 350 500", "jar can pouch", "tomato #c9352b, pesto #5d8a3a, curry #d99a2b, mushroom #8a6a4c, arrabbiata #e0502a", "", "pasta"),
    _row("oil", "oil", "bottle", 28, 599, "500 750 1000", "bottle can", "olive #9aa83a, sunflower #f0cf3f, rapeseed #e6b82f, sesame #a5702f", ""),
    _row("coffee", "coffee", "bag", 14, 549, "250 500 1000", "bag jar can box", "espresso #3b2418, filter #6b4428, decaf #4f6b4a, instant #8a5a30", "", "milk biscuits"),
    _row("tea", "tea", "box", 28, 299, "50 100 200", "box bag can", "black #5a2f20, green #7fa650, camomile #eed46a, peppermint #4fae8a, rooibos #a8432a", "", "biscuits"),
    _row("juice", "juice", "carton", 7, 229, "500 1000 2000", "carton bottle can", "orange #f39a2a, apple #c9c04a, grape #6a3a6f, tomato #cf3f2f, multivitamin #f0b63a", "q"),
    _row("water", "water", "bottle", 7, 89, "500 1500 6000", "bottle can carton", "still #8fc7ea, sparkling #4f9fd8, lemon #d9e06a", ""),
    _row("beer", "beer", "bottle", 14, 179, "330 500 2000", "bottle can box", "lager #e3b23a, wheat #eccb6a, stout #2f1d14, alcohol-free #8fbcd0, pale ale #cf8a2f", "q", "crisps"),
    _row("crisps", "crisps", "bag", 7, 199, "100 175 300", "bag tub box", "salted #f0c63a, paprika #d8452f, cheese #ef9a2a, vinegar #3f8fae, sour cream #6fae5a", "q"),
    _row("icecream", "ice cream", "tub", 14, 449, "450 900", "tub box", "vanilla #f4e6b0, chocolate #5f3a26, strawberry #ef8fa0, pistachio #a9c77a, mango #f6b545", "q"),
    _row("biscuits", "biscuits", "box", 14, 229, "150 300 500", "box bag tub", "butter #e2b566, chocolate #5a3420, oat #c79a60, wafer #efd29a", ""),
    _row("detergent", "detergent", "bottle", 28, 699, "1000 2000 3000", "bottle box pouch", "colour #d84f9a, white #e9f1fb, sensitive #9fd0c4, wool #b89ad8", ""),
)  # fmt: skip

BRANDS: tuple[tuple[str, str], ...] = (
    ("Alder", "#2e6f40"), ("Bramble", "#7b2d43"), ("Corvo", "#22304f"), ("Dunefield", "#c98b2b"),
    ("Elmstead", "#4f7942"), ("Fairlight", "#3f8fc0"), ("Garrow", "#8a3324"), ("Hollin", "#556b2f"),
    ("Ivory Lane", "#b8a88a"), ("Juniper", "#3c6e71"), ("Kestrel", "#a14a2a"), ("Lindenhof", "#6b8e23"),
    ("Marlow", "#5b3a8c"), ("Northgate", "#1f4e79"), ("Oakhurst", "#7f5539"), ("Pebble", "#708090"),
    ("Quill", "#9b2335"), ("Rowan", "#b5533c"), ("Saltmarsh", "#2f8f83"), ("Thornby", "#404040"),
    ("Umber", "#8b5a2b"), ("Vale", "#5f9e6e"), ("Westray", "#255d83"), ("Yarrow", "#c2a83e"),
    ("Amberley", "#d08c2f"), ("Birchwood", "#8fa37e"), ("Castellan", "#6d2e46"), ("Dovecote", "#8c9fb5"),
    ("Everglow", "#e07a3f"), ("Fennimore", "#3d5a40"), ("Goldcrest", "#c9a227"), ("Harrowgate", "#54428e"),
)  # fmt: skip
ORIGINS = ("Spain", "Italy", "Netherlands", "Morocco", "Poland", "local farms", "France", "Kenya", "Denmark", "Turkey")
PACKAGES = ("loose", "bag", "tray", "net", "paper", "box", "bottle", "can", "carton", "jar", "tub", "pouch", "pot")
WEATHER = ("sunny", "cloudy", "rain", "cold")
AGE_BANDS = ("18-29", "30-44", "45-59", "60+")
INCOME_BANDS = ("low", "middle", "high")
