"""Solutions of `shapes` and `shapes_prior` in sentences, read off the scene: with looking phrases or without.

Unlike those of `shapes`, which search cell by cell in the words of a very small model, they name what matters.
"""

from collections.abc import Callable, Mapping
from typing import Final

from avar_eval.tasks.shapes.questions import DIRECTIONS, NEITHER, POINTING, Thought
from avar_eval.tasks.shapes.scene import COLORS, Cell, Content, Dial, Number, Object, Scene
from avar_eval.tasks.shapes_english.wordings import SIDES

Fields = Mapping[str, str]

LOOK: Final = "let me look at the picture again: "
CHECK: Final = "checking the image there: "


class View:
    """What a solution may say of a scene. answer: of the question; chosen: its option, for a choice."""

    def __init__(self, scene: Scene, fields: Fields, answer: str, choices: list[str]) -> None:
        self.contents = dict(scene.contents)
        self.fields = fields
        self.answer = answer
        self.chosen = choices["ABCD".index(answer)] if choices else answer

    def objects(self, feature: str) -> list[tuple[Cell, Object]]:
        """The objects of a color or shape, in reading order."""
        found = [(cell, of) for cell, of in self.contents.items() if isinstance(of, Object)]
        return [(cell, of) for cell, of in found if feature in (of.color, of.shape)]

    def cell_of(self, thing: str) -> Cell:
        """Where the only thing of this name is."""
        return next(cell for cell, of in self.contents.items() if str(of) == thing)

    def beside(self, cell: Cell, direction: str) -> Cell:
        return cell.step(*DIRECTIONS[direction])

    def verdict(self) -> str:
        return f"that is option {self.answer}, {self.chosen}."


def place(cell: Cell) -> str:
    """A cell in words."""
    return f"row {cell.row}, column {cell.column}"


def content_words(content: Content | None) -> str:
    """What a cell shows, in words."""
    match content:
        case Object(color, shape):
            return f"a {color} {shape}"
        case Number(value):
            return f"the number {value}"
        case Dial(angle):
            return f"a dial at {angle} degrees"
        case None:
            return "nothing"


def solution(form: str, view: View, suggested: str | None, anchors: bool) -> str:
    """The chain of thought for a form of question of `ASKED`. suggested: what its wording suggests, said first."""
    guess = () if suggested is None else (Thought(f"one might say {suggested}."),)
    return " ".join(thought.sentence(anchors) for thought in (*guess, *_SOLUTIONS[form](view)))


def _tally(view: View, feature: str) -> Thought:
    name = f"{feature} objects" if feature in COLORS else f"{feature}es" if feature == "cross" else f"{feature}s"
    found = view.objects(feature)
    places = "; ".join(place(cell) for cell, _ in found)
    text = f"{name} are at {places}, so {len(found)}." if found else f"there are no {name}, so 0."
    return Thought(text, LOOK)


def _count(view: View) -> tuple[Thought, ...]:
    things = view.fields["things"]
    feature = things.split()[0] if things.endswith(" objects") else {"crosses": "cross"}.get(things, things[:-1])
    return (_tally(view, feature),)


def _at(view: View) -> tuple[Thought, ...]:
    cell = Cell(int(view.fields["row"]), int(view.fields["column"]))
    return (Thought(f"in {place(cell)} there is {content_words(view.contents[cell])}.", LOOK),)


def _neighbor(view: View) -> tuple[Thought, ...]:
    start = view.cell_of(view.fields["thing"])
    goal = view.beside(start, view.fields["direction"])
    return (
        Thought(f"the {view.fields['thing']} is in {place(start)}.", LOOK),
        Thought(f"{view.fields['side']} it, in {place(goal)}, there is {content_words(view.contents[goal])}.", CHECK),
    )


def _chosen_neighbor(view: View) -> tuple[Thought, ...]:
    return (*_neighbor(view), Thought(view.verdict()))


def _comparison(view: View) -> tuple[Thought, ...]:
    first, second = view.fields["first"], view.fields["second"]
    more = "both are the same" if view.chosen == NEITHER else f"{view.chosen} is more"
    return (_tally(view, first), _tally(view, second), Thought(f"{more}, {view.verdict()}"))


def _angle(view: View) -> tuple[Thought, ...]:
    cell, dial = _dial(view)
    return (
        Thought(f"the dial is in {place(cell)}.", LOOK),
        Thought(f"its hand points {dial.angle} degrees clockwise from straight up.", CHECK),
    )


def _odd_one_out(view: View) -> tuple[Thought, ...]:
    ((cell, odd),) = view.objects(view.answer)
    other = next(of for at, of in view.contents.items() if at != cell)
    assert isinstance(other, Object)
    common = other.color if view.answer in COLORS else other.shape
    return (Thought(f"most objects are {common}, but in {place(cell)} there is {content_words(odd)}.", LOOK),)


def _sum(view: View) -> tuple[Thought, ...]:
    (cell, first), (at, second) = [(cell, of.value) for cell, of in view.contents.items() if isinstance(of, Number)]
    return (
        Thought(f"I see {first} in {place(cell)} and {second} in {place(at)}.", LOOK),
        Thought(f"{first} + {second} = {view.answer}."),
    )


def _pointer(view: View) -> tuple[Thought, ...]:
    cell, dial = _dial(view)
    goal = view.beside(cell, POINTING[dial.angle])
    return (
        Thought(f"the dial in {place(cell)} points {dial.angle} degrees clockwise.", LOOK),
        Thought(f"in {place(goal)} there is {content_words(view.contents[goal])}.", CHECK),
        Thought(view.verdict()),
    )


def _dial(view: View) -> tuple[Cell, Dial]:
    return next((cell, of) for cell, of in view.contents.items() if isinstance(of, Dial))


def _named(view: View) -> tuple[Thought, ...]:
    ((cell, found),) = view.objects(view.fields["named"])
    return (
        Thought(f"it is in {place(cell)}.", LOOK),
        Thought(f"there is {content_words(found)}.", CHECK),
    )


def _presence(view: View) -> tuple[Thought, ...]:
    color, shape = view.fields["thing"].split()
    seen = "; ".join(f"{content_words(of)} in {place(cell)}" for cell, of in view.objects(shape))
    return (
        Thought(f"of this shape I see {seen}.", LOOK),
        Thought(f"{'one' if view.answer == 'yes' else 'none'} of them is {color}, so {view.answer}.", CHECK),
    )


def _relation(view: View) -> tuple[Thought, ...]:
    asked, other = view.fields["thing"], view.fields["other"]
    cell, start = view.cell_of(asked), view.cell_of(other)
    step = (cell.row - start.row, cell.column - start.column)
    side = SIDES[next(direction for direction, of in DIRECTIONS.items() if of == step)]
    return (
        Thought(f"the {other} is in {place(start)} and the {asked} in {place(cell)}.", LOOK),
        Thought(f"that is {side} it, so {view.answer}.", CHECK),
    )


_SOLUTIONS: Final[dict[str, Callable[[View], tuple[Thought, ...]]]] = {
    "count": _count,
    "attribute": _at,
    "relation": _chosen_neighbor,
    "comparison": _comparison,
    "number": _at,
    "angle": _angle,
    "odd_one_out": _odd_one_out,
    "sum": _sum,
    "lookup": _neighbor,
    "pointer": _pointer,
    "prior_color": _named,
    "prior_shape": _named,
    "presence_negated": _presence,
    "presence_doubting": _presence,
    "relation_negated": _relation,
    "relation_doubting": _relation,
}
