"""Goods as simple pictures: pieces of fruit, leaves, meat and bread, and packages with labels.

Sizes are in units of the drawing's side, colours RGB triples 0..255; `wear` is 0 for fresh goods .. 1 for spoilt.
"""

from __future__ import annotations

import math
from functools import lru_cache
from random import Random

from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]
BROWN: Colour = (92, 66, 38)
MOULD: Colour = (150, 152, 130)
GREEN: Colour = (74, 124, 52)


def rgb(text: str) -> Colour:
    """A colour from #rrggbb.

    Example:
        >>> rgb("#ff8000")
        (255, 128, 0)
    """
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)


def blend(first: Colour, second: Colour, share: float) -> Colour:
    """Between two colours: `share` of the second."""
    share = min(max(share, 0.0), 1.0)
    return tuple(round(a + (b - a) * share) for a, b in zip(first, second, strict=True))  # type: ignore[return-value]


def lighter(colour: Colour, share: float) -> Colour:
    """Towards white."""
    return blend(colour, (255, 255, 255), share)


def darker(colour: Colour, share: float) -> Colour:
    """Towards black."""
    return blend(colour, (0, 0, 0), share)


@lru_cache(maxsize=32)
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font."""
    return ImageFont.load_default(size)


class Brush:
    """Draws on a transparent square of `side` pixels with coordinates 0..1."""

    def __init__(self, side: int, rng: Random) -> None:
        self.side, self.rng = side, rng
        self.image = Image.new("RGBA", (side, side), (0, 0, 0, 0))
        self.draw = ImageDraw.Draw(self.image)

    def oval(self, x: float, y: float, rx: float, ry: float, colour: Colour, alpha: int = 255) -> None:
        """A filled ellipse."""
        s = self.side
        self.draw.ellipse(((x - rx) * s, (y - ry) * s, (x + rx) * s, (y + ry) * s), fill=(*colour, alpha))

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: Colour, radius: float = 0.0) -> None:
        """A filled rectangle, its corners rounded."""
        s = self.side
        self.draw.rounded_rectangle((x0 * s, y0 * s, x1 * s, y1 * s), radius * s, fill=colour)

    def shape(self, points: list[tuple[float, float]], colour: Colour, alpha: int = 255) -> None:
        """A filled polygon."""
        self.draw.polygon([(x * self.side, y * self.side) for x, y in points], fill=(*colour, alpha))

    def line(self, points: list[tuple[float, float]], colour: Colour, width: float, alpha: int = 255) -> None:
        """A line."""
        pixels = max(1, round(width * self.side))
        self.draw.line(
            [(x * self.side, y * self.side) for x, y in points], fill=(*colour, alpha), width=pixels, joint="curve"
        )

    def text(self, x: float, y: float, words: str, size: float, colour: Colour) -> None:
        """Words around a point."""
        self.draw.text(
            (x * self.side, y * self.side), words, fill=colour, font=font(max(6, round(size * self.side))), anchor="mm"
        )

    def ball(self, x: float, y: float, rx: float, ry: float, colour: Colour) -> None:
        """An ellipse with light from the upper left."""
        self.oval(x, y, rx, ry, darker(colour, 0.28))
        self.oval(x - 0.04 * rx, y - 0.05 * ry, 0.93 * rx, 0.92 * ry, colour)
        self.oval(x - 0.2 * rx, y - 0.24 * ry, 0.55 * rx, 0.52 * ry, lighter(colour, 0.16))
        self.oval(x - 0.34 * rx, y - 0.38 * ry, 0.2 * rx, 0.16 * ry, lighter(colour, 0.55))

    def spots(self, x: float, y: float, rx: float, ry: float, wear: float, size: float = 0.2) -> None:
        """Brown and mouldy spots, the more the older."""
        for _ in range(round(9 * max(0.0, wear - 0.12))):
            angle, reach = self.rng.uniform(0, 2 * math.pi), self.rng.random() ** 0.5 * 0.78
            r = size * rx * self.rng.uniform(0.5, 1.3) * (0.6 + wear)
            colour = MOULD if wear > 0.65 and self.rng.random() < 0.3 else blend(BROWN, (40, 26, 14), 0.4 * wear)
            self.oval(x + reach * rx * math.cos(angle), y + reach * ry * math.sin(angle), r, 0.8 * r, colour, 225)


def aged(colour: Colour, wear: float) -> Colour:
    """A colour grown dull and brown."""
    return blend(colour, blend(BROWN, (140, 128, 96), 0.5), 0.62 * wear**1.2)


def leaf(brush: Brush, x: float, y: float, angle: float, length: float, width: float, colour: Colour) -> None:
    """One leaf with its rib."""
    dx, dy = math.cos(angle), math.sin(angle)
    points = []
    for step in range(13):
        t = step / 6 - 1  # −1 .. 1 along one side and back
        along = 1 - abs(t)
        side = math.sin(math.pi * min(along, 0.999)) ** 0.7 * width * (1 if t < 0 else -1)
        points.append((x + dx * length * along - dy * side, y + dy * length * along + dx * side))
    brush.shape(points, colour)
    brush.line([(x, y), (x + 0.85 * dx * length, y + 0.85 * dy * length)], lighter(colour, 0.25), 0.006)


def produce(brush: Brush, form: str, category: str, x: float, y: float, r: float, base: Colour, wear: float) -> None:
    """One piece of what perishes, around (x, y) with radius r."""
    rng, colour = brush.rng, aged(base, wear)
    if form == "round":
        _round(brush, category, x, y, r, colour, wear)
    elif form == "long":
        _long(brush, category, x, y, r, colour, wear)
    elif form == "leaf":
        many = 26 if category == "herbs" else 18
        for turn in range(many):
            droop = 1.1 * wear * (1 if turn % 2 else -0.4)
            angle = 2 * math.pi * turn / many * 2.4 + rng.uniform(-0.2, 0.2) + droop
            length = r * rng.uniform(0.75, 1.15) * (1 - 0.25 * wear) * (1 - 0.35 * turn / many)
            tone = blend(colour, (196, 170, 70), wear * rng.uniform(0.1, 0.9))
            tone = lighter(tone, 0.25 * turn / many) if turn % 3 else darker(tone, 0.15)
            width = (0.16 if category == "herbs" else 0.42) * r
            leaf(brush, x, y + 0.12 * wear, angle, length, width, tone)
        brush.spots(x, y, 0.8 * r, 0.8 * r, wear, 0.12)
    elif form == "cluster":
        many = 22
        for piece in range(many):
            level = int((math.sqrt(8 * piece + 1) - 1) / 2)
            across = piece - level * (level + 1) / 2 - level / 2
            px, py = x + 0.3 * r * across, y + 0.75 * r - 0.26 * r * level
            if category == "berries":  # a heap, not a bunch
                py = 2 * y - py
            tone = blend(colour, BROWN, wear * rng.uniform(0, 0.9))
            brush.ball(px + rng.uniform(-0.04, 0.04) * r, py, 0.2 * r, 0.2 * r * (1 - 0.25 * wear), tone)
        if category == "grapes":
            brush.line([(x, y - 0.9 * r), (x + 0.03, y - 1.25 * r)], (110, 80, 40), 0.014)
        brush.spots(x, y, 0.6 * r, 0.6 * r, 0.8 * wear, 0.16)
    elif form == "slab":
        _slab(brush, category, x, y, r, colour, wear)
    else:  # loaf
        brush.ball(x, y, 1.15 * r, 0.68 * r, darker(colour, 0.12))
        for cut in (-0.6, -0.2, 0.2, 0.6):
            place = x + cut * r
            brush.line([(place - 0.1 * r, y - 0.35 * r), (place + 0.12 * r, y + 0.2 * r)], lighter(colour, 0.4), 0.018)
        for _ in range(round(16 * max(0, wear - 0.2))):  # mould on bread is grey-green
            px, py = x + rng.uniform(-0.9, 0.9) * r, y + rng.uniform(-0.4, 0.45) * r
            size = rng.uniform(0.05, 0.14) * r
            brush.oval(px, py, size, size, (112, 132, 110), 220)


def _round(brush: Brush, category: str, x: float, y: float, r: float, colour: Colour, wear: float) -> None:
    green = aged(GREEN, wear)
    if category == "mushrooms":
        brush.box(x - 0.25 * r, y, x + 0.25 * r, y + 0.85 * r, lighter(colour, 0.35), 0.05 * r)
        brush.ball(x, y - 0.1 * r, r, 0.62 * r, colour)
    elif category == "peppers":
        for shift in (-0.45, 0.45, 0.0):
            brush.ball(x + shift * r, y + 0.08 * r, 0.55 * r, 0.92 * r, colour)
        brush.line([(x, y - 0.8 * r), (x + 0.1 * r, y - 1.12 * r)], green, 0.16 * r)
    elif category == "potatoes":
        brush.ball(x, y, 1.12 * r, 0.78 * r, colour)
        for _ in range(7):
            px, py = x + brush.rng.uniform(-0.8, 0.8) * r, y + brush.rng.uniform(-0.45, 0.45) * r
            brush.oval(px, py, 0.05 * r, 0.03 * r, darker(colour, 0.35))
    elif category == "avocados":
        brush.ball(x, y + 0.2 * r, 0.82 * r, 0.8 * r, colour)
        brush.ball(x, y - 0.4 * r, 0.5 * r, 0.62 * r, colour)
    else:
        brush.ball(x, y, r, (0.92 if category in ("tomatoes", "onions") else 1.0) * r, colour)
    if category == "apples":
        brush.oval(x, y - 0.82 * r, 0.22 * r, 0.1 * r, darker(colour, 0.35))
        brush.line([(x, y - 0.8 * r), (x + 0.1 * r, y - 1.22 * r)], (96, 66, 36), 0.09 * r)
        leaf(brush, x + 0.08 * r, y - 1.05 * r, -0.4 + 1.3 * wear, 0.55 * r, 0.16 * r, green)
    elif category == "tomatoes":
        for turn in range(5):
            leaf(brush, x, y - 0.72 * r, 2 * math.pi * turn / 5 - 0.3, 0.45 * r, 0.09 * r, green)
    elif category == "onions":
        brush.shape([(x - 0.2 * r, y - 0.8 * r), (x, y - 1.35 * r), (x + 0.2 * r, y - 0.8 * r)], colour)
        for bend in (-0.5, 0.0, 0.5):
            brush.line([(x, y - 0.85 * r), (x + bend * r, y), (x, y + 0.85 * r)], darker(colour, 0.22), 0.03 * r)
    elif category == "citrus":
        for _ in range(14):
            px, py = x + brush.rng.uniform(-0.65, 0.65) * r, y + brush.rng.uniform(-0.65, 0.65) * r
            brush.oval(px, py, 0.035 * r, 0.035 * r, darker(colour, 0.16))
        brush.oval(x + 0.1 * r, y - 0.78 * r, 0.09 * r, 0.06 * r, green)
    brush.spots(x, y, 0.85 * r, 0.8 * r, wear)


def _long(brush: Brush, category: str, x: float, y: float, r: float, colour: Colour, wear: float) -> None:
    if category == "bananas":
        for shift in (0.0, 0.24, 0.48):
            points = []
            for step in range(11):
                angle = math.pi * (0.12 + 0.76 * step / 10)
                points.append((x - 1.15 * r * math.cos(angle), y - 0.5 * r + (0.8 + shift) * r * math.sin(angle)))
            brush.line(points, darker(colour, 0.25), 0.36 * r)
            brush.line(points, colour, 0.27 * r)
            brush.oval(*points[-1], 0.09 * r, 0.12 * r, darker(BROWN, 0.2))
        brush.spots(x, y + 0.35 * r, 1.0 * r, 0.45 * r, wear, 0.11)
        return
    for row in (-0.55, 0.0, 0.55):
        py = y + row * r
        if category == "carrots":
            brush.shape([(x - r, py - 0.22 * r), (x + 1.15 * r, py), (x - r, py + 0.22 * r)], colour)
            for ring in (-0.6, -0.2, 0.3):
                px = x + ring * r
                brush.line([(px, py - 0.13 * r), (px + 0.04 * r, py)], darker(colour, 0.25), 0.03 * r)
            for turn in (-0.5, 0.0, 0.5):
                leaf(brush, x - r, py, math.pi + turn + wear, 0.5 * r, 0.08 * r, aged(GREEN, wear))
        else:
            brush.box(x - 1.15 * r, py - 0.23 * r, x + 1.15 * r, py + 0.23 * r, darker(colour, 0.25), 0.22 * r)
            brush.box(x - 1.1 * r, py - 0.2 * r, x + 1.1 * r, py + 0.08 * r, colour, 0.14 * r)
            for place in range(7):
                px = x + (-0.9 + 0.3 * place) * r
                brush.oval(px, py - 0.06 * r, 0.03 * r, 0.03 * r, lighter(colour, 0.35))
        brush.spots(x, py, 0.95 * r, 0.18 * r, wear, 0.11)


def _slab(brush: Brush, category: str, x: float, y: float, r: float, colour: Colour, wear: float) -> None:
    rng = brush.rng
    if category == "cheese":
        brush.shape([(x - 1.1 * r, y + 0.2 * r), (x + 0.9 * r, y - 0.55 * r), (x + 1.1 * r, y + 0.1 * r),
                     (x + 1.1 * r, y + 0.6 * r), (x - 1.1 * r, y + 0.65 * r)], darker(colour, 0.12))  # fmt: skip
        brush.shape([(x - 1.1 * r, y + 0.2 * r), (x + 0.9 * r, y - 0.55 * r), (x + 1.1 * r, y + 0.1 * r)],
                    lighter(colour, 0.2))  # fmt: skip
        for _ in range(6):
            size = rng.uniform(0.05, 0.12) * r
            px, py = x + rng.uniform(-0.8, 0.9) * r, y + rng.uniform(0.25, 0.55) * r
            brush.oval(px, py, size, 0.8 * size, darker(colour, 0.3))
        brush.spots(x, y + 0.2 * r, r, 0.45 * r, wear, 0.14)
        return
    if category == "ham":
        for layer in range(4):
            brush.oval(x - 0.1 * r + 0.08 * layer * r, y + (0.4 - 0.25 * layer) * r, r, 0.5 * r, lighter(colour, 0.45))
            brush.oval(x - 0.1 * r + 0.08 * layer * r, y + (0.4 - 0.25 * layer) * r, 0.93 * r, 0.44 * r, colour)
    elif category == "fish":
        brush.shape([(x + 0.8 * r, y), (x + 1.35 * r, y - 0.45 * r), (x + 1.35 * r, y + 0.45 * r)], darker(colour, 0.2))
        brush.ball(x - 0.1 * r, y, 1.1 * r, 0.55 * r, colour)
        for band in range(6):
            px = x + (-0.75 + 0.28 * band) * r
            brush.line([(px, y - 0.35 * r), (px + 0.14 * r, y), (px, y + 0.35 * r)], lighter(colour, 0.4), 0.04 * r)
    else:
        points = [
            (x + 1.12 * r * math.cos(a / 16 * 2 * math.pi) * rng.uniform(0.86, 1.05),
             y + 0.78 * r * math.sin(a / 16 * 2 * math.pi) * rng.uniform(0.86, 1.05))
            for a in range(16)
        ]  # fmt: skip
        brush.shape(points, lighter(colour, 0.5) if category == "beef" else darker(colour, 0.15))
        inner = [(x + 0.9 * (px - x), y + 0.88 * (py - y)) for px, py in points]
        brush.shape(inner, colour)
        for _ in range(9 if category == "beef" else 4):
            px, py = x + rng.uniform(-0.7, 0.6) * r, y + rng.uniform(-0.45, 0.45) * r
            brush.line([(px, py), (px + 0.2 * r, py + rng.uniform(-0.1, 0.1) * r)], lighter(colour, 0.55), 0.035 * r)
    brush.spots(x, y, 0.95 * r, 0.55 * r, wear, 0.15)


def emblem(brush: Brush, category: int, x: float, y: float, r: float, colour: Colour) -> None:
    """A sign on the label that tells the category."""
    kind = category % 9
    if kind == 0:
        brush.oval(x, y, r, r, colour)
    elif kind == 1:  # drop
        brush.shape([(x, y - 1.3 * r), (x + 0.75 * r, y + 0.1 * r), (x - 0.75 * r, y + 0.1 * r)], colour)
        brush.oval(x, y + 0.25 * r, 0.78 * r, 0.75 * r, colour)
    elif kind == 2:
        leaf(brush, x - r, y + 0.6 * r, -0.6, 2.3 * r, 0.5 * r, colour)
    elif kind in (3, 4):  # star, sun
        points = []
        rays = 5 if kind == 3 else 10
        for turn in range(2 * rays):
            reach = (1.2 if turn % 2 == 0 else 0.55) * r
            angle = math.pi * turn / rays - math.pi / 2
            points.append((x + reach * math.cos(angle), y + reach * math.sin(angle)))
        brush.shape(points, colour)
    elif kind == 5:  # waves
        for row in (-0.6, 0.0, 0.6):
            line = [(x + (step / 6 - 1) * 1.2 * r, y + row * r + 0.2 * r * math.sin(step)) for step in range(13)]
            brush.line(line, colour, 0.2 * r)
    elif kind == 6:  # ear of wheat
        brush.line([(x, y - 1.2 * r), (x, y + 1.3 * r)], colour, 0.12 * r)
        for row in range(4):
            for side in (-1, 1):
                leaf(brush, x, y + (0.7 - 0.5 * row) * r, -math.pi / 2 + side * 0.8, 0.75 * r, 0.16 * r, colour)
    elif kind == 7:  # cup
        brush.box(x - 0.9 * r, y - 0.5 * r, x + 0.6 * r, y + 0.8 * r, colour, 0.2 * r)
        brush.oval(x + 0.7 * r, y + 0.1 * r, 0.45 * r, 0.4 * r, colour)
    else:  # squares
        for row in range(3):
            for column in range(3):
                if (row + column) % 2 == 0:
                    px, py = x + (column - 1.4) * 0.8 * r, y + (row - 1.4) * 0.8 * r
                    brush.box(px, py, px + 0.7 * r, py + 0.7 * r, colour)
