"""Things of `language_priors` with parts that are counted: a dog with as many legs as one likes.

Parts stand apart from one another and are of a color of their own, `PART`, so that they can be counted by the eye and
from the pixels.
"""

import math
from collections.abc import Callable
from typing import Final

from avar_eval.tasks.language_priors.drawing import INK, Pen, Rgb

CountedFigure = Callable[[Pen, Rgb, int], None]
"""Draws a thing of this color with so many parts, 2 to 8, in its box of 100 × 100 units."""

PART: Final[Rgb] = (100, 10, 100)
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


def _wheel(pen: Pen, x: float, y: float, radius: float) -> None:
    pen.circle(PART, x, y, radius)
    pen.circle(PALE, x, y, radius * 0.45)


def _wide(count: int, width: float) -> list[float]:
    """`count` places as far apart as `width` allows, around the middle."""
    return [50 + width * ((place + 0.5) / count - 0.5) for place in range(count)]


def _clover(pen: Pen, color: Rgb, count: int) -> None:
    pen.line(color, 6, (50, 44), (54, 72), (50, 98))
    radius = min(15.0, 72 / count)
    for place in range(count):
        angle = math.tau * (place + (count % 2 == 0) / 2) / count  # no leaf over the stem
        pen.circle(PART, 50 + 27 * math.sin(angle), 42 - 27 * math.cos(angle), radius)
    pen.circle(color, 50, 42, 8)


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
    "clover": _clover,
    "dog": _dog,
    "face": _face,
    "hand": _hand,
    "spider": _spider,
}
"""name -> how it is drawn"""

PARTS: Final[dict[str, tuple[str, int]]] = {
    "ant": ("legs", 6),
    "bicycle": ("wheels", 2),
    "bird": ("legs", 2),
    "cat": ("legs", 4),
    "clover": ("leaves", 3),
    "dog": ("legs", 4),
    "face": ("eyes", 2),
    "hand": ("fingers", 5),
    "spider": ("legs", 8),
}
"""thing -> what of it is counted, and how many its name suggests"""
