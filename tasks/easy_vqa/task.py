"""easy-VQA: how a row becomes a prompt, how a response is judged, and the accuracy by kind of question."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from PIL import Image

from avar_eval.answers import FinishReason, Judgement, judge_answer
from avar_eval.tasks.easy_vqa.dataset import ANSWERS, KINDS, Kind
from avar_eval.tasks.prompts import ask, style_of, templated
from avar_eval.tasks.shares import Parts, Units
from avar_eval.tasks.visuals import rgb_picture

Row = Mapping[str, Any]

DIRECT: Final = "Answer with one word, and nothing else."


def doc_to_visual(row: Row) -> list[Image.Image]:
    """The row's one picture, RGB."""
    return [rgb_picture(row["image"], f"easy_vqa row {row['id']} has no picture")]


@templated(lambda row: {"answers": ANSWERS[cast(Kind, row["kind"])]})
def doc_to_text(row: Row, settings: Mapping[str, Any] | None = None) -> str:
    """The user turn: the question as published, the answers of its kind, the instruction."""
    *others, last = ANSWERS[cast(Kind, row["kind"])]
    return ask([f"{row['question']} ({', '.join(others)} or {last})"], style_of(settings), DIRECT)


def judge(row: Row, response: str, finish_reason: FinishReason | None = None) -> Judgement:
    """Exact match of the final answer, one of 13 words."""
    return judge_answer(response, answer=row["answer"], kind="text", finish_reason=finish_reason)


def cluster(row: Row) -> str:
    """The picture: who misreads it errs in all of its questions."""
    return str(row["image_id"])


def parts(rows: Sequence[Row]) -> Parts:
    """The four kinds of question."""
    return {kind: Units.of(place for place, row in enumerate(rows) if row["kind"] == kind) for kind in KINDS}
