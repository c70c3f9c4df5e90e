"""The ten kinds of question of `shapes`.

Every kind samples the answer first and then builds a scene for it. So the answer is uniform given the question's
text and its options, and a model that does not see the image has nothing to go by.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from avar_eval.tasks.shapes.scene import ANGLES, CELLS, COLORS, SHAPES, Cell, Content, Dial, Number, Object, Scene

AnswerType = Literal["choice", "number", "word"]

LETTERS: Final = "ABCD"
OBJECTS: Final = tuple(Object(color, shape) for color in COLORS for shape in SHAPES)
DIRECTIONS: Final = {"above": (-1, 0), "below": (1, 0), "left of": (0, -1), "right of": (0, 1)}
POINTING: Final = {0: "above", 90: "right of", 180: "below", 270: "left of"}
MAX_COUNT: Final = 5
NEITHER: Final = "neither"

LOOK: Final = "look at the image again: "
CHECK: Final = "check the image there: "


@dataclass(frozen=True)
class Thought:
    """One sentence of a solution; `anchor` sends the eyes back to the image (VARD) and can be left out."""

    text: str
    anchor: str = ""

    def sentence(self, anchors: bool) -> str:
        text = self.anchor + self.text if anchors else self.text
        return text[0].upper() + text[1:]


@dataclass(frozen=True)
class Question:
    """A question about one scene. `answer` is a letter where there are choices."""

    scene: Scene
    text: str
    answer: str
    thoughts: tuple[Thought, ...]
    choices: tuple[str, ...] = ()

    def solution(self, anchors: bool) -> str:
        """The chain of thought, with or without visual anchors."""
        return " ".join(thought.sentence(anchors) for thought in self.thoughts)


@dataclass(frozen=True)
class Kind:
    """A kind of question.

    `targets` are what is sampled first, uniformly: answers, or a letter and an answer. `steps` counts the facts that
    have to be read off the image one after the other. `chance` is the accuracy of the best constant answer to the
    best known question text.
    """

    name: str
    answer_type: AnswerType
    steps: int
    targets: tuple[str, ...]
    chance: float
    build: Callable[[random.Random, str], Question]


class Canvas:
    """A scene under construction: contents are placed at given or at random free cells."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.contents: dict[Cell, Content] = {}

    def free(self) -> list[Cell]:
        return [cell for cell in CELLS if cell not in self.contents]

    def place(self, content: Content, cell: Cell | None = None) -> Cell:
        cell = cell or self.rng.choice(self.free())
        self.contents[cell] = content
        return cell

    def scatter(self, contents: Sequence[Content]) -> list[Cell]:
        return sorted(self.place(content) for content in contents)

    def distract(self, objects: Sequence[Object], at_most: int = 5) -> None:
        """Place two to `at_most` of `objects`, with repetition, in free cells."""
        self.scatter(self.rng.choices(objects, k=self.rng.randint(2, at_most)))

    def scene(self) -> Scene:
        return Scene.of(self.contents)


def _count(rng: random.Random, target: str) -> Question:
    count = int(target)
    feature = rng.choice((*COLORS, *SHAPES))
    # The number of objects does not depend on the answer.
    total = rng.randint(MAX_COUNT + 1, 9)
    canvas = Canvas(rng)
    hits = canvas.scatter(rng.choices(_having(feature), k=count))
    canvas.scatter(rng.choices(_lacking(feature), k=total - count))
    thoughts = (Thought(_tally(feature, hits), LOOK),)
    return Question(canvas.scene(), f"How many {_plural(feature)} are there?", target, thoughts)


def _attribute(rng: random.Random, target: str) -> Question:
    canvas = Canvas(rng)
    shown = rng.choice(_having(target))
    cell = canvas.place(shown)
    canvas.distract(OBJECTS)
    canvas.scatter((_two_digits(rng), _dial(rng)))
    thoughts = (Thought(f"at {cell} {shown}.", LOOK),)
    return Question(canvas.scene(), f"What {_attribute_name(target)} is the object at {cell}?", target, thoughts)


def _relation(rng: random.Random, target: str) -> Question:
    canvas = Canvas(rng)
    reference = rng.choice(OBJECTS)
    direction = rng.choice(tuple(DIRECTIONS))
    start, goal = _neighbors(rng, direction)
    canvas.place(reference, start)
    options = _surround(canvas, start, goal, target, _without(reference))
    canvas.distract(_without(reference), at_most=3)
    shown, feature = canvas.contents[goal], options[LETTERS.index(target)]
    thoughts = (
        Thought(f"the {reference} {start}.", LOOK),
        Thought(f"at {goal} {shown}, {feature} is ({target}) {feature}.", CHECK),
    )
    text = f"What {_attribute_name(feature)} is the object directly {direction} the {reference}?"
    return Question(canvas.scene(), text, target, thoughts, options)


def _comparison(rng: random.Random, target: str) -> Question:
    letter, verdict = target.split()
    first, second = rng.sample(tuple(rng.choice((tuple(COLORS), SHAPES))), 2)
    many, few = sorted(rng.sample(range(MAX_COUNT), 2), reverse=True)
    counts = {"first": (many, few), "second": (few, many), "same": (many, many)}[verdict]
    canvas = Canvas(rng)
    hits = [
        canvas.scatter(rng.choices(_having(feature), k=count))
        for feature, count in zip((first, second), counts, strict=True)
    ]
    neither = [option for option in _lacking(first) if option in _lacking(second)]
    canvas.scatter(rng.choices(neither, k=rng.randint(1, 4)))
    options = {"first": first, "second": second, "same": NEITHER}
    choices = rng.sample([text for name, text in options.items() if name != verdict], 2)
    choices.insert(LETTERS.index(letter), options[verdict])
    thoughts = (
        Thought(_tally(first, hits[0]), LOOK),
        Thought(_tally(second, hits[1]), LOOK),
        Thought(f"{counts[0]} to {counts[1]}, {options[verdict]} is ({letter}) {options[verdict]}."),
    )
    text = f"Which {_attribute_name(first)} do more objects have, {first} or {second}?"
    return Question(canvas.scene(), text, letter, thoughts, tuple(choices))


def _number(rng: random.Random, target: str) -> Question:
    canvas = Canvas(rng)
    cell = canvas.place(Number(int(target)))
    canvas.scatter((_two_digits(rng), _two_digits(rng)))
    canvas.distract(OBJECTS)
    thoughts = (Thought(f"at {cell} number {target}.", LOOK),)
    return Question(canvas.scene(), f"Which number is written at {cell}?", target, thoughts)


def _angle(rng: random.Random, target: str) -> Question:
    canvas = Canvas(rng)
    cell = canvas.place(Dial(int(target)))
    canvas.place(_two_digits(rng))
    canvas.distract(OBJECTS)
    thoughts = (Thought(f"the dial {cell}.", LOOK), Thought(f"at {cell} dial {target} degrees.", CHECK))
    text = "How many degrees clockwise from straight up does the hand of the dial point?"
    return Question(canvas.scene(), text, target, thoughts)


def _odd_one_out(rng: random.Random, target: str) -> Question:
    canvas = Canvas(rng)
    family = tuple(COLORS) if target in COLORS else SHAPES
    common = rng.choice([feature for feature in family if feature != target])
    odd = rng.choice(_having(target))
    canvas.place(odd)
    canvas.scatter(rng.choices(_having(common), k=rng.randint(4, 8)))
    attribute = _attribute_name(target)
    text = f"All objects but one have the same {attribute}. What {attribute} is the odd one out?"
    thoughts = (Thought(f"most are {common}, one is {target}.", LOOK),)
    return Question(canvas.scene(), text, target, thoughts)


def _sum(rng: random.Random, target: str) -> Question:
    total = int(target)
    canvas = Canvas(rng)
    one = rng.randint(max(1, total - 9), min(9, total - 1))
    (cell, first), (other_cell, second) = sorted((canvas.place(Number(term)), term) for term in (one, total - one))
    canvas.distract(OBJECTS)
    thoughts = (
        Thought(f"the number {cell} number {first}, the number {other_cell} number {second}.", LOOK),
        Thought(f"{first} + {second} = {total}."),
    )
    return Question(canvas.scene(), "What is the sum of the two numbers in the image?", target, thoughts)


def _lookup(rng: random.Random, target: str) -> Question:
    canvas = Canvas(rng)
    reference = rng.choice(OBJECTS)
    direction = rng.choice(tuple(DIRECTIONS))
    start, goal = _neighbors(rng, direction)
    canvas.place(reference, start)
    canvas.place(Number(int(target)), goal)
    beside = [start.step(*step) for step in DIRECTIONS.values()]
    for cell in rng.sample([cell for cell in beside if cell.inside and cell != goal], 1):
        canvas.place(_two_digits(rng), cell)
    canvas.place(_two_digits(rng))
    canvas.distract(_without(reference))
    thoughts = (
        Thought(f"the {reference} {start}.", LOOK),
        Thought(f"at {goal} number {target}.", CHECK),
    )
    return Question(canvas.scene(), f"Which number is directly {direction} the {reference}?", target, thoughts)


def _pointer(rng: random.Random, target: str) -> Question:
    canvas = Canvas(rng)
    angle, direction = rng.choice(tuple(POINTING.items()))
    start, goal = _neighbors(rng, direction)
    canvas.place(Dial(angle), start)
    options = _surround(canvas, start, goal, target, OBJECTS)
    canvas.distract(OBJECTS, at_most=3)
    shown, feature = canvas.contents[goal], options[LETTERS.index(target)]
    thoughts = (
        Thought(f"the dial {start}, at {start} dial {angle} degrees.", LOOK),
        Thought(f"at {goal} {shown}, {feature} is ({target}) {feature}.", CHECK),
    )
    text = f"What {_attribute_name(feature)} is the object that the hand of the dial points to?"
    return Question(canvas.scene(), text, target, thoughts, options)


def _surround(canvas: Canvas, start: Cell, goal: Cell, letter: str, allowed: Sequence[Object]) -> tuple[str, ...]:
    """Four options of one attribute; an object with the right one is placed at `goal`.

    Objects with the wrong ones stand on the other sides of `start`, as far as the grid allows, so that the direction
    has to be read.
    """
    rng = canvas.rng
    family = tuple(rng.choice((tuple(COLORS), SHAPES)))
    options = tuple(rng.sample(family, len(LETTERS)))
    answer = options[LETTERS.index(letter)]
    sides = [start.step(*step) for step in DIRECTIONS.values()]
    others = [cell for cell in sides if cell.inside and cell != goal]
    wrong = rng.sample([option for option in options if option != answer], len(others))
    for cell, feature in [(goal, answer), *zip(others, wrong, strict=True)]:
        canvas.place(rng.choice([candidate for candidate in _having(feature) if candidate in allowed]), cell)
    return options


def _having(feature: str) -> list[Object]:
    return [candidate for candidate in OBJECTS if feature in (candidate.color, candidate.shape)]


def _lacking(feature: str) -> list[Object]:
    return [candidate for candidate in OBJECTS if feature not in (candidate.color, candidate.shape)]


def _without(excluded: Object) -> list[Object]:
    return [candidate for candidate in OBJECTS if candidate != excluded]


def _attribute_name(feature: str) -> str:
    return "color" if feature in COLORS else "shape"


def _plural(feature: str) -> str:
    if feature in COLORS:
        return f"{feature} objects"
    return "crosses" if feature == "cross" else f"{feature}s"


def scan(entries: Mapping[Cell, str], start: Cell = CELLS[0]) -> str:
    """Every cell with its entry, or "-", in reading order from `start`; after the last cell comes the first."""
    first = CELLS.index(start)
    return ", ".join(f"{cell} {entries.get(cell, '-')}" for cell in (*CELLS[first:], *CELLS[:first]))


def _tally(feature: str, hits: list[Cell]) -> str:
    """A look at every cell; those with the feature are numbered."""
    numbered = {cell: f"{feature} {number}" for number, cell in enumerate(hits, start=1)}
    return f"counting {_plural(feature)}: {scan(numbered)}, that makes {len(hits)}."


def _two_digits(rng: random.Random) -> Number:
    return Number(rng.randint(10, 99))


def _dial(rng: random.Random) -> Dial:
    return Dial(rng.choice(ANGLES))


def _neighbors(rng: random.Random, direction: str) -> tuple[Cell, Cell]:
    """A random cell and the one that lies `direction` of it, both in the grid."""
    step = DIRECTIONS[direction]
    start = rng.choice([cell for cell in CELLS if cell.step(*step).inside])
    return start, start.step(*step)


def _texts(values: range | Sequence[int]) -> tuple[str, ...]:
    return tuple(str(value) for value in values)


_VERDICTS = tuple(f"{letter} {verdict}" for letter in "ABC" for verdict in ("first", "second", "same"))

KINDS: Final = (
    Kind("count", "number", 1, _texts(range(MAX_COUNT + 1)), 1 / 6, _count),
    Kind("attribute", "word", 1, (*COLORS, *SHAPES), 1 / 5, _attribute),
    Kind("relation", "choice", 2, tuple(LETTERS), 1 / 4, _relation),
    Kind("comparison", "choice", 2, _VERDICTS, 1 / 3, _comparison),
    Kind("number", "number", 1, _texts(range(10, 100)), 1 / 90, _number),
    Kind("angle", "number", 1, _texts(ANGLES), 1 / 12, _angle),
    Kind("odd_one_out", "word", 2, (*COLORS, *SHAPES), 1 / 5, _odd_one_out),
    Kind("sum", "number", 2, _texts(range(2, 19)), 1 / 17, _sum),
    Kind("lookup", "number", 2, _texts(range(10, 100)), 1 / 90, _lookup),
    Kind("pointer", "choice", 2, tuple(LETTERS), 1 / 4, _pointer),
)
"""In the order in which they take turns in a split."""
