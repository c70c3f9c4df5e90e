"""How a row becomes a prompt, and how a response is judged."""

from collections.abc import Mapping
from typing import Any

from PIL import Image

from avar_eval.answers import FinishReason, Judgement, judge_answer
from avar_eval.tasks.prompts import ask, style_of, templated
from avar_eval.tasks.visuals import rgb_picture

Row = Mapping[str, Any]


def doc_to_visual(row: Row) -> list[Image.Image]:
    """The row's one picture, RGB."""
    return [rgb_picture(row["image"], f"dots row {row['id']} has no picture")]


@templated(dict)
def doc_to_text(row: Row, settings: Mapping[str, Any] | None = None) -> str:
    """The question, and in the last line how to answer."""
    return ask([row["question"]], style_of(settings), "Answer with a number.")


def judge(row: Row, response: str, finish_reason: FinishReason | None = None) -> Judgement:
    """Whether the number is the row's."""
    return judge_answer(response, answer=row["answer"], kind="integer", finish_reason=finish_reason)
