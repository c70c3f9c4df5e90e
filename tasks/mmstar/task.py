"""MMStar: how a row becomes a prompt, how a response is judged, and the accuracy of the six categories."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from PIL import Image

from avar_eval.answers import FinishReason, Judgement, judge_answer
from avar_eval.answers.options import LETTERS
from avar_eval.tasks.mmstar.official import choice_right
from avar_eval.tasks.prompts import ask, lettered, style_of, templated
from avar_eval.tasks.shares import MeanOf, Parts, Units, by_category
from avar_eval.tasks.visuals import rgb_picture

Row = Mapping[str, Any]

CATEGORIES: Final = (
    "coarse perception",
    "fine-grained perception",
    "instance reasoning",
    "logical reasoning",
    "science & technology",
    "math",
)

_HINT: Final = re.compile(r"Hint: [^\n]*\n(?:Question: )?")
_FORM: Final = "Answer with the option's letter from the given choices"
_ON_ONE_LINE: Final = "\nOptions: A: "
_ON_LINES: Final = "\n(A) "


@templated(lambda row: {"options": lettered(parse_choices(row["question"])), "stem": question_stem(row["question"])})
def doc_to_text(row: Row, settings: Mapping[str, Any] | None = None) -> str:
    """The user turn: the question with the options in it, as published, and the instruction.

    In the styles other than direct the question loses the hint that some begin with ("…, at the end").
    """
    style = style_of(settings)
    question = str(row["question"])
    if style == "direct":
        return f"{question}\n{_FORM} directly."
    return ask([_HINT.sub("", question, count=1), f"{_FORM}."], style)


def doc_to_visual(row: Row) -> list[Image.Image]:
    """The row's one picture, RGB."""
    return [rgb_picture(row["image"], f"MMStar row {row['index']} has no picture")]


def doc_to_target(row: Row) -> str:
    """The gold letter."""
    return str(row["answer"])


def question_stem(question: str) -> str:
    """The question without its options and the hint that some begin with."""
    label = _ON_ONE_LINE if _ON_ONE_LINE in question else _ON_LINES
    stem = question.rpartition(label)[0].removesuffix("\nChoices:")
    return _HINT.sub("", stem, count=1)


def parse_choices(question: str) -> list[str]:
    """The options' texts that stand in a question; "nan" fills the place of one that is missing.

    They are written "…\\nOptions: A: …, B: …", or one a line as "(A) …", with or without a line "Choices:" and a hint
    before. Raises ValueError for a question of another shape.
    """
    if _ON_ONE_LINE in question:
        options = question.rpartition(_ON_ONE_LINE)[2]
        pieces = re.split(r", ([B-Z]): ", options)
    else:
        options = question.rpartition(_ON_LINES)[2]
        pieces = re.split(r"\n\(([B-Z])\) ?", options)
    choices, letters = pieces[::2], "".join(pieces[1::2])
    if len(choices) < 2 or letters != LETTERS[1 : len(choices)]:
        raise ValueError(f"no options A, B, … in the question {question!r}")
    return choices


def judge(row: Row, response: str, finish_reason: FinishReason | None = None) -> Judgement:
    """Judge a response by its option."""
    choices = parse_choices(row["question"])
    gold = choices[LETTERS.index(row["answer"])]
    strict = judge_answer(response, answer=gold, kind="choice", choices=choices, finish_reason=finish_reason)
    return replace(strict, official=choice_right(response, row["answer"]))


def parts(rows: Sequence[Row]) -> Parts:
    """Each category (unknown without a row of it), and `mean`, that of the categories that have one.

    Of all 1,500 rows the mean is the published "final score": each category has 250.
    """
    found = by_category([[row["category"]] for row in rows])
    return {category: found.get(category, Units.of([])) for category in CATEGORIES} | {
        "mean": MeanOf(CATEGORIES, known=True)
    }
