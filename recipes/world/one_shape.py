"""One shape on a pale ground, and what is asked about it: as easy-VQA draws and asks, with other pictures and words.

easy-VQA itself (`easy_vqa`) stays a third party's test: none of its pictures or questions is here. Its sense of "not"
is kept: "Is no circle to be seen?" is answered yes where there is none.
"""

import random
from dataclasses import dataclass
from typing import Final

from PIL import Image

from avar_eval.recipes.world.turns import DESCRIBE, Turn, at_once
from avar_eval.tasks.easy_vqa.dataset import ANSWERS
from avar_eval.tasks.language_priors.drawing import PIXELS, Canvas, Pen, Rgb

COARSE: Final = 64
"""Width in pixels of easy-VQA's pictures: half of these are as coarse."""

PAINTS: Final[dict[str, Rgb]] = {
    "black": (0, 0, 0),
    "blue": (0, 0, 255),
    "brown": (165, 42, 42),
    "gray": (128, 128, 128),
    "green": (0, 255, 0),
    "red": (255, 0, 0),
    "teal": (0, 128, 128),
    "yellow": (255, 255, 0),
}
JITTER: Final = 12
"""By so much, of 255, each channel of a paint may be off."""

WORDINGS: Final[dict[str, tuple[str, ...]]] = {
    "color": (
        "Which color has the {named}?",
        "In what color is the {named} painted?",
        "Tell me the color of the {named} in this picture.",
        "The {named} here is of which color?",
        "Name the color of the {named}.",
    ),
    "shape": (
        "Which shape is drawn here?",
        "What kind of shape do you see?",
        "Name the shape in this picture.",
        "Of which shape is the {color} figure?",
        "The {color} thing in this picture, which shape does it have?",
        "Tell me what shape this image shows.",
    ),
    "presence": (
        "Do you see a {named} here?",
        "Does this picture show a {named}?",
        "Is a {named} to be seen?",
        "Can you find a {named} in this picture?",
        "Is the thing that is drawn a {named}?",
    ),
    "absence": (
        "Is no {named} to be seen?",
        "Is there not any {named} to be seen here?",
        "Does this picture not show a {named}?",
        "Is it true that there is no {named} here?",
        "Is this picture one without a {named}?",
    ),
}
"""None is a question of easy-VQA."""


@dataclass(frozen=True)
class OneShape:
    """left, top, width, height: of the shape's box, in pixels of 224. A circle and a triangle have a square box."""

    shape: str
    color: str
    paint: Rgb
    ground: Rgb
    left: float
    top: float
    width: float
    height: float
    coarse: bool

    def draw(self) -> Image.Image:
        """RGB, 224 × 224 pixels or, coarse, 64 × 64."""
        canvas = Canvas(self.ground)
        pen = Pen(canvas, 0, 0, 100)  # units are pixels
        left, top, right, bottom = self.left, self.top, self.left + self.width, self.top + self.height
        match self.shape:
            case "circle":
                pen.circle(self.paint, (left + right) / 2, (top + bottom) / 2, self.width / 2)
            case "rectangle":
                pen.rectangle(self.paint, left, top, right, bottom)
            case "triangle":
                pen.polygon(self.paint, ((left + right) / 2, top), (right, bottom), (left, bottom))
        picture = Image.fromarray(canvas.picture())
        return picture.resize((COARSE, COARSE), Image.Resampling.BOX) if self.coarse else picture

    def caption(self) -> str:
        """What is where, in a sentence."""
        third = PIXELS / 3
        row = ("upper", "middle", "lower")[min(int((self.top + self.height / 2) / third), 2)]
        column = ("left", "center", "right")[min(int((self.left + self.width / 2) / third), 2)]
        return f"The picture shows one {self.color} {self.shape} at the {row} {column}."


def one_shape(rng: random.Random) -> OneShape:
    """A random picture of one shape."""
    shape, color = rng.choice(ANSWERS["shape"]), rng.choice(ANSWERS["color"])
    width = rng.uniform(28, 112)
    height = width if shape == "circle" else 0.87 * width if shape == "triangle" else rng.uniform(28, 112)
    red, green, blue = (min(max(of + rng.randint(-JITTER, JITTER), 0), 255) for of in PAINTS[color])
    return OneShape(
        shape,
        color,
        (red, green, blue),
        (rng.randint(228, 255), rng.randint(228, 255), rng.randint(228, 255)),
        rng.uniform(0, PIXELS - width),
        rng.uniform(0, PIXELS - height),
        width,
        height,
        rng.random() < 0.5,
    )


def described(picture: OneShape, rng: random.Random) -> Turn:
    """Its caption."""
    return Turn(rng.choice(DESCRIBE), picture.caption())


def asked_about(picture: OneShape, rng: random.Random) -> Turn:
    """A random question: which color or shape, is there one, is there none; yes as often as no.

    Half of the questions name the answers that there are, as the task easy_vqa does.
    """
    kind = rng.choice(("color", "shape", "presence", "absence"))
    wording = rng.choice(WORDINGS[kind])
    if kind in ("color", "shape"):
        answer = picture.color if kind == "color" else picture.shape
        named = rng.choice((picture.shape, "shape", "figure"))
        question = wording.format(named=named, color=picture.color)
    else:
        there = rng.random() < 0.5
        question = wording.format(named=_thing(picture, there, rng))
        answer = "yes" if there == (kind == "presence") else "no"
    *others, last = ANSWERS[kind]  # type: ignore[index] # one of the four kinds
    if rng.random() < 0.5:
        question = f"{question} ({', '.join(others)} or {last})"
    return at_once([question], answer, rng)


def _thing(picture: OneShape, there: bool, rng: random.Random) -> str:
    """A color or a shape that the picture has or has not."""
    if rng.random() < 0.6:
        colors = [color for color in ANSWERS["color"] if (color == picture.color) == there]
        return f"{rng.choice(colors)} {rng.choice(('shape', 'figure'))}"
    return rng.choice([shape for shape in ANSWERS["shape"] if (shape == picture.shape) == there])
