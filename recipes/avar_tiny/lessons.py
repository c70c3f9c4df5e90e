"""What `avar-tiny` is taught, one example after the other: descriptions of scenes, places of things, questions."""

import random
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from avar_eval.recipes.avar_tiny.tokenizer import DESCRIBE, LOCATE, TURN_END_TOKEN
from avar_eval.recipes.avar_tiny.vision_tower import crowded_scene
from avar_eval.tasks.shapes.dataset import Row, prompt, rows
from avar_eval.tasks.shapes.questions import LETTERS, scan
from avar_eval.tasks.shapes.scene import CELLS, COLORS, SHAPES, Cell, Content, Dial, Number, Object, Scene

LOCATIONS: Final = 0.3
"""The share of the lessons about scenes that ask for places."""


@dataclass(frozen=True)
class Example:
    """One turn of the user with an image, and what the model is to answer."""

    scene: Scene
    request: str
    response: str


def description(scene: Scene, letters: Mapping[str, str] | None = None, start: Cell = CELLS[0]) -> Example:
    """A scene with a description of all its cells.

    start: the first cell to be described. Where it varies, a cell has to be found by its name, not by its turn.

    letters: of some colors or shapes, which are then options; an object that shows one of them is followed by its
    option, so that reading and choosing are learnt together.
    """
    letters = letters or {}
    request = "\n".join([DESCRIBE, *(f"({letter}) {choice}" for choice, letter in letters.items())])
    entries = {cell: _with_option(str(content), letters) for cell, content in scene.contents}
    return Example(scene, request, f" {scan(entries, start)}, that is all.{TURN_END_TOKEN}")


def _with_option(content: str, letters: Mapping[str, str]) -> str:
    degrees = " degrees" if content.startswith("dial") else ""
    return "".join(
        [content, degrees, *(f", {word} is ({letters[word]}) {word}" for word in content.split() if word in letters)]
    )


def location(scene: Scene, rng: random.Random) -> Example:
    """Where the objects and the dial are that are there once, in random order: a cell is found by what is in it."""
    names = Counter(_name(content) for _, content in scene.contents)
    places = [
        f" the {name} {cell}"
        for cell, content in scene.contents
        if (name := _name(content)) is not None and names[name] == 1
    ]
    rng.shuffle(places)
    return Example(scene, LOCATE, f"{','.join(places)}.{TURN_END_TOKEN}")


def _name(content: Content) -> str | None:
    match content:
        case Object():
            return str(content)
        case Dial():
            return "dial"
        case Number():
            return None


def reasoning(row: Row) -> Example:
    """A question with its solution and answer."""
    response = f"<think>{row['solution']}</think><answer>{row['answer']}</answer>{TURN_END_TOKEN}"
    return Example(Scene.from_canonical(row["scene"]), prompt(row), response)


def lessons(
    seed: int, count: int, described: int, later_descriptions: float, *, anchors: bool = True
) -> Iterator[Example]:
    """`described` lessons about scenes, then questions with such a lesson now and then, so that none is forgotten.

    Every row of the train split comes once at the most. anchors: whether solutions have visual anchors.
    """
    rng = random.Random(seed)
    for index, row in enumerate(rows("train", count, seed=seed, anchors=anchors)):
        if index < described or rng.random() < later_descriptions:
            scene = crowded_scene(rng)
            asks_for_places = rng.random() < LOCATIONS
            yield location(scene, rng) if asks_for_places else description(scene, _options(rng), rng.choice(CELLS))
        else:
            yield reasoning(row)


def _options(rng: random.Random) -> dict[str, str]:
    """None to four colors or shapes with letters. A single option teaches to copy it, several to choose one."""
    count = rng.randint(0, len(LETTERS))
    features = rng.sample(rng.choice([list(COLORS), list(SHAPES)]), count)
    return dict(zip(features, sorted(rng.sample(LETTERS, count)), strict=True))
