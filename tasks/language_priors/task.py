"""`language_priors` as a task: where its rows come from, how a row becomes a prompt, how a response is judged."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, cast

from PIL import Image

from avar_eval.answers import FinishReason, Judgement, Kind, judge_answer
from avar_eval.tasks.language_priors.dataset import Row, prompt, rows
from avar_eval.tasks.language_priors.questions import KINDS
from avar_eval.tasks.prompts import style_of, templated
from avar_eval.tasks.shapes.dataset import Split
from avar_eval.tasks.shares import Parts, Units
from avar_eval.tasks.visuals import rgb_picture

_KINDS: Final[dict[str, Kind]] = {"number": "integer", "word": "text"}


def load_split(split: Split) -> Iterator[dict[str, Any]]:
    """The evaluation rows of a split."""
    for row in rows(split):
        yield dict(row)


def load_blind_split(split: Split) -> Iterator[dict[str, Any]]:
    """The same rows, each with a white image of the same size."""
    for row in rows(split):
        yield dict(row) | {"image": Image.new("RGB", row["image"].size, "white")}


def doc_to_visual(row: Mapping[str, Any]) -> list[Image.Image]:
    """The row's one picture, RGB."""
    return [rgb_picture(row["image"], f"language_priors row {row['id']} has no picture")]


@templated(dict)
def doc_to_text(row: Mapping[str, Any], settings: Mapping[str, Any] | None = None) -> str:
    """The user turn's text."""
    return prompt(cast(Row, row), style_of(settings))


def judge(row: Mapping[str, Any], response: str, finish_reason: FinishReason | None = None) -> Judgement:
    """Exact match of the final answer: a number, a word or a letter."""
    return judge_answer(response, answer=row["answer"], kind=_KINDS[row["answer_type"]], finish_reason=finish_reason)


def parts(rows: Sequence[Mapping[str, Any]]) -> Parts:
    """Where picture and prior agree, where they disagree, and both of each kind."""
    groups = {"agree": True, "disagree": False}
    found = {name: _where(rows, agrees) for name, agrees in groups.items()}
    for kind in KINDS:
        for name, agrees in groups.items():
            found[f"{kind.name}_{name}"] = _where(rows, agrees, kind.name)
    return found


def _where(rows: Sequence[Mapping[str, Any]], agrees: bool, kind: str | None = None) -> Units:
    return Units.of(
        place
        for place, row in enumerate(rows)
        if row["agrees"] == agrees and (kind is None or row["kind"] == kind)
    )
