"""`shapes_prior` as a task; prompts and judging are those of `shapes`."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from avar_eval.tasks.shapes.dataset import Split
from avar_eval.tasks.shapes.scene import blank_image
from avar_eval.tasks.shapes.task import doc_to_text, doc_to_visual, judge
from avar_eval.tasks.shapes_prior.dataset import rows
from avar_eval.tasks.shares import Parts, Units

__all__ = ["doc_to_text", "doc_to_visual", "judge", "load_blind_split", "load_split", "parts"]


def load_split(split: Split) -> Iterator[dict[str, Any]]:
    """The evaluation rows of a split."""
    for row in rows(split):
        yield dict(row)


def load_blind_split(split: Split) -> Iterator[dict[str, Any]]:
    """The same rows, each with a white image of the same size."""
    for row in rows(split):
        yield dict(row) | {"image": blank_image()}


def parts(rows: Sequence[Mapping[str, Any]]) -> Parts:
    """Where the wording suggests the right answer, and where it suggests a wrong one."""
    suggests = [row["suggested"] == row["answer"] for row in rows]
    return {
        "wording_right": Units.of(place for place, right in enumerate(suggests) if right),
        "wording_wrong": Units.of(place for place, right in enumerate(suggests) if not right),
    }
