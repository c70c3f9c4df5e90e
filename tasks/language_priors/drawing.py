"""How pictures of `language_priors` are drawn: filled polygons in whole numbers, so that they are the same everywhere.

No drawing library whose rounding changes with its version, and no font: polygons are filled by the even-odd rule on a
canvas twice as fine as the picture, then averaged; letters are polygons of 5 × 7 squares.

Figures are described in a box of 100 × 100 units, x to the right and y downwards; a `Pen` places that box on the
canvas, possibly mirrored.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from avar_eval.tasks.language_priors.glyphs import GLYPHS

PIXELS: Final = 224
SUPERSAMPLING: Final = 2
UNITS: Final = 100
"""Width and height of the box that a figure is described in."""

Rgb = tuple[int, int, int]
Point = tuple[float, float]
Pixels = NDArray[np.uint8]

INK: Final[Rgb] = (40, 40, 40)
COLORS: Final[dict[str, Rgb]] = {
    "red": (214, 39, 40),
    "orange": (255, 140, 20),
    "yellow": (245, 210, 40),
    "green": (44, 160, 44),
    "blue": (40, 90, 220),
    "purple": (140, 60, 190),
    "pink": (250, 140, 190),
    "brown": (130, 80, 40),
    "black": (25, 25, 25),
    "white": (252, 252, 252),
    "gray": (128, 128, 128),
}
GROUNDS: Final[tuple[Rgb, ...]] = ((196, 210, 224), (214, 202, 180), (198, 214, 196), (212, 200, 214))
"""Pale, and dark enough that white things stand out."""


class Canvas:
    """A picture under construction, `SUPERSAMPLING` times as fine as it will be."""

    def __init__(self, ground: Rgb) -> None:
        side = PIXELS * SUPERSAMPLING
        self._pixels: Pixels = np.empty((side, side, 3), dtype=np.uint8)
        self._pixels[:] = ground

    def polygon(self, points: Sequence[Point], color: Rgb) -> None:
        """Fill a polygon, its corners in pixels of the picture, by the even-odd rule; what is outside is cut off."""
        scale = 16 * SUPERSAMPLING  # corners in sixteenths of a fine pixel
        corners = np.array([[round(x * scale), round(y * scale)] for x, y in points], dtype=np.int64)
        low = np.maximum(corners.min(axis=0) // 16, 0)
        high = np.minimum(corners.max(axis=0) // 16 + 1, len(self._pixels))
        if (high <= low).any():
            return
        across, down = np.arange(low[0], high[0]) * 16 + 8, np.arange(low[1], high[1]) * 16 + 8  # pixels' centers
        crossed = np.zeros((len(down), len(across) + 1), dtype=np.int8)
        x, y = corners[:, 0], corners[:, 1]
        x_next, y_next = np.roll(x, -1), np.roll(y, -1)
        edge, line = np.nonzero((y[:, None] <= down) != (y_next[:, None] <= down))
        rise = y_next[edge] - y[edge]
        # where the edge cuts the line, rounded up to a whole sixteenth: everything from there on changes sides
        cut = x[edge] - (-(down[line] - y[edge]) * (x_next[edge] - x[edge])) // rise
        np.add.at(crossed, (line, np.searchsorted(across, cut)), 1)
        inside = (crossed.cumsum(axis=1)[:, :-1] & 1).astype(bool)
        self._pixels[low[1] : high[1], low[0] : high[0]][inside] = color

    def picture(self) -> Pixels:
        """RGB, (224, 224, 3)."""
        return np.asarray(Image.fromarray(self._pixels).reduce(SUPERSAMPLING))


class Pen:
    """Draws a figure in a square box of the picture.

    left, top, size: of the box, in pixels. mirrored: whether left and right change sides.
    """

    def __init__(self, canvas: Canvas, left: float, top: float, size: float, mirrored: bool = False) -> None:
        self._canvas = canvas
        self._left, self._top, self._scale = left, top, size / UNITS
        self._mirrored = mirrored

    def polygon(self, color: Rgb, *points: Point) -> None:
        """A filled polygon, its corners in units of the box."""
        placed = [
            (self._left + self._scale * (UNITS - x if self._mirrored else x), self._top + self._scale * y)
            for x, y in points
        ]
        self._canvas.polygon(placed, color)

    def ellipse(self, color: Rgb, x: float, y: float, across: float, down: float, turned: float = 0) -> None:
        """A filled ellipse around (x, y) with these half axes. turned: degrees clockwise."""
        self.polygon(color, *_ellipse(x, y, across, down, turned))

    def circle(self, color: Rgb, x: float, y: float, radius: float) -> None:
        """A filled circle."""
        self.ellipse(color, x, y, radius, radius)

    def rectangle(self, color: Rgb, left: float, top: float, right: float, bottom: float) -> None:
        """A filled rectangle."""
        self.polygon(color, (left, top), (right, top), (right, bottom), (left, bottom))

    def line(self, color: Rgb, width: float, *points: Point) -> None:
        """A line with round ends and corners through these points."""
        for (x, y), (x_next, y_next) in pairwise(points):
            length = math.hypot(x_next - x, y_next - y)
            across, down = width / 2 * (y - y_next) / length, width / 2 * (x_next - x) / length
            ends = ((x + across, y + down), (x_next + across, y_next + down))
            self.polygon(color, *ends, (x_next - across, y_next - down), (x - across, y - down))
        for x, y in points:
            self.circle(color, x, y, width / 2)

    def text(self, color: Rgb, text: str, x: float, y: float, height: float) -> None:
        """Capital letters, digits and signs in one line around (x, y)."""
        square = height / 7
        start, mirrored, self._mirrored = x - (6 * len(text) - 1) * square / 2, self._mirrored, False
        for place, letter in enumerate(text):
            for row, bits in enumerate(GLYPHS[letter]):
                for column in range(5):
                    if bits[column] == "#":
                        left, top = start + (6 * place + column) * square, y - height / 2 + row * square
                        self.rectangle(color, left, top, left + square, top + square)
        self._mirrored = mirrored


def _ellipse(x: float, y: float, across: float, down: float, turned: float) -> list[Point]:
    cosine, sine = math.cos(math.radians(turned)), math.sin(math.radians(turned))
    corners = []
    for step in range(48):
        angle = math.tau * step / 48
        along, beside = across * math.cos(angle), down * math.sin(angle)
        corners.append((x + along * cosine - beside * sine, y + along * sine + beside * cosine))
    return corners
