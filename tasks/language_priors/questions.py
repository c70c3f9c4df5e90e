"""The kinds of question of `language_priors`.

A kind has cases, what a question is about; each suggests an answer to who reads it: a banana is yellow, a dog has four
legs, 7 comes after 4, 5, 6. What the picture shows is chosen first, either that answer or another of the kind's, then
the picture is made in which it is true.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from avar_eval.tasks.language_priors.counted import PARTS
from avar_eval.tasks.language_priors.drawing import COLORS, GROUNDS, PIXELS
from avar_eval.tasks.language_priors.picture import (
    NUMBER_WORDS,
    CountedThing,
    Element,
    Picture,
    Place,
    Thing,
    Writing,
    article,
)
from avar_eval.tasks.language_priors.things import FIGURES, USUAL_COLOR
from avar_eval.tasks.language_priors.wordings import WORDINGS, Wordings
from avar_eval.tasks.shapes.questions import Thought

AnswerType = Literal["number", "word"]

LOOK: Final = "let me look at the picture again: "
CHECK: Final = "checking the image there: "

LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
BODY_COLORS: Final = tuple(color for color in COLORS if color not in ("black", "purple"))
"""Of things whose dark parts are counted."""

PAIRS_BY_SIZE: Final = (
    ("elephant", "mouse"),
    ("elephant", "frog"),
    ("elephant", "chick"),
    ("elephant", "bird"),
    ("elephant", "strawberry"),
    ("bear", "chick"),
    ("bear", "mouse"),
    ("bear", "bird"),
    ("whale", "frog"),
    ("whale", "bird"),
    ("whale", "fish"),
    ("car", "cherry"),
)
"""The first is the bigger one."""

WORDS: Final = (
    *("CAT", "DOG", "SUN", "BED", "CAR", "HAT", "PEN", "BOX", "KEY", "LEG"),
    *("FISH", "MILK", "BIRD", "TREE", "BOOK", "SHIP", "HAND", "LAMP", "GOLD", "RAIN"),
    *("HOUSE", "APPLE", "WATER", "BREAD", "MOUSE", "TRAIN", "GREEN", "CHAIR", "NIGHT", "VOICE"),
)
NAMED_COLORS: Final = ("red", "orange", "green", "blue", "purple", "pink", "brown", "black", "gray")
"""Of letters on a white card."""


@dataclass(frozen=True)
class Case:
    """What a question is about. fields: of the kind's wordings. suggested: the answer that they suggest.

    others: what else the picture may show.
    """

    fields: Mapping[str, str]
    suggested: str
    others: tuple[str, ...]


@dataclass(frozen=True)
class Scene:
    """A picture and how its answer is found. belief: what is usual, in a sentence; seen: what is there."""

    picture: Picture
    belief: str
    seen: tuple[Thought, ...]

    def solution(self, anchors: bool) -> str:
        """What one would expect, then what is there, with or without looking phrases."""
        return " ".join([self.belief, *(thought.sentence(anchors) for thought in self.seen)])


@dataclass(frozen=True)
class Kind:
    """A kind of question. chance: accuracy of a guess among the answers that a case may have."""

    name: str
    answer_type: AnswerType
    cases: tuple[Case, ...]
    build: Callable[[random.Random, Case, str], Scene]

    @property
    def wordings(self) -> Wordings:
        return WORDINGS[self.name]

    @property
    def chance(self) -> float:
        return sum(1 / (1 + len(case.others)) for case in self.cases) / len(self.cases)


def _except(answers: Sequence[str], suggested: str) -> tuple[str, ...]:
    return tuple(answer for answer in answers if answer != suggested)


def _picture(rng: random.Random, elements: Sequence[Element]) -> Picture:
    return Picture(rng.randrange(len(GROUNDS)), tuple(elements))


def _box(rng: random.Random, left: int, top: int, width: int, height: int, least: int, most: int) -> Place:
    """A square box of random size somewhere in a part of the picture."""
    size = rng.randint(least, min(most, width, height))
    left += rng.randint(0, width - size)
    top += rng.randint(0, height - size)
    return Place(left, top, size, rng.random() < 0.5)


def _quarters(rng: random.Random, count: int) -> list[Place]:
    """Boxes for so many things: one somewhere, or each in a quarter of the picture of its own."""
    half = PIXELS // 2
    if count == 1:
        return [_box(rng, 4, 4, PIXELS - 8, PIXELS - 8, 100, 190)]
    chosen = rng.sample([(left, top) for left in (0, half) for top in (0, half)], count)
    return [_box(rng, left + 3, top + 3, half - 6, half - 6, 84, 104) for left, top in chosen]


def _color(rng: random.Random, case: Case, answer: str) -> Scene:
    """The thing, and none to two others of any color beside it."""
    name = case.fields["thing"]
    places = _quarters(rng, rng.randint(1, 3))
    shown = Thing(name, answer, places[0])
    others = rng.sample([other for other in FIGURES if other != name], len(places) - 1)
    rest = [Thing(other, rng.choice(tuple(COLORS)), place) for other, place in zip(others, places[1:], strict=True)]
    seen = (
        Thought(f"the {name} is at the {places[0]} of the picture.", LOOK),
        Thought(f"it is {answer}.", CHECK),
    )
    belief = f"{article(name).capitalize()} {name} is usually {case.suggested}."
    return Scene(_picture(rng, rng.sample([shown, *rest], len(places))), belief, seen)


def _parts(rng: random.Random, case: Case, answer: str) -> Scene:
    name, parts = case.fields["thing"], case.fields["parts"]
    place = _box(rng, 2, 2, PIXELS - 4, PIXELS - 4, 150, 210)
    shown = CountedThing(name, rng.choice(BODY_COLORS), int(answer), place)
    counted = ", ".join(NUMBER_WORDS[1 : int(answer) + 1])
    seen = (Thought(f"I count its {parts} in the picture.", LOOK), Thought(f"{counted}.", CHECK))
    belief = f"{article(name).capitalize()} {name} usually has {case.suggested} {parts}."
    return Scene(_picture(rng, [shown]), belief, seen)


def _size(rng: random.Random, case: Case, answer: str) -> Scene:
    names = [case.fields["first"], case.fields["second"]]
    small = next(name for name in names if name != answer)
    half = PIXELS // 2
    on_the_left = rng.choice(names)
    elements = []
    for name in rng.sample(names, 2):
        left, width = (0, half) if (name == on_the_left) else (half, half)
        big = name == answer
        place = _box(rng, left + 2, 2, width - 4, PIXELS - 4, 96 if big else 34, 108 if big else 56)
        elements.append(Thing(name, rng.choice(tuple(COLORS)), place))
    seen = (
        Thought(f"the {answer} is drawn big, on the {'left' if on_the_left == answer else 'right'}.", LOOK),
        Thought(f"the {small} is small.", CHECK),
    )
    belief = f"{article(case.suggested).capitalize()} {case.suggested} is usually bigger."
    return Scene(_picture(rng, elements), belief, seen)


def _row_of_cards(rng: random.Random, texts: Sequence[str]) -> list[Element]:
    size = (PIXELS - 8) // len(texts)
    left, top = 4 + rng.randint(-2, 2), rng.randint(2, PIXELS - size - 2)
    color = rng.choice(NAMED_COLORS)
    return [Writing(text, color, Place(left + size * place, top, size - 2)) for place, text in enumerate(texts)]


def _sequence(rng: random.Random, case: Case, answer: str) -> Scene:
    cards = [*case.fields["row"].split(", "), answer]
    seen = (
        Thought(f"the cards show {', '.join(cards)}.", LOOK),
        Thought(f"the last card shows {answer}.", CHECK),
    )
    belief = f"After {case.fields['row']} one would expect {case.suggested}."
    return Scene(_picture(rng, _row_of_cards(rng, cards)), belief, seen)


def _card(rng: random.Random, text: str, color: str, least: int) -> Writing:
    """One card somewhere in the picture, at least so wide."""
    place = _box(rng, 2, 2, PIXELS - 4, PIXELS - 4, least, 216)
    return Writing(text, color, replace(place, mirrored=False))


def _sum(rng: random.Random, case: Case, answer: str) -> Scene:
    line = f"{case.fields['sum'].replace(' ', '')}={answer}"
    card = _card(rng, line, rng.choice(NAMED_COLORS), 190)
    seen = (
        Thought(f"the card says {case.fields['sum']} = {answer}.", LOOK),
        Thought(f"after the equals sign stands {answer}.", CHECK),
    )
    belief = f"{case.fields['sum']} makes {case.suggested}."
    return Scene(_picture(rng, [card]), belief, seen)


def _ink(rng: random.Random, case: Case, answer: str) -> Scene:
    word = case.fields["word"]
    card = _card(rng, word, answer, 150)
    seen = (
        Thought(f'the word "{word}" stands at the {card.place} of the picture.', LOOK),
        Thought(f"its letters are {answer}.", CHECK),
    )
    belief = f'The word "{word}" says {case.suggested}.'
    return Scene(_picture(rng, [card]), belief, seen)


def _spelling(rng: random.Random, case: Case, answer: str) -> Scene:
    word = case.fields["word"]
    written = answer + word[1:]
    card = _card(rng, written, rng.choice(NAMED_COLORS), 150)
    seen = (
        Thought(f"the letters are {', '.join(written)}.", LOOK),
        Thought(f"the first letter is {answer}.", CHECK),
    )
    belief = f'"{word}" begins with {case.suggested}.'
    return Scene(_picture(rng, [card]), belief, seen)


def _color_cases() -> tuple[Case, ...]:
    return tuple(Case({"thing": name}, usual, _except(tuple(COLORS), usual)) for name, usual in USUAL_COLOR.items())


def _size_cases() -> tuple[Case, ...]:
    """Each pair in both orders."""
    return tuple(
        Case({"first": first, "second": second}, big, (small,))
        for big, small in PAIRS_BY_SIZE
        for first, second in ((big, small), (small, big))
    )


def _count_cases() -> tuple[Case, ...]:
    counts = [str(count) for count in range(2, 9)]
    return tuple(
        Case({"thing": name, "parts": parts}, str(usual), _except(counts, str(usual)))
        for name, (parts, usual) in PARTS.items()
    )


def _sequence_cases() -> tuple[Case, ...]:
    digits, cases = "123456789", []
    for step in (1, 2, -1):
        for start in range(1, 10):
            row = [start + step * place for place in range(4)]
            if all(1 <= number <= 9 for number in row):
                *shown, following = map(str, row)
                cases.append(Case({"row": ", ".join(shown)}, following, _except(digits, following)))
    return tuple(cases)


def _alphabet_cases() -> tuple[Case, ...]:
    return tuple(
        Case({"row": ", ".join(LETTERS[start : start + 3])}, LETTERS[start + 3], _except(LETTERS, LETTERS[start + 3]))
        for start in range(len(LETTERS) - 3)
    )


def _sum_cases() -> tuple[Case, ...]:
    return tuple(
        Case({"sum": f"{first} + {second}"}, str(first + second), _except("23456789", str(first + second)))
        for first in range(1, 9)
        for second in range(1, 10 - first)
    )


KINDS: Final = (
    Kind("color", "word", _color_cases(), _color),
    Kind("parts", "number", _count_cases(), _parts),
    Kind("size", "word", _size_cases(), _size),
    Kind("sequence", "number", _sequence_cases(), _sequence),
    Kind("alphabet", "word", _alphabet_cases(), _sequence),
    Kind("sum", "number", _sum_cases(), _sum),
    Kind(
        "ink",
        "word",
        tuple(Case({"word": color.upper()}, color, _except(NAMED_COLORS, color)) for color in NAMED_COLORS),
        _ink,
    ),
    Kind(
        "spelling", "word", tuple(Case({"word": word}, word[0], _except(LETTERS, word[0])) for word in WORDS), _spelling
    ),
)
"""In the order in which they take turns in a split."""
