"""The four kinds of question of `shapes_prior`.

A kind has wordings, each of which suggests one of its answers. Wording and answer are chosen first, then a scene is
built in which the answer is true; nothing else in the scene depends on the wording.

A solution states the guess, searches cell by cell and reads what is there, in the forms that solutions of `shapes`
have: a model of the size of `avar-tiny` does not learn another way of looking in a few hundred steps. For the same
reason yes and no follow from one attribute after the other ("-" where the cell has not got it), not from comparing two
objects, and a color or a shape is not said again after "so": that was learnt as a copy of the guess, also when what was
read differs.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from avar_eval.tasks.shapes.questions import CHECK, DIRECTIONS, LOOK, OBJECTS, Canvas, Question, Thought
from avar_eval.tasks.shapes.scene import CELLS, COLORS, SHAPES, Cell, Content, Object

USUAL_COLOR: Final = dict(zip(SHAPES, ("red", "blue", "green", "purple", "yellow"), strict=True))
USUAL_SHAPE: Final = {color: shape for shape, color in USUAL_COLOR.items()}
LEADING: Final = {"negated": "yes", "doubting": "no"}


@dataclass(frozen=True)
class PriorKind:
    """A kind of question. suggests: wording -> the answer it suggests; steps: facts to read off the image."""

    name: str
    steps: int
    answers: tuple[str, ...]
    suggests: Mapping[str, str]
    build: Callable[[random.Random, str, str], Question]

    @property
    def chance(self) -> float:
        """The accuracy of any constant answer, and of the wording, where answers are independent of the wording."""
        return 1 / len(self.answers)


def _guess(suggested: str) -> Thought:
    return Thought(f"so {suggested}?")


def _search(found: Cell, entry: str) -> str:
    """Cells in reading order as far as `found`, which has the entry."""
    return ", ".join([*(f"{cell} -" for cell in CELLS[: CELLS.index(found)]), f"{found} {entry}"])


def _comparison(asked: Object, cell: Cell, shown: Content | None) -> str:
    """Whether the cell shows what is asked for, one attribute after the other, up to the first that it has not."""
    entries: list[str] = []
    for attribute in (asked.color, asked.shape):
        has = isinstance(shown, Object) and attribute in (shown.color, shown.shape)
        entries.append(f"{attribute}: {cell} {attribute if has else '-'}")
        if not has:
            break
    return ", ".join(entries)


def _color(rng: random.Random, shape: str, color: str) -> Question:
    return _attribute(rng, f"What color is the {shape}?", shape, Object(color, shape), USUAL_COLOR[shape])


def _shape(rng: random.Random, color: str, shape: str) -> Question:
    return _attribute(
        rng, f"What shape is the {color} object?", f"{color} object", Object(color, shape), USUAL_SHAPE[color]
    )


def _attribute(rng: random.Random, text: str, named: str, shown: Object, suggested: str) -> Question:
    """The only object that has the named attribute, among others; its other attribute is asked for."""
    color_asked = named == shown.shape
    answer = shown.color if color_asked else shown.shape
    others = [other for other in OBJECTS if (other.shape != shown.shape if color_asked else other.color != shown.color)]
    canvas = Canvas(rng)
    cell = canvas.place(shown)
    canvas.distract(others)
    thoughts = (
        _guess(suggested),
        Thought(f"the {named}: {_search(cell, named.split()[0])}.", LOOK),
        Thought(f"at {cell} {shown}.", CHECK),
    )
    return Question(canvas.scene(), text, answer, thoughts)


def _presence(rng: random.Random, wording: str, answer: str) -> Question:
    """Always with an object of the same color and one of the same shape, so that both have to be seen together.

    Where there is none, the solution takes the first of these two for it and finds out by its other attribute.
    """
    asked = rng.choice(OBJECTS)
    near = (
        Object(asked.color, rng.choice([shape for shape in SHAPES if shape != asked.shape])),
        Object(rng.choice([color for color in COLORS if color != asked.color]), asked.shape),
    )
    canvas = Canvas(rng)
    places = {shown: canvas.place(shown) for shown in ((asked,) if answer == "yes" else near)}
    canvas.scatter(near if answer == "yes" else (rng.choice([other for other in OBJECTS if other != asked]),))
    canvas.distract([other for other in OBJECTS if other != asked], at_most=4)
    text = {"negated": f"Isn't there a {asked}?", "doubting": f"Is there really a {asked}?"}[wording]
    taken_for = min(places, key=places.__getitem__)
    thoughts = (
        _guess(LEADING[wording]),
        Thought(f"the {asked} {places[taken_for]}?", LOOK),
        Thought(f"{_comparison(asked, places[taken_for], taken_for)}, so {answer}.", CHECK),
    )
    return Question(canvas.scene(), text, answer, thoughts)


def _relation(rng: random.Random, wording: str, answer: str) -> Question:
    """The two objects are always neighbors; asked is the true direction or one of the three others."""
    first, second = rng.sample(OBJECTS, 2)
    true = rng.choice(tuple(DIRECTIONS))
    asked = true if answer == "yes" else rng.choice([direction for direction in DIRECTIONS if direction != true])
    step = DIRECTIONS[true]
    place = rng.choice([cell for cell in CELLS if cell.step(*step).inside])
    beside = place.step(*step)
    canvas = Canvas(rng)
    canvas.place(second, place)
    canvas.place(first, beside)
    canvas.distract([other for other in OBJECTS if other not in (first, second)])
    text = {
        "negated": f"Isn't the {first} directly {asked} the {second}?",
        "doubting": f"Is the {first} really directly {asked} the {second}?",
    }[wording]
    there = place.step(*DIRECTIONS[asked])
    seen = _comparison(first, there, canvas.contents.get(there)) if there.inside else "-"
    thoughts = (
        _guess(LEADING[wording]),
        Thought(f"the {second} {place}.", LOOK),
        Thought(f"{seen}, so {answer}.", CHECK),
    )
    return Question(canvas.scene(), text, answer, thoughts)


KINDS: Final = (
    PriorKind("color", 2, tuple(COLORS), USUAL_COLOR, _color),
    PriorKind("shape", 2, SHAPES, USUAL_SHAPE, _shape),
    PriorKind("presence", 1, ("yes", "no"), LEADING, _presence),
    PriorKind("relation", 2, ("yes", "no"), LEADING, _relation),
)
"""In the order in which they take turns in a split."""
