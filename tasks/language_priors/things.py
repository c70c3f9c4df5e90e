"""The things of `language_priors`: simple figures, each mostly of one color that can be any."""

from collections.abc import Callable
from typing import Final

from avar_eval.tasks.language_priors.drawing import COLORS, INK, Pen, Rgb

Figure = Callable[[Pen, Rgb], None]
"""Draws a thing in its box of 100 × 100 units; the color is that of most of it."""

STEM: Final[Rgb] = (96, 72, 48)
PALE: Final[Rgb] = (236, 236, 226)


def _eye(pen: Pen, x: float, y: float, radius: float = 3.5) -> None:
    pen.circle(PALE, x, y, radius + 1.5)
    pen.circle(INK, x, y, radius)


def _banana(pen: Pen, color: Rgb) -> None:
    outer = ((12, 22), (16, 48), (28, 68), (46, 80), (68, 84), (88, 76), (94, 66))
    inner = ((90, 64), (70, 66), (52, 60), (38, 48), (28, 34), (22, 20))
    pen.polygon(color, *outer, *inner)
    pen.polygon(STEM, (10, 10), (18, 8), (22, 21), (12, 23))
    pen.circle(STEM, 92, 67, 4)


def _frog(pen: Pen, color: Rgb) -> None:
    for x in (26, 74):
        pen.ellipse(color, x, 74, 24, 14)
        pen.circle(color, x + (6 if x < 50 else -6), 24, 14)
    pen.ellipse(color, 50, 58, 32, 30)
    pen.ellipse(color, 50, 38, 32, 20)
    _eye(pen, 32, 23, 5)
    _eye(pen, 68, 23, 5)
    pen.line(INK, 3, (32, 43), (42, 49), (58, 49), (68, 43))
    for x in (30, 70):
        pen.line(color, 8, (x, 80), (x - 14, 90))
        pen.line(color, 8, (x, 80), (x + 14, 90))


def _strawberry(pen: Pen, color: Rgb) -> None:
    pen.polygon(color, (14, 34), (30, 24), (70, 24), (86, 34), (84, 52), (70, 76), (50, 94), (30, 76), (16, 52))
    for x, y in ((32, 42), (50, 40), (68, 42), (40, 56), (60, 56), (50, 72)):
        pen.ellipse(PALE, x, y, 2, 3.5)
    pen.polygon(INK, (50, 8), (56, 20), (76, 18), (64, 28), (60, 36), (50, 28), (40, 36), (36, 28), (24, 18), (44, 20))


def _carrot(pen: Pen, color: Rgb) -> None:
    pen.polygon(color, (30, 32), (40, 26), (60, 26), (70, 32), (66, 54), (50, 97), (34, 54))
    pen.line(INK, 2, (36, 46), (48, 46))
    pen.line(INK, 2, (64, 58), (53, 58))
    pen.line(INK, 2, (42, 68), (50, 68))
    for x, y in ((30, 6), (42, 2), (58, 2), (70, 6)):
        pen.line(INK, 5, (50, 27), (x, y))


def _sun(pen: Pen, color: Rgb) -> None:
    pen.circle(color, 50, 50, 26)
    for x, y in ((50, 4), (83, 17), (96, 50), (83, 83), (50, 96), (17, 83), (4, 50), (17, 17)):
        across, down = (x - 50) / 46, (y - 50) / 46
        base_x, base_y = 50 + 30 * across, 50 + 30 * down
        pen.polygon(color, (x, y), (base_x - 8 * down, base_y + 8 * across), (base_x + 8 * down, base_y - 8 * across))


def _lemon(pen: Pen, color: Rgb) -> None:
    pen.ellipse(color, 50, 54, 36, 27, -20)
    pen.polygon(color, (80, 28), (95, 30), (88, 46))
    pen.polygon(color, (20, 62), (5, 78), (22, 80))
    pen.ellipse(INK, 64, 22, 14, 6, -30)


def _pumpkin(pen: Pen, color: Rgb) -> None:
    for x in (26, 74):
        pen.ellipse(color, x, 58, 22, 32)
    pen.ellipse(color, 50, 58, 24, 34)
    for x, bend in ((36, -6), (64, 6)):
        pen.line(INK, 2, (x, 28), (x + bend, 58), (x, 88))
    pen.polygon(STEM, (44, 28), (46, 8), (58, 6), (56, 28))


def _tree(pen: Pen, color: Rgb) -> None:
    pen.rectangle(STEM, 43, 58, 57, 98)
    for x, y, radius in ((50, 24, 22), (28, 40, 22), (72, 40, 22), (50, 48, 24)):
        pen.circle(color, x, y, radius)


def _leaf(pen: Pen, color: Rgb) -> None:
    pen.polygon(color, (92, 8), (94, 40), (84, 66), (62, 82), (36, 82), (18, 74), (20, 48), (36, 24), (62, 10))
    pen.line(INK, 3, (6, 92), (22, 76), (80, 20))
    for x, y in ((40, 58), (56, 43)):
        pen.line(INK, 2, (x, y), (x + 2, y - 20))
        pen.line(INK, 2, (x, y), (x + 20, y + 2))


def _cloud(pen: Pen, color: Rgb) -> None:
    for x, y, radius in ((26, 58, 20), (46, 44, 24), (68, 50, 20), (80, 62, 15)):
        pen.circle(color, x, y, radius)
    pen.rectangle(color, 26, 56, 80, 78)


def _pig(pen: Pen, color: Rgb) -> None:
    for x in (28, 40, 60, 70):
        pen.rectangle(color, x, 70, x + 8, 92)
    pen.ellipse(color, 48, 58, 34, 24)
    pen.circle(color, 78, 44, 18)
    pen.polygon(color, (66, 32), (66, 14), (80, 26))
    pen.ellipse(INK, 93, 48, 5, 8)
    _eye(pen, 78, 40, 3)
    pen.line(color, 4, (14, 54), (6, 48), (10, 42), (4, 36))


def _crow(pen: Pen, color: Rgb) -> None:
    pen.polygon(color, (2, 66), (34, 50), (40, 66), (8, 80))
    pen.ellipse(color, 48, 56, 26, 18, -20)
    pen.circle(color, 72, 34, 16)
    pen.polygon((150, 130, 80), (84, 26), (99, 36), (84, 42))
    pen.polygon(color, (30, 46), (58, 50), (28, 80))
    _eye(pen, 75, 31, 3)
    for x in (46, 56):
        pen.line((150, 130, 80), 3, (x, 72), (x, 94), (x + 8, 94))


def _elephant(pen: Pen, color: Rgb) -> None:
    for x in (16, 32, 50, 62):
        pen.rectangle(color, x, 62, x + 12, 92)
    pen.ellipse(color, 42, 48, 34, 28)
    pen.circle(color, 76, 38, 18)
    pen.line(color, 10, (88, 44), (93, 62), (92, 78), (84, 82))
    pen.ellipse(INK, 64, 38, 11, 16)
    pen.ellipse(color, 64, 38, 9, 14)
    _eye(pen, 82, 33, 3)
    pen.line(color, 4, (10, 44), (3, 60))


def _heart(pen: Pen, color: Rgb) -> None:
    pen.circle(color, 30, 34, 23)
    pen.circle(color, 70, 34, 23)
    pen.polygon(color, (10.5, 46), (30, 34), (50, 26), (70, 34), (89.5, 46), (50, 94))


def _swan(pen: Pen, color: Rgb) -> None:
    pen.polygon(color, (2, 44), (30, 54), (60, 56), (82, 66), (78, 82), (60, 90), (30, 88), (12, 74))
    pen.line(color, 11, (74, 74), (80, 56), (68, 40), (66, 24), (76, 16))
    pen.circle(color, 76, 16, 9)
    pen.polygon((230, 120, 30), (83, 12), (98, 20), (82, 23))
    pen.circle(INK, 78, 14, 2.5)


def _egg(pen: Pen, color: Rgb) -> None:
    pen.ellipse(color, 50, 60, 32, 34)
    pen.polygon(color, (18, 60), (22, 38), (34, 16), (44, 8), (56, 8), (66, 16), (78, 38), (82, 60))


def _cherry(pen: Pen, color: Rgb) -> None:
    pen.line(STEM, 4, (28, 66), (40, 34), (62, 8))
    pen.line(STEM, 4, (72, 66), (70, 36), (62, 8))
    pen.circle(color, 28, 72, 23)
    pen.circle(color, 74, 72, 23)
    pen.ellipse(INK, 78, 12, 16, 6, 15)


def _snowman(pen: Pen, color: Rgb) -> None:
    pen.circle(color, 50, 72, 26)
    pen.circle(color, 50, 38, 19)
    pen.rectangle(INK, 34, 18, 66, 23)
    pen.rectangle(INK, 40, 3, 60, 20)
    pen.circle(INK, 43, 34, 2.5)
    pen.circle(INK, 57, 34, 2.5)
    pen.polygon((230, 120, 30), (50, 38), (64, 42), (50, 44))
    for y in (62, 74):
        pen.circle(INK, 50, y, 2.5)
    pen.line(STEM, 3, (28, 62), (6, 46))
    pen.line(STEM, 3, (72, 62), (94, 46))


def _apple(pen: Pen, color: Rgb) -> None:
    pen.ellipse(color, 35, 58, 25, 33)
    pen.ellipse(color, 65, 58, 25, 33)
    pen.line(STEM, 5, (50, 30), (54, 8))
    pen.ellipse(INK, 68, 14, 13, 6, -20)


def _tomato(pen: Pen, color: Rgb) -> None:
    pen.ellipse(color, 50, 58, 42, 35)
    for x, y in ((30, 18), (40, 36), (60, 36), (70, 18), (50, 12)):
        pen.line(INK, 5, (50, 24), (x, y))


def _cactus(pen: Pen, color: Rgb) -> None:
    pen.line(color, 20, (50, 16), (50, 84))
    pen.line(color, 12, (50, 60), (22, 60), (22, 36))
    pen.line(color, 12, (50, 48), (78, 48), (78, 24))
    pen.polygon(STEM, (28, 80), (72, 80), (66, 99), (34, 99))


def _broccoli(pen: Pen, color: Rgb) -> None:
    pen.polygon(color, (42, 48), (58, 48), (62, 96), (38, 96))
    pen.line(color, 9, (44, 72), (26, 54))
    pen.line(color, 9, (56, 72), (74, 54))
    for x, y in ((20, 44), (34, 26), (50, 18), (66, 26), (80, 44), (36, 46), (64, 46), (50, 36)):
        pen.circle(color, x, y, 14)
    for x, y in ((30, 34), (52, 22), (68, 36), (46, 42)):
        pen.circle(INK, x, y, 2)


def _eggplant(pen: Pen, color: Rgb) -> None:
    pen.ellipse(color, 40, 66, 27, 30, 20)
    pen.ellipse(color, 58, 42, 17, 24, 30)
    pen.polygon(INK, (52, 26), (66, 10), (86, 28), (80, 46), (72, 36), (62, 38))
    pen.line(INK, 7, (75, 20), (88, 5))


def _bear(pen: Pen, color: Rgb) -> None:
    for x in (22, 78):
        pen.circle(color, x, 22, 15)
    pen.ellipse(color, 50, 54, 42, 38)
    pen.ellipse(PALE, 50, 68, 18, 14)
    pen.ellipse(INK, 50, 61, 7, 5)
    pen.line(INK, 2.5, (42, 74), (50, 70), (58, 74))
    _eye(pen, 34, 44)
    _eye(pen, 66, 44)


def _mouse(pen: Pen, color: Rgb) -> None:
    pen.line(STEM, 3, (18, 74), (4, 64), (8, 48), (2, 40))
    pen.ellipse(color, 46, 64, 34, 24)
    pen.polygon(color, (62, 44), (98, 70), (64, 86))
    pen.circle(color, 62, 38, 15)
    pen.circle(INK, 62, 38, 7)
    pen.circle(INK, 97, 70, 3.5)
    _eye(pen, 77, 59, 2.5)
    for x in (34, 58):
        pen.ellipse(color, x, 87, 9, 4)


def _chick(pen: Pen, color: Rgb) -> None:
    pen.circle(color, 44, 60, 29)
    pen.circle(color, 64, 30, 19)
    pen.polygon((230, 120, 30), (80, 24), (96, 31), (80, 38))
    pen.polygon(INK, (24, 54), (46, 56), (30, 70))
    _eye(pen, 68, 26, 3)
    for x in (38, 52):
        pen.line((230, 120, 30), 3, (x, 87), (x, 97), (x + 8, 97))


def _fire_truck(pen: Pen, color: Rgb) -> None:
    pen.rectangle(color, 4, 40, 66, 76)
    pen.polygon(color, (68, 32), (88, 32), (97, 52), (97, 76), (68, 76))
    pen.polygon(PALE, (74, 38), (86, 38), (92, 52), (74, 52))
    for y in (22, 32):
        pen.line(INK, 2.5, (2, y), (64, y))
    for x in (6, 18, 30, 42, 54):
        pen.line(INK, 2.5, (x, 22), (x, 32))
    pen.rectangle(COLORS["blue"], 74, 25, 82, 32)
    for x in (20, 80):
        pen.circle(INK, x, 78, 11)
        pen.circle(PALE, x, 78, 5)


def _grapes(pen: Pen, color: Rgb) -> None:
    pen.line(STEM, 5, (50, 24), (54, 4))
    pen.ellipse(INK, 68, 14, 14, 7, 15)
    for row, count in enumerate((4, 3, 2, 1)):
        for place in range(count):
            x, y = 50 + 20 * (place - (count - 1) / 2), 34 + 18 * row
            pen.circle(INK, x, y, 12)
            pen.circle(color, x, y, 10.5)


def _house(pen: Pen, color: Rgb) -> None:
    pen.rectangle(color, 16, 44, 84, 96)
    pen.polygon(INK, (6, 46), (50, 8), (94, 46))
    pen.rectangle(STEM, 42, 66, 58, 96)
    for x in (22, 64):
        pen.rectangle(PALE, x, 54, x + 14, 68)


def _car(pen: Pen, color: Rgb) -> None:
    pen.polygon(color, (20, 50), (32, 28), (68, 28), (82, 50))
    pen.polygon(color, (3, 50), (92, 48), (98, 58), (98, 74), (3, 74))
    pen.polygon(PALE, (28, 48), (36, 33), (48, 33), (48, 48))
    pen.polygon(PALE, (53, 48), (53, 33), (65, 33), (74, 48))
    for x in (24, 76):
        pen.circle(INK, x, 75, 12)
        pen.circle(PALE, x, 75, 5)


def _fish(pen: Pen, color: Rgb) -> None:
    pen.ellipse(color, 56, 52, 34, 22)
    pen.polygon(color, (28, 52), (4, 30), (10, 52), (4, 74))
    pen.polygon(color, (44, 36), (62, 18), (70, 34))
    _eye(pen, 76, 46)
    pen.line(INK, 2.5, (64, 38), (60, 52), (64, 66))


def _whale(pen: Pen, color: Rgb) -> None:
    pen.polygon(color, (20, 56), (6, 48), (0, 30), (13, 34), (22, 22), (26, 42), (36, 58))
    pen.ellipse(color, 60, 64, 38, 26)
    pen.polygon(PALE, (40, 84), (64, 78), (94, 74), (82, 86), (62, 90))
    _eye(pen, 82, 60, 3)
    pen.line(color, 4, (64, 38), (64, 22), (56, 14))
    pen.line(color, 4, (64, 38), (64, 22), (72, 14))


def _boat(pen: Pen, color: Rgb) -> None:
    pen.polygon(color, (4, 66), (96, 66), (80, 92), (20, 92))
    pen.rectangle(STEM, 47, 6, 52, 66)
    pen.polygon(PALE, (54, 8), (88, 58), (54, 58))
    pen.polygon(PALE, (45, 16), (45, 58), (18, 58))


def _moon(pen: Pen, color: Rgb) -> None:
    pen.polygon(
        color,
        *(
            (48 + x, 50 + y)
            for x, y in (
                (14, -44),
                (-10, -44),
                (-32, -30),
                (-42, -6),
                (-36, 20),
                (-18, 38),
                (6, 44),
                (30, 36),
                (42, 20),
                (20, 22),
                (2, 12),
                (-6, -6),
                (-2, -26),
            )
        ),
    )


def _bird(pen: Pen, color: Rgb) -> None:
    pen.polygon(color, (4, 40), (34, 52), (26, 68))
    pen.ellipse(color, 50, 58, 30, 18)
    pen.polygon(color, (34, 54), (58, 54), (30, 12))
    pen.circle(color, 78, 44, 13)
    pen.polygon((230, 120, 30), (89, 38), (99, 46), (89, 49))
    _eye(pen, 80, 41, 2.5)


def _flower(pen: Pen, color: Rgb) -> None:
    pen.line(STEM, 5, (50, 40), (50, 98))
    pen.ellipse(STEM, 62, 80, 14, 5, -30)
    for x, y in ((50, 14), (72, 30), (64, 56), (36, 56), (28, 30)):
        pen.circle(color, x, y, 14)
    pen.circle(INK, 50, 37, 10)


def _flamingo(pen: Pen, color: Rgb) -> None:
    pen.line(STEM, 3, (44, 60), (44, 98), (52, 98))
    pen.line(STEM, 3, (52, 60), (58, 76), (46, 78))
    pen.ellipse(color, 42, 54, 28, 15, -12)
    pen.polygon(color, (4, 56), (26, 44), (26, 66))
    pen.line(color, 8, (64, 50), (76, 38), (68, 24), (72, 10), (82, 9))
    pen.circle(color, 82, 11, 8)
    pen.polygon(INK, (88, 6), (98, 14), (94, 24), (88, 15))
    pen.circle(INK, 83, 9, 2)


def _school_bus(pen: Pen, color: Rgb) -> None:
    pen.rectangle(color, 3, 26, 80, 76)
    pen.rectangle(color, 80, 50, 98, 76)
    for x in (9, 26, 43, 60):
        pen.rectangle(PALE, x, 33, x + 13, 47)
    pen.rectangle(INK, 3, 56, 80, 60)
    for x in (22, 78):
        pen.circle(INK, x, 77, 11)
        pen.circle(PALE, x, 77, 5)


def _pine_tree(pen: Pen, color: Rgb) -> None:
    pen.rectangle(STEM, 44, 80, 56, 99)
    for top, half, bottom in ((2, 22, 34), (20, 32, 58), (42, 42, 84)):
        pen.polygon(color, (50, top), (50 + half, bottom), (50 - half, bottom))


def _chocolate(pen: Pen, color: Rgb) -> None:
    pen.rectangle(PALE, 18, 66, 82, 98)
    for row in range(3):
        for column in range(3):
            left, top = 20 + 21 * column, 4 + 21 * row
            pen.rectangle(color, left, top, left + 19, top + 19)
    pen.polygon(PALE, (18, 66), (82, 58), (82, 70), (18, 70))


FIGURES: Final[dict[str, Figure]] = {
    "apple": _apple,
    "banana": _banana,
    "bear": _bear,
    "bird": _bird,
    "boat": _boat,
    "broccoli": _broccoli,
    "bunch of grapes": _grapes,
    "cactus": _cactus,
    "car": _car,
    "carrot": _carrot,
    "cherry": _cherry,
    "chick": _chick,
    "chocolate bar": _chocolate,
    "cloud": _cloud,
    "crow": _crow,
    "egg": _egg,
    "eggplant": _eggplant,
    "elephant": _elephant,
    "fire truck": _fire_truck,
    "fish": _fish,
    "flamingo": _flamingo,
    "flower": _flower,
    "frog": _frog,
    "heart": _heart,
    "house": _house,
    "leaf": _leaf,
    "lemon": _lemon,
    "moon": _moon,
    "mouse": _mouse,
    "pig": _pig,
    "pine tree": _pine_tree,
    "pumpkin": _pumpkin,
    "school bus": _school_bus,
    "snowman": _snowman,
    "strawberry": _strawberry,
    "sun": _sun,
    "swan": _swan,
    "tomato": _tomato,
    "tree": _tree,
    "whale": _whale,
}
"""name -> how it is drawn"""

USUAL_COLOR: Final[dict[str, str]] = {
    "apple": "red",
    "banana": "yellow",
    "bunch of grapes": "purple",
    "carrot": "orange",
    "cherry": "red",
    "chocolate bar": "brown",
    "crow": "black",
    "fire truck": "red",
    "flamingo": "pink",
    "leaf": "green",
    "mouse": "gray",
    "pine tree": "green",
    "school bus": "yellow",
    "snowman": "white",
    "strawberry": "red",
    "swan": "white",
    "tomato": "red",
    "tree": "green",
    "whale": "blue",
}
"""thing -> the color that its name suggests, to SmolLM2-135M too: of other figures it does not know a color"""
