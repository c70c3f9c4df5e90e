"""Descriptions and short questions about any scene of `shapes`."""

import random

from avar_eval.recipes.world.turns import Turn, at_once
from avar_eval.tasks.shapes.dataset import Split, scene_split
from avar_eval.tasks.shapes.questions import OBJECTS
from avar_eval.tasks.shapes.scene import ANGLES, CELLS, COLORS, GRID, SHAPES, Cell, Content, Dial, Number, Object, Scene
from avar_eval.tasks.shapes_english.solutions import content_words, place


def crowded(rng: random.Random, split: Split) -> Scene:
    """A scene of a split with more in it than any question has, of a density of its own."""
    while True:
        density = rng.uniform(0.4, 1.0)
        scene = Scene.of({cell: _content(rng) for cell in CELLS if rng.random() < density})
        if scene_split(scene) == split:
            return scene


def _content(rng: random.Random) -> Content:
    contents = (rng.choice(OBJECTS), Number(rng.randint(1, 99)), Dial(rng.choice(ANGLES)))
    return rng.choices(contents, weights=(6, 4, 2))[0]


def described(scene: Scene, rng: random.Random) -> Turn:
    """All cells, row by row or column by column, or one of these alone."""
    by_row = rng.random() < 0.5
    line = "row" if by_row else "column"
    if rng.random() < 0.3:
        number = rng.randint(1, GRID)
        return Turn(rng.choice(_ONE_LINE).format(line, number), _line(scene, number, by_row) + ".")
    lines = [f"{line.capitalize()} {number}: {_line(scene, number, by_row)}." for number in range(1, GRID + 1)]
    return Turn(rng.choice(_ALL_LINES).format(line), " ".join(lines))


_ONE_LINE = ("What does {} {} show?", "Describe {} {}.", "What do you see in {} {}?")
_ALL_LINES = ("Describe the picture {0} by {0}.", "What is in the image, {0} by {0}?", "Say what you see in each {0}.")


def _line(scene: Scene, number: int, by_row: bool) -> str:
    contents = dict(scene.contents)
    cells = [Cell(number, other) if by_row else Cell(other, number) for other in range(1, GRID + 1)]
    return ", ".join(content_words(contents.get(cell)) for cell in cells)


def asked_about(scene: Scene, rng: random.Random) -> Turn:
    """What a cell shows, where a thing is, how many there are, or whether there is one, yes as often as no."""
    contents = dict(scene.contents)
    objects = [of for of in contents.values() if isinstance(of, Object)]
    kind = rng.choice(("cell", "where", "count", "presence") if objects else ("cell",))
    if kind == "cell":
        cell = rng.choice(CELLS)
        wording = rng.choice(("What is in {}?", "What do you see in {}?", "Look at {}. What is there?"))
        return Turn(wording.format(place(cell)), content_words(contents.get(cell)))
    if kind == "where":
        thing = rng.choice(objects)
        cells = [place(cell) for cell, of in contents.items() if of == thing]
        wording = rng.choice(("Where do you see a {}?", "In which row and column is a {}?", "Find each {}."))
        return Turn(wording.format(thing), "; ".join(cells))
    if kind == "count":
        feature = rng.choice((*COLORS, *SHAPES))
        plural = f"{feature} objects" if feature in COLORS else "crosses" if feature == "cross" else f"{feature}s"
        wording = rng.choice(("How many {} do you see?", "Count the {}.", "What is the number of {}?"))
        return at_once([wording.format(plural)], str(sum(feature in (of.color, of.shape) for of in objects)), rng)
    there = rng.random() < 0.5
    thing = rng.choice(objects if there else [of for of in OBJECTS if of not in objects])
    wording = rng.choice(("Do you see a {}?", "Is a {} among the objects?", "Does the image show a {}?"))
    return at_once([wording.format(thing)], "yes" if there else "no", rng)
