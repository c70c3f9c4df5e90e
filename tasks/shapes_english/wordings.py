"""What `shapes` and `shapes_prior` ask, in other words: how each question is read and how it is asked again.

No wording is in two splits. Those that suggest yes still do, and those that doubt still doubt.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from avar_eval.tasks.shapes.dataset import Split

ORDINALS: Final = {"1": "first", "2": "second", "3": "third", "4": "fourth"}
SIDES: Final = {"above": "above", "below": "below", "left of": "to the left of", "right of": "to the right of"}


@dataclass(frozen=True)
class Asked:
    """A form of question. pattern: how `shapes` or `shapes_prior` words it; its groups are the wordings' fields."""

    pattern: re.Pattern[str]
    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]

    def wordings(self, split: Split) -> tuple[str, ...]:
        """The wordings of a split."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[split]


def read(question: str) -> tuple[str, Mapping[str, str]]:
    """The name of a question's form (see `ASKED`), and its fields. Raises ValueError for one that is not known."""
    for name, asked in ASKED.items():
        if match := asked.pattern.fullmatch(question):
            return name, _fields(match.groupdict())
    raise ValueError(f"{question!r} is no question of shapes or shapes_prior")


def _fields(found: Mapping[str, str]) -> dict[str, str]:
    fields = dict(found)
    for name in ("row", "column"):
        if name in fields:
            fields[f"{name}_ordinal"] = ORDINALS[fields[name]]
    if "direction" in fields:
        fields["side"] = SIDES[fields["direction"]]
    return fields


_WHAT = r"(?P<attribute>color|shape)"
_THING = r"(?P<thing>\w+ \w+)"
_DIRECTION = r"(?P<direction>above|below|left of|right of)"
_CELL = r"row (?P<row>\d) column (?P<column>\d)"

ASKED: Final[dict[str, Asked]] = {
    "count": Asked(
        re.compile(r"How many (?P<things>[\w ]+) are there\?"),
        train=(
            "How many {things} are in this picture?",
            "Count the {things}.",
            "What is the number of {things} in the image?",
            "Tell me how many {things} you can find.",
            "Please count all {things} that are shown.",
        ),
        validation=("How many {things} can be seen here?", "Give the count of {things}."),
        test=("How many {things} does the picture show?", "What is the total number of {things}?"),
    ),
    "attribute": Asked(
        re.compile(rf"What {_WHAT} is the object at {_CELL}\?"),
        train=(
            "What {attribute} does the object in row {row}, column {column} have?",
            "Look at row {row} and column {column}. What is the {attribute} of the object there?",
            "In the {row_ordinal} row and the {column_ordinal} column there is an object. Which {attribute} is it?",
            "Name the {attribute} of the thing in column {column} of row {row}.",
            "Which {attribute} is shown in the {column_ordinal} column of the {row_ordinal} row?",
        ),
        validation=("Which {attribute} has the object at row {row}, column {column}?",),
        test=(
            "What is the {attribute} of the object in row {row}, column {column}?",
            "What {attribute} is the thing in the {row_ordinal} row, {column_ordinal} column?",
        ),
    ),
    "relation": Asked(
        re.compile(rf"What {_WHAT} is the object directly {_DIRECTION} the {_THING}\?"),
        train=(
            "Which {attribute} has the object that is right {side} the {thing}?",
            "Find the {thing}. What {attribute} is its neighbor directly {side} it?",
            "An object is directly {side} the {thing}. Name its {attribute}.",
            "What is the {attribute} of what lies directly {side} the {thing}?",
            "Tell me the {attribute} of the neighbor {side} the {thing}.",
        ),
        validation=("Next to the {thing}, directly {side} it, is an object. Which {attribute} does it have?",),
        test=(
            "What {attribute} is the object immediately {side} the {thing}?",
            "What is the {attribute} of the object directly {side} the {thing}?",
        ),
    ),
    "comparison": Asked(
        re.compile(rf"Which {_WHAT} do more objects have, (?P<first>\w+) or (?P<second>\w+)\?"),
        train=(
            "Are more objects {first} or {second}?",
            "Compare the objects: is {first} or {second} the more frequent {attribute}?",
            "Which {attribute} is there more often, {first} or {second}?",
            "Do you see more {first} or more {second} among the objects?",
            "Count what is {first} and what is {second}. Of which is there more?",
        ),
        validation=("Which {attribute} occurs more often here: {first} or {second}?",),
        test=(
            "Which {attribute} is more common in the picture, {first} or {second}?",
            "Is the {attribute} of more objects {first} or {second}?",
        ),
    ),
    "number": Asked(
        re.compile(rf"Which number is written at {_CELL}\?"),
        train=(
            "What number do you read in row {row}, column {column}?",
            "Read the number in the {row_ordinal} row and the {column_ordinal} column.",
            "Which number can be seen in column {column} of row {row}?",
            "Look at row {row} and column {column}. What number is there?",
            "Tell me the number that stands in row {row}, column {column}.",
        ),
        validation=("What is written in row {row}, column {column}?",),
        test=(
            "Which number is in row {row}, column {column}?",
            "What number is shown in the {row_ordinal} row, {column_ordinal} column?",
        ),
    ),
    "angle": Asked(
        re.compile(r"How many degrees clockwise from straight up does the hand of the dial point\?"),
        train=(
            "At what angle is the hand of the dial, in degrees clockwise from the top?",
            "The hand of the dial is turned clockwise from straight up. By how many degrees?",
            "Read the dial: how many degrees from straight up, clockwise?",
            "Give the clockwise angle in degrees between straight up and the hand of the dial.",
            "Which angle does the dial show, in degrees clockwise from straight up?",
        ),
        validation=("By how many degrees clockwise from the top has the hand of the dial been turned?",),
        test=(
            "How many degrees, clockwise from straight up, does the dial show?",
            "What angle does the hand of the dial make with straight up, in degrees clockwise?",
        ),
    ),
    "odd_one_out": Asked(
        re.compile(rf"All objects but one have the same {_WHAT}\. What \w+ is the odd one out\?"),
        train=(
            "One object differs from all others in {attribute}. Which {attribute} is it?",
            "Which {attribute} does the one object have that is not like the others?",
            "Find the object whose {attribute} is different. What {attribute} is it?",
            "The objects share one {attribute}, except for one. What is the {attribute} of the exception?",
            "Name the {attribute} that only one of the objects has.",
        ),
        validation=("Exactly one object has another {attribute} than the rest. Which one?",),
        test=(
            "What is the {attribute} of the only object that differs in {attribute}?",
            "All but one of the objects have one {attribute}. What {attribute} is the other one?",
        ),
    ),
    "sum": Asked(
        re.compile(r"What is the sum of the two numbers in the image\?"),
        train=(
            "Add the two numbers that you see. What do you get?",
            "There are two numbers in this picture. What do they make together?",
            "What is the first number plus the second number?",
            "Find both numbers and add them up.",
            "How much are the two numbers in the picture together?",
        ),
        validation=("What do the two numbers here add up to?",),
        test=("What do you get if you add both numbers in the picture?", "What is the total of the two numbers?"),
    ),
    "lookup": Asked(
        re.compile(rf"Which number is directly {_DIRECTION} the {_THING}\?"),
        train=(
            "What number is right {side} the {thing}?",
            "Find the {thing} and read the number directly {side} it.",
            "A number stands directly {side} the {thing}. Which one?",
            "Tell me the number next to the {thing}, {side} it.",
            "Read the number that is the neighbor {side} the {thing}.",
        ),
        validation=("Directly {side} the {thing} is a number. What does it say?",),
        test=("What number is immediately {side} the {thing}?", "Which number stands directly {side} the {thing}?"),
    ),
    "pointer": Asked(
        re.compile(rf"What {_WHAT} is the object that the hand of the dial points to\?"),
        train=(
            "The dial points to an object. What is its {attribute}?",
            "Follow the hand of the dial to its neighbor. Which {attribute} does it have?",
            "Which {attribute} has the object beside the dial that its hand points to?",
            "Where the hand of the dial points there is an object. Name its {attribute}.",
            "Tell me the {attribute} of what the dial points at.",
        ),
        validation=("Which {attribute} is the neighbor of the dial in the direction of its hand?",),
        test=(
            "What is the {attribute} of the object that the dial points to?",
            "The hand of the dial points at an object. What {attribute} is it?",
        ),
    ),
    "prior_color": Asked(
        re.compile(r"What color is the (?P<named>\w+)\?"),
        train=(
            "Which color does the {named} have?",
            "Tell me the color of the {named} in this image.",
            "There is one {named} here. In which color?",
            "Name the color of the {named}.",
            "The {named}, what color is it?",
        ),
        validation=("In what color is the {named} shown?",),
        test=("What is the color of the {named}?", "What color is the {named} in the picture?"),
    ),
    "prior_shape": Asked(
        re.compile(r"What shape is the (?P<named>\w+) object\?"),
        train=(
            "Which shape does the {named} object have?",
            "Tell me the shape of the {named} object in this image.",
            "There is one {named} object here. Of which shape?",
            "Name the shape of the {named} object.",
            "The {named} object, what shape is it?",
        ),
        validation=("In what shape is the {named} object drawn?",),
        test=("What is the shape of the {named} object?", "What shape is the {named} object in the picture?"),
    ),
    "presence_negated": Asked(
        re.compile(rf"Isn't there a {_THING}\?"),
        train=(
            "There is a {thing} here, isn't there?",
            "Don't you see a {thing}?",
            "Surely this image has a {thing}, hasn't it?",
            "Doesn't this picture show a {thing}?",
        ),
        validation=("Can't a {thing} be seen here?",),
        test=("Isn't there a {thing} in the picture?", "The picture shows a {thing}, doesn't it?"),
    ),
    "presence_doubting": Asked(
        re.compile(rf"Is there really a {_THING}\?"),
        train=(
            "Is a {thing} really among the objects?",
            "Do you really see a {thing} here?",
            "Does this image really have a {thing}?",
            "Somebody says there is a {thing}. Is that really so?",
        ),
        validation=("Can a {thing} really be seen here?",),
        test=("Is there really a {thing} in the picture?", "Does the picture really show a {thing}?"),
    ),
    "relation_negated": Asked(
        re.compile(rf"Isn't the {_THING} directly {_DIRECTION} the (?P<other>\w+ \w+)\?"),
        train=(
            "The {thing} is directly {side} the {other}, isn't it?",
            "Isn't the {thing} right {side} the {other}?",
            "Surely the {thing} lies directly {side} the {other}, doesn't it?",
            "Doesn't one see the {thing} directly {side} the {other}?",
        ),
        validation=("Isn't it so that the {thing} is directly {side} the {other}?",),
        test=(
            "Isn't the {thing} immediately {side} the {other}?",
            "In the picture the {thing} is directly {side} the {other}, isn't it?",
        ),
    ),
    "relation_doubting": Asked(
        re.compile(rf"Is the {_THING} really directly {_DIRECTION} the (?P<other>\w+ \w+)\?"),
        train=(
            "Is the {thing} really right {side} the {other}?",
            "Does the {thing} really lie directly {side} the {other}?",
            "Somebody says the {thing} is directly {side} the {other}. Is that really so?",
            "Do you really see the {thing} directly {side} the {other}?",
        ),
        validation=("Is it really so that the {thing} is directly {side} the {other}?",),
        test=(
            "Is the {thing} really immediately {side} the {other}?",
            "In the picture, is the {thing} really directly {side} the {other}?",
        ),
    ),
}
"""Forms of question by name, in the order in which a question is compared with them."""
