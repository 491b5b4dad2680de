"""Photos of listings: goods in their package, before the shop's background, with all that photos suffer from."""

from __future__ import annotations

import io
import math
from random import Random

from PIL import Image, ImageChops, ImageDraw, ImageEnhance, ImageFilter

from simulator.city.photo import PhotoSpec
from simulator.city.shapes import Brush, Colour, blend, darker, emblem, lighter, produce, rgb
from simulator.city.tables import CATEGORIES

_PERISHABLE = {category.name for category in CATEGORIES if category.perishable}
_INDEX = {category.name: place for place, category in enumerate(CATEGORIES)}
# the body of a packaged good: its middle tone, so that categories differ in more than their sign
_BODY: dict[str, Colour] = {
    "milk": (244, 246, 250), "yogurt": (250, 250, 252), "butter": (248, 240, 200), "eggs": (196, 190, 178),
    "cream": (250, 246, 236), "cereal": (236, 190, 96), "pasta": (70, 110, 180), "rice": (246, 244, 236),
    "sauce": (150, 40, 30), "oil": (210, 200, 80), "coffee": (56, 40, 32), "tea": (40, 96, 70),
    "juice": (255, 214, 120), "water": (190, 224, 244), "beer": (110, 70, 30), "crisps": (230, 70, 50),
    "icecream": (236, 210, 224), "biscuits": (200, 140, 80), "detergent": (90, 150, 220),
}  # fmt: skip


def jpeg(spec: PhotoSpec) -> bytes:
    """The photo as JPEG; the same spec gives the same bytes."""
    out = io.BytesIO()
    paint(spec).save(out, "JPEG", quality=84)
    return out.getvalue()


def paint(spec: PhotoSpec) -> Image.Image:
    """The photo, RGB, `spec.px` a side."""
    rng = Random(spec.seed)
    side = 2 * spec.px  # drawn at twice the size for smooth edges
    stock = spec.dirt == "stock"
    image = _background(spec, side, rng) if not stock else Image.new("RGB", (side, side), (255, 255, 255))
    goods = _goods(spec, side, Random(spec.seed + 1), stock)
    sloppy = 1.0 - spec.care
    if not stock:
        goods = goods.rotate(rng.gauss(0, 5 + 9 * sloppy), Image.Resampling.BILINEAR)
    zoom = rng.uniform(0.86, 1.0 + 0.22 * sloppy) if not stock else 0.9
    size = round(side * zoom)
    goods = goods.resize((size, size), Image.Resampling.BILINEAR)
    shift = 0.0 if stock else side * (0.02 + 0.06 * sloppy)
    at = (
        round((side - size) / 2 + rng.uniform(-shift, shift)),
        round((side - size) / 2 + rng.uniform(-shift, shift)),
    )
    if not stock:
        shadow = goods.getchannel("A").point(lambda value: value * 90 // 255).filter(ImageFilter.BoxBlur(side // 40))
        image.paste((20, 18, 16), (at[0] + side // 60, at[1] + side // 30), shadow)
    image.paste(goods, at, goods)
    if not stock and rng.random() < 0.25:
        _price_tag(image, side, rng)
    image = image.resize((spec.px, spec.px), Image.Resampling.BOX)
    return _light(image, spec, rng) if not stock else _watermark(image)


def _background(spec: PhotoSpec, side: int, rng: Random) -> Image.Image:
    tint = rng.randint(-12, 12)
    kind = spec.background if rng.random() < 0.8 else rng.randrange(6)
    base: Colour = ((238, 238, 236), (168, 122, 80), (186, 190, 196), (214, 226, 214), (226, 218, 206), (92, 94, 100))[
        kind
    ]
    base = (base[0] + tint, base[1] + tint // 2, base[2])
    image = Image.new("RGB", (side, side), base)
    draw = ImageDraw.Draw(image)
    if kind == 1:  # planks
        for plank in range(6):
            top = plank * side // 6 + rng.randint(-4, 4)
            draw.rectangle((0, top, side, top + side // 6), fill=darker(base, rng.uniform(0, 0.16)))
            draw.line((0, top, side, top), fill=darker(base, 0.4), width=3)
    elif kind == 4:  # tiles above a counter
        for line in range(0, side, side // 6):
            draw.line((line, 0, line, side * 6 // 10), fill=darker(base, 0.16), width=3)
            draw.line((0, min(line, side * 6 // 10), side, min(line, side * 6 // 10)), fill=darker(base, 0.16), width=3)
        draw.rectangle((0, side * 6 // 10, side, side), fill=darker(base, 0.22))
    elif kind == 5:  # a shelf
        draw.rectangle((0, side * 78 // 100, side, side), fill=lighter(base, 0.22))
        draw.rectangle((0, side * 76 // 100, side, side * 79 // 100), fill=darker(base, 0.35))
    else:
        draw.rectangle((0, side * 62 // 100, side, side), fill=darker(base, 0.07))
    return image


def _goods(spec: PhotoSpec, side: int, rng: Random, stock: bool) -> Image.Image:
    brush = Brush(side, rng)
    wear = 0.0 if spec.freshness is None or stock else 1.0 - spec.freshness
    if spec.category in _PERISHABLE:
        _fresh(brush, spec, wear)
    else:
        _packed(brush, spec)
    return brush.image


def _fresh(brush: Brush, spec: PhotoSpec, wear: float) -> None:
    """Perishable goods, loose or in a package that shows them."""
    colour, label, package = rgb(spec.colour), rgb(spec.brand_colour), spec.package
    if package in ("tray", "tub"):
        brush.box(0.1, 0.3, 0.9, 0.86, darker(label, 0.1), 0.06)
        brush.box(0.14, 0.34, 0.86, 0.82, lighter(label, 0.65), 0.05)
    elif package == "paper":
        brush.shape([(0.06, 0.3), (0.92, 0.22), (0.95, 0.86), (0.1, 0.92)], (206, 178, 136))
    elif package == "pot":
        brush.shape([(0.28, 0.62), (0.72, 0.62), (0.66, 0.95), (0.34, 0.95)], (176, 98, 62))
    big = spec.form in ("leaf", "slab", "loaf", "cluster", "long")
    if big:
        places = [(0.5, 0.5 if package == "pot" else 0.55, 0.3)]
    else:
        places = [(0.34, 0.46, 0.155), (0.64, 0.44, 0.16), (0.3, 0.68, 0.155), (0.51, 0.63, 0.165), (0.7, 0.68, 0.155)]
    for x, y, r in places:
        jitter = brush.rng.uniform(-0.015, 0.015)
        own = min(1.0, max(0.0, wear + brush.rng.uniform(-0.08, 0.08)))
        produce(brush, spec.form, spec.category, x + jitter, y - jitter, r, colour, own)
    if package == "net":
        for step in range(-10, 24):
            start = step / 14
            brush.line([(start, 0.22), (start + 0.6, 0.92)], label, 0.006, 190)
            brush.line([(start, 0.92), (start + 0.6, 0.22)], label, 0.006, 190)
        mask = Image.new("L", brush.image.size, 0)
        s = brush.side
        ImageDraw.Draw(mask).ellipse((0.08 * s, 0.2 * s, 0.92 * s, 0.94 * s), fill=255)
        brush.image.putalpha(ImageChops.multiply(brush.image.getchannel("A"), mask))
        brush.draw = ImageDraw.Draw(brush.image)
    elif package == "bag":
        film = Image.new("RGBA", brush.image.size, (0, 0, 0, 0))
        pen, s = ImageDraw.Draw(film), brush.side
        pen.rounded_rectangle((0.1 * s, 0.2 * s, 0.9 * s, 0.93 * s), 0.08 * s, fill=(235, 242, 250, 52),
                              outline=(210, 220, 232, 200), width=max(2, s // 90))  # fmt: skip
        for stripe in (0.2, 0.3, 0.74):
            pen.line((stripe * s, 0.26 * s, (stripe + 0.06) * s, 0.88 * s), fill=(255, 255, 255, 95), width=s // 45)
        pen.polygon(
            [(0.36 * s, 0.2 * s), (0.64 * s, 0.2 * s), (0.6 * s, 0.1 * s), (0.4 * s, 0.1 * s)], fill=(*label, 255)
        )
        brush.image = Image.alpha_composite(brush.image, film)
        brush.draw = ImageDraw.Draw(brush.image)
    if package != "loose":
        _label(brush, spec, 0.36, 0.78, 0.64, 0.9)


def _label(brush: Brush, spec: PhotoSpec, x0: float, y0: float, x1: float, y1: float) -> None:
    brush.box(x0, y0, x1, y1, rgb(spec.brand_colour), 0.02)
    brush.text((x0 + x1) / 2, (y0 + y1) / 2, spec.brand, min(0.5 * (y1 - y0), 1.5 * (x1 - x0) / len(spec.brand)),
               (255, 255, 255))  # fmt: skip


def _packed(brush: Brush, spec: PhotoSpec) -> None:
    """Packaged goods: the package's outline, a body in the category's tone, the variety's panel, the brand's label."""
    body, variety = _BODY.get(spec.category, (220, 220, 220)), rgb(spec.colour)
    panel = _outline(brush, spec.package, body, variety)
    x0, y0, x1, y1 = panel
    brush.box(x0, y0 + 0.42 * (y1 - y0), x1, y1, variety, 0.015)
    _label(brush, spec, x0, y0, x1, y0 + 0.3 * (y1 - y0))
    middle = ((x0 + x1) / 2, y0 + 0.71 * (y1 - y0))
    sign: Colour = (252, 250, 244) if sum(variety) < 480 else darker(variety, 0.62)
    emblem(brush, _INDEX[spec.category], *middle, 0.15 * min(x1 - x0, y1 - y0) + 0.02, sign)
    if spec.category == "eggs":
        for place in range(4):  # they look out of the package
            brush.ball(x0 + (x1 - x0) * (0.14 + 0.24 * place), y0 - 0.1, 0.062, 0.075, variety)


def _outline(brush: Brush, package: str, body: Colour, variety: Colour) -> tuple[float, float, float, float]:
    """Draw the package; returns where its panel lies."""
    dark, light = darker(body, 0.2), lighter(body, 0.35)
    if package == "bottle":
        brush.box(0.43, 0.06, 0.57, 0.14, variety, 0.02)
        brush.shape([(0.44, 0.13), (0.56, 0.13), (0.58, 0.3), (0.7, 0.4), (0.3, 0.4), (0.42, 0.3)], body)
        brush.box(0.3, 0.36, 0.7, 0.95, body, 0.05)
        brush.box(0.33, 0.4, 0.37, 0.92, light, 0.02)
        return 0.3, 0.47, 0.7, 0.84
    if package == "can":
        brush.box(0.28, 0.16, 0.72, 0.9, body, 0.03)
        brush.oval(0.5, 0.9, 0.22, 0.045, dark)
        brush.oval(0.5, 0.16, 0.22, 0.05, (206, 208, 212))
        brush.oval(0.5, 0.16, 0.18, 0.036, (168, 170, 176))
        return 0.28, 0.25, 0.72, 0.85
    if package == "carton":
        brush.shape([(0.3, 0.28), (0.38, 0.12), (0.62, 0.12), (0.7, 0.28)], dark)
        brush.box(0.38, 0.08, 0.62, 0.13, light)
        brush.box(0.3, 0.27, 0.7, 0.95, body)
        brush.shape([(0.7, 0.27), (0.78, 0.33), (0.78, 0.92), (0.7, 0.95)], dark)
        return 0.3, 0.34, 0.7, 0.9
    if package == "jar":
        brush.box(0.28, 0.12, 0.72, 0.23, variety, 0.02)
        brush.box(0.24, 0.22, 0.76, 0.93, body, 0.09)
        brush.box(0.28, 0.28, 0.32, 0.86, light, 0.02)
        return 0.24, 0.36, 0.76, 0.8
    if package == "tub":
        brush.shape([(0.2, 0.34), (0.8, 0.34), (0.73, 0.88), (0.27, 0.88)], body)
        brush.oval(0.5, 0.88, 0.23, 0.05, body)
        brush.box(0.17, 0.27, 0.83, 0.36, dark, 0.03)
        return 0.26, 0.42, 0.74, 0.84
    if package in ("bag", "pouch", "net", "paper"):
        paper = package == "paper"
        tone = blend(body, (196, 164, 120), 0.6) if paper else body
        brush.shape([(0.22, 0.14), (0.78, 0.14), (0.84, 0.9), (0.16, 0.9)], tone)
        if package == "pouch":
            brush.oval(0.5, 0.9, 0.34, 0.06, tone)
            brush.box(0.6, 0.06, 0.7, 0.15, variety, 0.01)
        for tooth in range(14):
            left = 0.22 + 0.04 * tooth
            brush.shape([(left, 0.15), (left + 0.02, 0.1), (left + 0.04, 0.15)], dark)
        brush.line([(0.27, 0.2), (0.24, 0.84)], light, 0.02)
        return 0.26, 0.27, 0.74, 0.82
    wide = package == "tray"  # a box, or what comes flat
    x0, y0, x1, y1 = (0.1, 0.34, 0.84, 0.82) if wide else (0.2, 0.16, 0.74, 0.93)
    brush.shape([(x0, y0), (x0 + 0.07, y0 - 0.07), (x1 + 0.09, y0 - 0.07), (x1, y0)], light)
    brush.shape([(x1, y0), (x1 + 0.09, y0 - 0.07), (x1 + 0.09, y1 - 0.07), (x1, y1)], dark)
    brush.box(x0, y0, x1, y1, body)
    return x0 + 0.03, y0 + 0.05, x1 - 0.03, y1 - 0.04


def _price_tag(image: Image.Image, side: int, rng: Random) -> None:
    """A sticker with some number, which is not the price."""
    brush = Brush(side // 3, rng)
    brush.box(0.05, 0.25, 0.95, 0.75, rng.choice([(250, 220, 60), (250, 250, 245), (235, 80, 60)]), 0.05)
    brush.text(0.5, 0.5, f"{rng.randint(0, 9)}.{rng.randint(0, 9)}9", 0.32, (20, 20, 20))
    tag = brush.image.rotate(rng.uniform(-20, 20), Image.Resampling.BILINEAR)
    at = (rng.choice([0, side * 2 // 3]), rng.choice([0, side * 2 // 3]))
    image.paste(tag, at, tag)


def _light(image: Image.Image, spec: PhotoSpec, rng: Random) -> Image.Image:
    """Brightness, warmth, a fall of light across the picture; then what the dirt does."""
    sloppy = 1.0 - spec.care
    image = ImageEnhance.Brightness(image).enhance(1.0 + rng.gauss(0, 0.04 + 0.08 * sloppy))
    image = ImageEnhance.Color(image).enhance(1.0 + rng.gauss(0, 0.05 + 0.06 * sloppy))
    warmth = rng.gauss(0, 4 + 6 * sloppy)
    red, green, blue = image.split()
    red = red.point([min(255, max(0, round(value + warmth))) for value in range(256)])
    blue = blue.point([min(255, max(0, round(value - warmth))) for value in range(256)])
    image = Image.merge("RGB", (red, green, blue))
    fall = Image.linear_gradient("L").resize(image.size).rotate(90 * rng.randrange(4))
    strength = rng.uniform(0.0, 0.1 + 0.2 * sloppy)
    image = ImageChops.multiply(image, fall.point(lambda v: round(255 - strength * (255 - v))).convert("RGB"))
    if spec.dirt == "blurred":
        image = image.filter(ImageFilter.GaussianBlur(spec.px * rng.uniform(0.022, 0.04)))
    elif spec.dirt == "dark":
        image = ImageEnhance.Brightness(image).enhance(rng.uniform(0.18, 0.34))
    elif rng.random() < 0.3 * sloppy:
        image = image.filter(ImageFilter.GaussianBlur(spec.px / 300))
    return image


def _watermark(image: Image.Image) -> Image.Image:
    """The stripes of an agency's picture."""
    over = Image.new("RGBA", image.size, (0, 0, 0, 0))
    pen, px = ImageDraw.Draw(over), image.size[0]
    for step in range(-4, 8):
        start = step * px / 5
        pen.line((start, px, start + px * math.tan(0.6), 0), fill=(150, 150, 160, 70), width=max(2, px // 48))
    return Image.alpha_composite(image.convert("RGBA"), over).convert("RGB")
