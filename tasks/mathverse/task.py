"""MathVerse: how a row becomes a prompt, and how a response is judged."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from PIL import Image

from avar_eval.answers import FinishReason, Judgement, judge_answer
from avar_eval.answers.options import LETTERS
from avar_eval.tasks.choices import PICTURED, choices_in
from avar_eval.tasks.mathverse.official import official_verdict
from avar_eval.tasks.prompts import ask, style_of, templated
from avar_eval.tasks.shares import Parts, by_category
from avar_eval.tasks.visuals import rgb_picture

Row = Mapping[str, Any]

_WANTED: Final = {
    "multi-choice": "provide the correct option letter, e.g., A, B, C, D.",
    "free-form": "provide the final value, e.g., 1, 2.5, 300.",
}
_IN_IMAGE: Final = "the question shown in the image"
_LETTER: Final = re.compile(r"(?<![A-Za-z])[A-Z](?![A-Za-z])")


@templated(dict)
def doc_to_text(row: Row, settings: Mapping[str, Any] | None = None) -> str:
    """The user turn. In direct style it is the dataset's own `query_wo`: what to answer with, then the question.

    In the other styles the question comes first, as in all benchmarks here. A Vision Only row has no question in words:
    it stands in the picture.
    """
    style = style_of(settings)
    wanted = _WANTED[row["question_type"]]
    question = row["question"]
    if style == "direct":
        request = f"lease directly answer the question and {wanted}"
        return f"P{request}\nQuestion: {question}" if question else f"According to {_IN_IMAGE}, p{request}"
    if not question:
        return ask([f"According to {_IN_IMAGE}, please answer the question and {wanted}"], style)
    request = f"Please answer the question and {wanted}"
    return ask([f"Question: {question.strip()}", request], style)


def needed_pictures(row: Row) -> list[str]:
    """Every version but Text Only has a picture."""
    return [] if row["problem_version"] == "Text Only" else ["image"]


def doc_to_visual(row: Row) -> list[Image.Image]:
    """The row's one picture, RGB; none for Text Only."""
    if not needed_pictures(row):
        return []
    return [rgb_picture(row["image"], f"MathVerse row {row['sample_index']} has no picture")]


def doc_to_target(row: Row) -> str:
    """The gold answer as the dataset writes it: a letter, a value, or several answers, one a line."""
    return str(row["answer"])


def judge(row: Row, response: str, finish_reason: FinishReason | None = None) -> Judgement:
    """Judge a response: an option by letter or text, several letters in any order, or an expression.

    `official` is the `--quick_match` of the published script on the answer that our extraction found.
    """
    judgement = _strict(row, response, finish_reason)
    return replace(judgement, official=official_verdict(row, judgement.extracted))


def question(row: Row) -> str:
    """The problem, which its six versions share."""
    return str(row["problem_index"])


def parts(rows: Sequence[Row]) -> Parts:
    """Subjects and subfields, as score_answer_s2.py prints them."""
    subjects = by_category([_field(row, "subject") for row in rows], "subject/")
    return subjects | by_category([_field(row, "subfield") for row in rows], "subfield/")


def _field(row: Row, name: str) -> list[str]:
    """A field of the metadata; the rows of the project page's browser write it in the plural."""
    metadata = row["metadata"]
    return [value for value in (metadata.get(name) or metadata.get(f"{name}s"),) if value]


def _strict(row: Row, response: str, finish_reason: FinishReason | None) -> Judgement:
    # A gold that stands on two lines twice is one answer.
    golds = list(dict.fromkeys(line.strip() for line in row["answer"].strip().split("\n")))
    if len(golds) > 1 and all(map(_is_letter, golds)):
        judgement = judge_answer(response, answer=", ".join(golds), kind="text", finish_reason=finish_reason)
        return replace(judgement, correct=set(_LETTER.findall(judgement.extracted or "")) == set(golds))
    # The hub's rows hold the whole question for judges, also where the model sees it in the picture only.
    choices = choices_in(row.get("question_for_eval") or row["question"])
    letter = golds[0].strip("()")
    if choices and letter in LETTERS[: len(choices)]:
        answer = choices[LETTERS.index(letter)]
        return judge_answer(response, answer=answer, kind="choice", choices=choices, finish_reason=finish_reason)
    if golds[0] in choices:
        return judge_answer(response, answer=golds[0], kind="choice", choices=choices, finish_reason=finish_reason)
    if letter in PICTURED:
        return judge_answer(response, answer=letter, kind="choice", choices=PICTURED, finish_reason=finish_reason)
    return judge_answer(response, answer=golds[0], kind="expression", finish_reason=finish_reason)


def _is_letter(gold: str) -> bool:
    return len(gold) == 1 and gold in LETTERS
