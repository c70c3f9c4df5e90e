"""MMMU-Pro: how a row becomes a prompt, and how a response is judged.

Rows of `vision` have no question: it stands in their one picture.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from PIL import Image

from avar_eval.answers import FinishReason, Judgement
from avar_eval.tasks.mmmu.images import Row, image_columns, interleaved, picture
from avar_eval.tasks.mmmu.task import (
    doc_to_target,
    guess_chance,
    judge_choice,
    option_lines,
    options_of,
    question,
    stratum,
    subject_parts,
)
from avar_eval.tasks.mmmu_pro.official import choice_right
from avar_eval.tasks.prompts import ask, lettered, style_of, templated
from avar_eval.tasks.shares import Parts

__all__ = [
    "doc_to_messages",
    "doc_to_target",
    "doc_to_text",
    "doc_to_visual",
    "guess_chance",
    "judge",
    "needed_pictures",
    "parts",
    "question",
    "stratum",
]

_LETTER: Final = "Answer with the option letter from the given choices"
_DIRECT_VISION: Final = (
    f"{_LETTER} directly. The last line of your response should be of the following format: "
    "'Answer: $LETTER' (without quotes) where LETTER is one of options."
)
_VISION: Final = "Answer the multiple-choice question in the image with its option letter."


@templated(lambda row: {"options": lettered(options_of(row))})
def doc_to_text(row: Row, settings: Mapping[str, Any] | None = None) -> str:
    """The user turn: question, "A. …" lines and instruction; for a vision row the instruction alone."""
    style = style_of(settings)
    if _is_vision(row):
        question, form, direct = [], _VISION, _DIRECT_VISION
    else:
        question = [row["question"], *option_lines(row, "{}. {}")]
        form, direct = f"{_LETTER}.", f"{_LETTER} directly."
    return ask([*question, *([] if style == "direct" else [form])], style, direct)


def doc_to_visual(row: Row) -> list[Image.Image]:
    """The picture that holds the question, or those of the tokens in question and options in their order, RGB."""
    columns = ["image"] if _is_vision(row) else image_columns(doc_to_text(row))
    return [picture(row, column) for column in columns]


def doc_to_messages(row: Row, lmms_eval_specific_kwargs: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """The user turn: for a vision row picture and instruction, else each picture in its token's place."""
    content = interleaved(row, doc_to_text(row, lmms_eval_specific_kwargs))
    if _is_vision(row):
        content = [{"type": "image", "url": picture(row, "image")}, *content]
    return [{"role": "user", "content": content}]


def needed_pictures(row: Row) -> list[str]:
    """The row's one picture, or the image columns that its text names."""
    return ["image"] if _is_vision(row) else sorted(set(image_columns(doc_to_text(row))))


def parts(rows: Sequence[Row]) -> Parts:
    """The subjects, as evaluate.py of the published code tabulates them."""
    return subject_parts(rows)


def judge(row: Row, response: str, finish_reason: FinishReason | None = None) -> Judgement:
    """Judge a response by its option, of up to twelve."""
    official = choice_right(response, options_of(row), row["answer"])
    return judge_choice(row, response, finish_reason, official=official)


def _is_vision(row: Row) -> bool:
    return "question" not in row
