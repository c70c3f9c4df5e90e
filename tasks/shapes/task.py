"""`shapes` as a task: where its rows come from, how a row becomes a prompt, how a response is judged."""

from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

from PIL import Image

from avar_eval.answers import FinishReason, Judgement, Kind, judge_answer
from avar_eval.tasks.prompts import lettered, style_of, templated
from avar_eval.tasks.shapes.dataset import Row, Split, prompt, rows
from avar_eval.tasks.visuals import rgb_picture

_KINDS: Final[dict[str, Kind]] = {"choice": "choice", "number": "integer", "word": "text"}


def load_split(split: Split) -> Iterator[dict[str, Any]]:
    """The evaluation rows of a split."""
    for row in rows(split):
        yield dict(row)


def load_blind_split(split: Split) -> Iterator[dict[str, Any]]:
    """The same rows, each with a white image of the same size."""
    for row in rows(split):
        yield dict(row) | {"image": Image.new("RGB", row["image"].size, "white")}


def doc_to_visual(row: Mapping[str, Any]) -> list[Image.Image]:
    """The row's one image."""
    return [rgb_picture(row["image"], f"shapes row {row['id']} has no picture")]


@templated(lambda row: {"options": lettered(row["choices"] or ())})
def doc_to_text(row: Mapping[str, Any], settings: Mapping[str, Any] | None = None) -> str:
    """The user turn's text."""
    return prompt(cast(Row, row), style_of(settings))


def judge(row: Mapping[str, Any], response: str, finish_reason: FinishReason | None = None) -> Judgement:
    """Exact match of the final answer: option letter, number or word."""
    return judge_answer(
        response,
        answer=row["answer"],
        kind=_KINDS[row["answer_type"]],
        choices=row["choices"],
        finish_reason=finish_reason,
    )
