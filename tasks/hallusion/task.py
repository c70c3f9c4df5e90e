"""HallusionBench: how a row becomes a prompt, how a response is judged, and the benchmark's three accuracies."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from PIL import Image

from avar_eval.answers import FinishReason, Judgement, judge_answer
from avar_eval.tasks.hallusion.official import answer_right, is_without_picture, scores
from avar_eval.tasks.prompts import ask, style_of, templated
from avar_eval.tasks.shares import Parts
from avar_eval.tasks.visuals import rgb_picture

Row = Mapping[str, Any]

_GOLDS: Final = {"0": "No", "1": "Yes"}
_FORM: Final = "Please answer yes or no."
_ASKS: Final = re.compile(r"\byes or no\b", re.IGNORECASE)


@templated(dict)
def doc_to_text(row: Row, settings: Mapping[str, Any] | None = None) -> str:
    """The user turn: the question, "Please answer yes or no." unless it says so itself, and the style's instruction."""
    style = style_of(settings)
    question = str(row["question"])
    if not _ASKS.search(question):
        question = f"{question} {_FORM}"
    return ask([question], style)


def doc_to_visual(row: Row) -> list[Image.Image]:
    """The row's one picture, RGB; none for a row that is asked without."""
    if is_without_picture(row):
        return []
    figure = "{category}_{subcategory}_{set_id}_{figure_id}, question {question_id}".format_map(row)
    missing = f"HallusionBench row {figure} has no picture"
    return [rgb_picture(row["image"], missing)]


def doc_to_target(row: Row) -> str:
    """ "Yes" or "No"; the dataset has 1 and 0."""
    return _GOLDS[str(row["gt_answer"])]


def needed_pictures(row: Row) -> list[str]:
    """The picture, unless the row is asked without."""
    return [] if is_without_picture(row) else ["image"]


def cluster(row: Row) -> str:
    """The set: its figures are one picture and edits of it, of which the same questions are asked."""
    return "{category}_{subcategory}_{set_id}".format_map(row)


def judge(row: Row, response: str, finish_reason: FinishReason | None = None) -> Judgement:
    """Judge a yes or no. An uncertain answer to a row without a picture is right by the official rule only."""
    gold = doc_to_target(row)
    strict = judge_answer(response, answer=gold, kind="text", finish_reason=finish_reason)
    return replace(strict, official=answer_right(response, gold, without_picture=is_without_picture(row)))


def parts(rows: Sequence[Row]) -> Parts:
    """aAcc, fAcc, qAcc and their mean, the benchmark's score; easy and hard questions; the same in VD and VS."""
    return scores(rows)
