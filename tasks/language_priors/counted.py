"""Things of `language_priors` with parts that are counted: a dog with as many legs as one likes.

Parts stand apart from one another and are of a color of their own, `PART`, so that they can be counted by the eye and
from the pixels.
"""

import math
from collections.abc import Callable
from typing import Final

from avar_eval.tasks.language_priors.drawing import INK, Pen, Point, Rgb

CountedFigure = Callable[[Pen, Rgb, int], None]
"""Draws a thing of this color with so many parts, 2 to 8, in its box of 100 × 100 units."""

PART: Final[Rgb] = (60, 30, 70)
PALE: Final[Rgb] = (236, 236, 226)


def _spread(count: int, first: float, last: float) -> list[float]:
    """`count` places from `first` to `last`; fewer stand closer together."""
    step = min((last - first) / max(count - 1, 1), 18)
    middle = (first + last) / 2
    return [middle + step * (place - (count - 1) / 2) for place in range(count)]


def _legs(pen: Pen, count: int, first: float, last: float, top: float, width: float = 5) -> None:
    for x in _spread(count, first, last):
        pen.rectangle(PART, x - width / 2, top, x + width / 2, 96)


def _dog(pen: Pen, color: Rgb, count: int) -> None:
    _legs(pen, count, 12, 70, 60)
    pen.rectangle(color, 10, 40, 72, 64)
    pen.line(color, 7, (12, 44), (3, 24))
    pen.polygon(color, (62, 46), (68, 22), (84, 18), (86, 28), (99, 32), (98, 42), (82, 46), (74, 58))
    pen.polygon(INK, (66, 20), (76, 20), (72, 42), (64, 38))
    pen.circle(INK, 82, 27, 2.5)
    pen.circle(INK, 98, 34, 3)


def _cat(pen: Pen, color: Rgb, count: int) -> None:
    _legs(pen, count, 14, 70, 62)
    pen.ellipse(color, 42, 56, 34, 14)
    pen.line(color, 5, (10, 54), (4, 36), (10, 18), (18, 20))
    pen.circle(color, 78, 38, 17)
    pen.polygon(color, (62, 34), (62, 10), (76, 24))
    pen.polygon(color, (80, 24), (94, 10), (94, 34))
    for x in (72, 84):
        pen.circle(INK, x, 36, 2.5)
    for y in (43, 47):
        pen.line(INK, 1.2, (60, y + 2), (72, y), (84, y), (97, y + 2))


def _horse(pen: Pen, color: Rgb, count: int) -> None:
    _legs(pen, count, 14, 66, 58)
    pen.ellipse(color, 40, 52, 32, 14)
    pen.polygon(color, (56, 52), (72, 12), (82, 8), (99, 30), (94, 38), (82, 28), (70, 60))
    pen.polygon(color, (72, 14), (74, 2), (80, 10))
    pen.line(INK, 5, (74, 12), (66, 24), (60, 40))
    pen.line(INK, 5, (10, 48), (2, 62), (4, 78))
    pen.circle(INK, 84, 18, 2.5)


def _cow(pen: Pen, color: Rgb, count: int) -> None:
    _legs(pen, count, 14, 70, 62)
    pen.rectangle(color, 10, 32, 74, 66)
    pen.ellipse(PALE, 28, 46, 9, 7)
    pen.ellipse(PALE, 52, 52, 8, 8)
    pen.rectangle(color, 72, 24, 95, 52)
    pen.ellipse(PALE, 90, 48, 9, 7)
    pen.line(INK, 3, (74, 24), (70, 14))
    pen.line(INK, 3, (92, 24), (97, 14))
    pen.circle(INK, 84, 34, 2.5)
    pen.line(color, 3, (10, 36), (3, 58))


def _bird(pen: Pen, color: Rgb, count: int) -> None:
    _legs(pen, count, 24, 66, 66, width=4)
    pen.polygon(color, (2, 34), (26, 44), (22, 62))
    pen.ellipse(color, 44, 54, 28, 20)
    pen.circle(color, 72, 32, 15)
    pen.polygon((230, 120, 30), (84, 26), (99, 34), (84, 38))
    pen.polygon(INK, (28, 46), (52, 48), (30, 62))
    pen.circle(INK, 75, 29, 2.5)


def _around(count: int) -> list[tuple[float, float]]:
    """Directions of `count` legs around a body, left and right in turn, none straight up or down."""
    left, right = (count + 1) // 2, count // 2
    angles = [*(180 + angle for angle in _spread_angles(left)), *_spread_angles(right)]
    return [(math.cos(math.radians(angle)), math.sin(math.radians(angle))) for angle in angles]


def _spread_angles(count: int) -> list[float]:
    return [25 * (place - (count - 1) / 2) for place in range(count)]


def _spider(pen: Pen, color: Rgb, count: int) -> None:
    for across, down in _around(count):
        pen.line(PART, 4, (50 + 14 * across, 52 + 14 * down), (50 + 34 * across, 46 + 34 * down))
        pen.line(PART, 4, (50 + 34 * across, 46 + 34 * down), (50 + 47 * across, 62 + 47 * down))
    pen.circle(color, 50, 58, 20)
    pen.circle(color, 50, 34, 12)
    for x in (46, 54):
        pen.circle(INK, x, 31, 2.2)


def _ant(pen: Pen, color: Rgb, count: int) -> None:
    above, below = count // 2, (count + 1) // 2
    for legs, way in ((above, -1), (below, 1)):
        for x in _spread(legs, 30, 74):
            pen.line(PART, 3.5, (x, 50 + 8 * way), (x - 4, 50 + 24 * way), (x + 3, 50 + 38 * way))
    pen.ellipse(color, 22, 50, 19, 14)
    pen.ellipse(color, 53, 50, 17, 9)
    pen.circle(color, 82, 50, 13)
    pen.line(color, 2.5, (88, 42), (93, 28))
    pen.line(color, 2.5, (92, 46), (99, 34))
    pen.circle(INK, 86, 48, 2.2)


def _octopus(pen: Pen, color: Rgb, count: int) -> None:
    for x in _spread(count, 14, 86):
        bend = 4 if x > 50 else -4
        pen.line(PART, 5.5, (x, 50), (x + bend, 74), (x - bend / 2, 94))
    pen.ellipse(color, 50, 34, 32, 30)
    pen.rectangle(color, min(18, 50), 34, 82, 56)
    for x in (40, 60):
        pen.circle(PALE, x, 32, 7)
        pen.circle(INK, x, 33, 3)


def _table(pen: Pen, color: Rgb, count: int) -> None:
    _legs(pen, count, 10, 90, 40)
    pen.rectangle(color, 2, 30, 98, 42)


def _chair(pen: Pen, color: Rgb, count: int) -> None:
    _legs(pen, count, 20, 80, 58)
    pen.rectangle(color, 14, 50, 86, 60)
    pen.rectangle(color, 14, 4, 22, 50)
    for y in (8, 22, 36):
        pen.rectangle(color, 22, y, 58, y + 5)


def _hand(pen: Pen, color: Rgb, count: int) -> None:
    for x in _spread(count, 12, 88):
        pen.line(PART, 7, (x, 56), (x, 12 + abs(x - 50) / 2))
    pen.rectangle(color, 8, 52, 92, 82)
    pen.rectangle(color, 32, 82, 68, 99)


def _bicycle(pen: Pen, color: Rgb, count: int) -> None:
    places = _wide(count, 92)
    radius = min(17.0, 38 / count)
    axle = 80 - radius
    pen.line(color, 3.5, (places[0], axle), (34, 34), (70, 34), (places[-1], axle))
    pen.line(color, 3.5, (34, 34), (50, axle), (70, 34))
    pen.line(color, 3.5, (70, 34), (67, 20), (78, 18))
    pen.rectangle(INK, 26, 26, 42, 31)
    for x in places:
        _wheel(pen, x, 80, radius)


def _truck(pen: Pen, color: Rgb, count: int) -> None:
    pen.rectangle(color, 2, 24, 66, 68)
    pen.polygon(color, (68, 34), (86, 34), (98, 52), (98, 68), (68, 68))
    pen.polygon(PALE, (74, 40), (84, 40), (91, 52), (74, 52))
    for x in _wide(count, 92):
        _wheel(pen, x, 78, min(11.0, 38 / count))


def _wheel(pen: Pen, x: float, y: float, radius: float) -> None:
    pen.circle(PART, x, y, radius)
    pen.circle(PALE, x, y, radius * 0.45)


def _wide(count: int, width: float) -> list[float]:
    """`count` places as far apart as `width` allows, around the middle."""
    return [50 + width * ((place + 0.5) / count - 0.5) for place in range(count)]


def _traffic_light(pen: Pen, color: Rgb, count: int) -> None:
    pen.rectangle(color, 34, 2, 66, 84)
    pen.rectangle(color, 46, 84, 54, 99)
    radius = min(11.0, 34 / count)
    for place in range(count):
        pen.circle(PART, 50, 43 + 78 * ((place + 0.5) / count - 0.5), radius)


def _starfish(pen: Pen, color: Rgb, count: int) -> None:
    corners: list[Point] = []
    for step in range(2 * count):
        angle, radius = math.pi * step / count, 46 if step % 2 == 0 else 19
        corners.append((50 + radius * math.sin(angle), 50 - radius * math.cos(angle)))
    pen.polygon(color, *corners)
    for step in range(0, 2 * count, 2):
        angle = math.pi * step / count
        pen.circle(PART, 50 + 30 * math.sin(angle), 50 - 30 * math.cos(angle), 5)


def _face(pen: Pen, color: Rgb, count: int) -> None:
    pen.circle(color, 50, 52, 44)
    radius = min(7.0, 26 / count)
    for x in _wide(count, 66):
        pen.circle(PALE, x, 40, radius + 2)
        pen.circle(PART, x, 40, radius)
    pen.line(INK, 4, (32, 68), (42, 76), (58, 76), (68, 68))


COUNTED_FIGURES: Final[dict[str, CountedFigure]] = {
    "ant": _ant,
    "bicycle": _bicycle,
    "bird": _bird,
    "cat": _cat,
    "chair": _chair,
    "cow": _cow,
    "dog": _dog,
    "face": _face,
    "hand": _hand,
    "horse": _horse,
    "octopus": _octopus,
    "spider": _spider,
    "starfish": _starfish,
    "table": _table,
    "traffic light": _traffic_light,
    "truck": _truck,
}
"""name -> how it is drawn"""

PARTS: Final[dict[str, tuple[str, int]]] = {
    "ant": ("legs", 6),
    "bicycle": ("wheels", 2),
    "bird": ("legs", 2),
    "cat": ("legs", 4),
    "chair": ("legs", 4),
    "cow": ("legs", 4),
    "dog": ("legs", 4),
    "face": ("eyes", 2),
    "hand": ("fingers", 5),
    "horse": ("legs", 4),
    "octopus": ("arms", 8),
    "spider": ("legs", 8),
    "starfish": ("arms", 5),
    "table": ("legs", 4),
    "traffic light": ("lights", 3),
}
"""thing -> what of it is counted, and how many its name suggests"""
