"""A picture of `language_priors`: what stands where on which ground."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import astuple, dataclass
from typing import Final

from avar_eval.tasks.language_priors.counted import COUNTED_FIGURES, PARTS
from avar_eval.tasks.language_priors.drawing import COLORS, GROUNDS, INK, PIXELS, UNITS, Canvas, Pen, Pixels
from avar_eval.tasks.language_priors.things import FIGURES

NUMBER_WORDS: Final = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True)
class Place:
    """A square box in the picture, in pixels; mirrored: whether left and right of what it holds change sides."""

    left: int
    top: int
    size: int
    mirrored: bool = False

    def __str__(self) -> str:
        """Where in the picture its middle is: one of nine places."""
        third = PIXELS // 3
        row = ("upper", "middle", "lower")[min((self.top + self.size // 2) // third, 2)]
        column = ("left", "center", "right")[min((self.left + self.size // 2) // third, 2)]
        return {"middle center": "center", "middle left": "left", "middle right": "right"}.get(
            f"{row} {column}", f"{row} {column}"
        )


@dataclass(frozen=True)
class Thing:
    """A figure in one color."""

    name: str
    color: str
    place: Place

    def __str__(self) -> str:
        return f"{article(self.color)} {self.color} {self.name}"

    def draw(self, pen: Pen) -> None:
        FIGURES[self.name](pen, COLORS[self.color])


@dataclass(frozen=True)
class CountedThing:
    """A figure in one color with parts of its own number."""

    name: str
    color: str
    count: int
    place: Place

    def __str__(self) -> str:
        return f"{article(self.color)} {self.color} {self.name} with {NUMBER_WORDS[self.count]} {PARTS[self.name][0]}"

    def draw(self, pen: Pen) -> None:
        COUNTED_FIGURES[self.name](pen, COLORS[self.color], self.count)


@dataclass(frozen=True)
class Writing:
    """Capital letters, digits and signs in one line over the middle of a place, on a white card."""

    text: str
    color: str
    place: Place

    def __str__(self) -> str:
        return f'"{self.text}" in {self.color}'

    def draw(self, pen: Pen) -> None:
        height = min(60.0, 7 * (UNITS - 16) / (6 * len(self.text) - 1))
        pen.rectangle(INK, 0, 48 - height * 0.7, UNITS, 52 + height * 0.7)
        pen.rectangle(COLORS["white"], 2, 50 - height * 0.7, UNITS - 2, 50 + height * 0.7)
        pen.text(COLORS[self.color], self.text, 50, 50, height)


Element = Thing | CountedThing | Writing


@dataclass(frozen=True)
class Picture:
    """ground: a number of `GROUNDS`. elements: the later is drawn over the earlier; they do not overlap."""

    ground: int
    elements: tuple[Element, ...]

    def canonical(self) -> str:
        """The picture as JSON, the same text for the same picture."""
        entries = [[type(of).__name__, *astuple(of)] for of in self.elements]
        return json.dumps([self.ground, entries], separators=(",", ":"))

    @classmethod
    def from_canonical(cls, text: str) -> "Picture":
        """The picture that `canonical` wrote as `text`."""
        ground, entries = json.loads(text)
        kinds: dict[str, Callable[..., Element]] = {of.__name__: of for of in (Thing, CountedThing, Writing)}
        return cls(ground, tuple(kinds[name](*fields, Place(*place)) for name, *fields, place in entries))

    def digest(self) -> str:
        """SHA-256 of the canonical JSON, in hexadecimal."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()

    def draw(self) -> Pixels:
        """RGB, (224, 224, 3)."""
        canvas = Canvas(GROUNDS[self.ground])
        for of in self.elements:
            of.draw(Pen(canvas, of.place.left, of.place.top, of.place.size, of.place.mirrored))
        return canvas.picture()

    def caption(self) -> str:
        """What is where, in a sentence."""
        return f"The picture shows {listed([f'{of} at the {of.place}' for of in self.elements])}."


def article(word: str) -> str:
    """The indefinite article of a word."""
    return "an" if word[0] in "aeio" else "a"


def listed(parts: list[str]) -> str:
    """Parts of a sentence with commas and an "and"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
