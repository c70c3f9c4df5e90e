"""`language_priors` as a task; prompts are those of `shapes`, and judging but for a second spelling."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from PIL import Image

from avar_eval.answers import FinishReason, Judgement
from avar_eval.tasks.language_priors.dataset import rows
from avar_eval.tasks.language_priors.questions import KINDS
from avar_eval.tasks.shapes import task as shapes
from avar_eval.tasks.shapes.dataset import Split
from avar_eval.tasks.shapes.task import doc_to_text, doc_to_visual
from avar_eval.tasks.shares import Parts, Units

__all__ = ["doc_to_text", "doc_to_visual", "judge", "load_blind_split", "load_split", "parts"]


def load_split(split: Split) -> Iterator[dict[str, Any]]:
    """The evaluation rows of a split."""
    for row in rows(split):
        yield dict(row)


def load_blind_split(split: Split) -> Iterator[dict[str, Any]]:
    """The same rows, each with a white image of the same size."""
    for row in rows(split):
        yield dict(row) | {"image": Image.new("RGB", row["image"].size, "white")}


def judge(row: Mapping[str, Any], response: str, finish_reason: FinishReason | None = None) -> Judgement:
    """Exact match of the final answer: a number, a letter, or a word; grey is gray, and `the elephant` an elephant."""
    judged = [
        shapes.judge({**row, "answer": answer}, response, finish_reason)
        for answer in (row["answer"], *_other_spellings(row))
    ]
    return next((judgement for judgement in judged if judgement.correct), judged[0])


def _other_spellings(row: Mapping[str, Any]) -> list[str]:
    if row["kind"] == "size":
        return [f"the {row['answer']}"]
    return ["grey"] if row["answer"] == "gray" else []


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
        place for place, row in enumerate(rows) if row["agrees"] == agrees and (kind is None or row["kind"] == kind)
    )
