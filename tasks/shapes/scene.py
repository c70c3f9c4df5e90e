"""A scene of `shapes`: a 4 × 4 grid of colored objects, drawn numbers and dials.

One cell is 28 × 28 pixels, which is one visual token of Qwen2.5-VL (patches of 14 pixels, merged 2 × 2).
All drawing is integer arithmetic on numpy arrays with glyphs of our own: no font file, no drawing library whose
rounding changes with its version, so that a scene has the same pixels everywhere.
"""

import hashlib
import json
import math
from dataclasses import dataclass
from functools import cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

GRID: Final = 4
CELL_PIXELS: Final = 28
IMAGE_PIXELS: Final = GRID * CELL_PIXELS

COLORS: Final[dict[str, tuple[int, int, int]]] = {
    "red": (214, 39, 40),
    "green": (44, 160, 44),
    "blue": (40, 90, 220),
    "yellow": (240, 200, 30),
    "purple": (150, 60, 190),
}
SHAPES: Final = ("circle", "square", "triangle", "diamond", "cross")
ANGLES: Final = tuple(range(0, 360, 30))

INK: Final = (30, 30, 30)
PAPER: Final = (255, 255, 255)
GRID_LINE: Final = (225, 225, 225)

TICK_LENGTH: Final = 2
TICK_WIDTH: Final = 2
TICK_PITCH: Final = 3

# One line of a digit is three bits; five lines from top to bottom.
DIGITS: Final = {
    "0": (0b111, 0b101, 0b101, 0b101, 0b111),
    "1": (0b010, 0b110, 0b010, 0b010, 0b111),
    "2": (0b111, 0b001, 0b111, 0b100, 0b111),
    "3": (0b111, 0b001, 0b011, 0b001, 0b111),
    "4": (0b101, 0b101, 0b111, 0b001, 0b001),
    "5": (0b111, 0b100, 0b111, 0b001, 0b111),
    "6": (0b111, 0b100, 0b111, 0b101, 0b111),
    "7": (0b111, 0b001, 0b010, 0b010, 0b010),
    "8": (0b111, 0b101, 0b111, 0b101, 0b111),
    "9": (0b111, 0b101, 0b111, 0b001, 0b111),
}
DIGIT_SCALE: Final = 3
DIGIT_GAP_PIXELS: Final = 2

# Masks are drawn on a grid four times as fine as the pixels and averaged. Coordinates have their origin in the
# cell's center and count eighths of a pixel; sub-pixel centers are odd numbers, so no edge falls on one of them.
SUPERSAMPLING: Final = 4
UNITS_PER_PIXEL: Final = 2 * SUPERSAMPLING

Coverage = NDArray[np.int64]
Pixels = NDArray[np.uint8]


class Cell(NamedTuple):
    """A place in the grid; both counts start at 1, rows from the top and columns from the left."""

    row: int
    column: int

    def __str__(self) -> str:
        return f"row {self.row} column {self.column}"

    def step(self, rows: int, columns: int) -> "Cell":
        return Cell(self.row + rows, self.column + columns)

    @property
    def inside(self) -> bool:
        return 1 <= self.row <= GRID and 1 <= self.column <= GRID


CELLS: Final = tuple(Cell(row, column) for row in range(1, GRID + 1) for column in range(1, GRID + 1))


@dataclass(frozen=True)
class Object:
    """A colored shape, the only thing that the questions call an object."""

    color: str
    shape: str

    def __str__(self) -> str:
        return f"{self.color} {self.shape}"


@dataclass(frozen=True)
class Number:
    """A drawn number of one or two digits."""

    value: int

    def __str__(self) -> str:
        return f"number {self.value}"


@dataclass(frozen=True)
class Dial:
    """A dial with one hand, `angle` degrees clockwise from straight up."""

    angle: int

    def __str__(self) -> str:
        return f"dial {self.angle}"


Content = Object | Number | Dial


@dataclass(frozen=True)
class Scene:
    """What lies in which cell; cells without an entry are empty."""

    contents: tuple[tuple[Cell, Content], ...]

    @classmethod
    def of(cls, contents: dict[Cell, Content]) -> "Scene":
        return cls(tuple(sorted(contents.items(), key=lambda entry: entry[0])))

    def canonical(self) -> str:
        """The scene as JSON, the same text for the same scene: `[[1,3,"red circle"],[2,1,"number 47"]]`."""
        entries = [[cell.row, cell.column, str(content)] for cell, content in self.contents]
        return json.dumps(entries, separators=(",", ":"))

    @classmethod
    def from_canonical(cls, text: str) -> "Scene":
        """The scene that `canonical` wrote as `text`."""
        return cls(tuple((Cell(row, column), _parse_content(name)) for row, column, name in json.loads(text)))

    def digest(self) -> str:
        """SHA-256 of the canonical JSON, in hexadecimal."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()

    def draw(self) -> Image.Image:
        """The scene as an RGB image of 112 × 112 pixels, with a dark frame."""
        contents = dict(self.contents)
        places = [[Cell(row, column) for column in range(1, GRID + 1)] for row in range(1, GRID + 1)]
        tiles = [[_tile(cell, contents.get(cell)) for cell in line] for line in places]
        pixels = np.concatenate([np.concatenate(line, axis=1) for line in tiles], axis=0)
        pixels[[0, -1]] = INK
        pixels[:, [0, -1]] = INK
        return Image.fromarray(pixels)


def _parse_content(name: str) -> Content:
    match name.split():
        case ["number", value]:
            return Number(int(value))
        case ["dial", angle]:
            return Dial(int(angle))
        case [color, shape]:
            return Object(color, shape)
        case _:
            raise ValueError(f"{name!r} is nothing that a scene shows")


def blank_image() -> Image.Image:
    """A white image of a scene's size: what a model gets when its blind accuracy is measured."""
    return Image.new("RGB", (IMAGE_PIXELS, IMAGE_PIXELS), PAPER)


@cache
def _tile(cell: Cell, content: Content | None) -> Pixels:
    """One cell, (28, 28, 3): content, grid lines, and as many ticks on its left and upper edge as its row and column.

    The ticks say from which corner rows and columns count, and make a cell's place something that is seen in it.
    """
    tile = np.full((CELL_PIXELS, CELL_PIXELS, 3), PAPER, dtype=np.uint8)
    tile[[0, -1]] = GRID_LINE
    tile[:, [0, -1]] = GRID_LINE
    for tick in range(cell.row):
        tile[_tick_extent(tick), :TICK_LENGTH] = INK
    for tick in range(cell.column):
        tile[:TICK_LENGTH, _tick_extent(tick)] = INK
    match content:
        case Object(color, shape):
            return _paint(tile, _shape_coverage(shape), COLORS[color])
        case Number(value):
            return _paint(tile, _number_coverage(value), INK)
        case Dial(angle):
            return _paint(tile, _dial_coverage(angle), INK)
        case None:
            return tile


def _tick_extent(tick: int) -> slice:
    """The pixels along the edge that a tick covers; the corner stays free."""
    start = 2 * TICK_LENGTH + tick * TICK_PITCH
    return slice(start, start + TICK_WIDTH)


def _paint(tile: Pixels, coverage: Coverage, color: tuple[int, int, int]) -> Pixels:
    full = SUPERSAMPLING**2
    weight = coverage[:, :, None]
    blended = tile.astype(np.int64) * (full - weight) + np.array(color) * weight
    return ((blended + full // 2) // full).astype(np.uint8)


def _coordinates() -> tuple[Coverage, Coverage]:
    """x (to the right) and y (downwards) of every sub-pixel center, in eighths of a pixel from the cell's center."""
    count = CELL_PIXELS * SUPERSAMPLING
    axis = 2 * np.arange(count, dtype=np.int64) + 1 - count
    return axis[None, :], axis[:, None]


def _average(mask: NDArray[np.bool_]) -> Coverage:
    """How many of a pixel's sub-pixels the mask covers, (28, 28), 0 to 16."""
    blocks = mask.reshape(CELL_PIXELS, SUPERSAMPLING, CELL_PIXELS, SUPERSAMPLING)
    coverage: Coverage = blocks.sum(axis=(1, 3), dtype=np.int64)
    return coverage


def _shape_coverage(shape: str) -> Coverage:
    x, y = _coordinates()
    unit = UNITS_PER_PIXEL
    match shape:
        case "circle":
            mask = x**2 + y**2 <= (10 * unit) ** 2
        case "square":
            mask = np.maximum(abs(x), abs(y)) <= 9 * unit
        case "triangle":
            top, bottom = -10 * unit, 9 * unit
            mask = (abs(x) * (bottom - top) <= 10 * unit * (y - top)) & (y <= bottom)
        case "diamond":
            mask = abs(x) + abs(y) <= 11 * unit
        case "cross":
            mask = (np.minimum(abs(x), abs(y)) <= 3 * unit) & (np.maximum(abs(x), abs(y)) <= 10 * unit)
        case _:
            raise ValueError(f"unknown shape {shape!r}; the shapes are {', '.join(SHAPES)}")
    return _average(mask)


def _dial_coverage(angle: int) -> Coverage:
    x, y = _coordinates()
    unit = UNITS_PER_PIXEL
    sine, cosine = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    along, across = x * sine - y * cosine, x * cosine + y * sine
    radius = x**2 + y**2
    rim = (radius <= (12 * unit) ** 2) & (radius >= (10.5 * unit) ** 2)
    hand = (along >= 0) & (along <= 9 * unit) & (abs(across) <= 1.75 * unit)
    return _average(rim | hand)


def _number_coverage(value: int) -> Coverage:
    bits = [np.array([[line >> shift & 1 for shift in (2, 1, 0)] for line in DIGITS[digit]]) for digit in str(value)]
    glyphs = [np.kron(digit, np.ones((DIGIT_SCALE, DIGIT_SCALE), dtype=np.int64)) for digit in bits]
    gap = np.zeros((glyphs[0].shape[0], DIGIT_GAP_PIXELS), dtype=np.int64)
    line = np.concatenate([part for glyph in glyphs for part in (gap, glyph)][1:], axis=1)
    coverage = np.zeros((CELL_PIXELS, CELL_PIXELS), dtype=np.int64)
    top, left = (CELL_PIXELS - line.shape[0]) // 2, (CELL_PIXELS - line.shape[1]) // 2
    coverage[top : top + line.shape[0], left : left + line.shape[1]] = line * SUPERSAMPLING**2
    return coverage
