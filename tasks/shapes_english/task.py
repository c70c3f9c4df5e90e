"""`shapes_english` and `shapes_prior_english` as tasks; prompts and judging are those of `shapes`."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from avar_eval.tasks.shapes.dataset import Split
from avar_eval.tasks.shapes.task import doc_to_text, doc_to_visual, judge
from avar_eval.tasks.shapes_english.dataset import prior_rows, rows
from avar_eval.tasks.shapes_prior import task as shapes_prior
from avar_eval.tasks.shares import Parts

__all__ = ["doc_to_text", "doc_to_visual", "judge", "load_prior_split", "load_split", "parts"]


def load_split(split: Split) -> Iterator[dict[str, Any]]:
    """The evaluation rows of a split of `shapes_english`."""
    for row in rows(split):
        yield dict(row)


def load_prior_split(split: Split) -> Iterator[dict[str, Any]]:
    """The evaluation rows of a split of `shapes_prior_english`."""
    for row in prior_rows(split):
        yield dict(row)


def parts(rows: Sequence[Mapping[str, Any]]) -> Parts:
    """Of `shapes_prior_english`, where the wording suggests the right answer and where a wrong one; else none."""
    return shapes_prior.parts(rows) if all("suggested" in row for row in rows) else {}
