"""Rows of `shapes` and `shapes_prior`, the same scenes and answers, asked in other words."""

import random
from collections.abc import Iterator
from typing import TypeVar

from avar_eval.tasks.shapes import dataset as shapes
from avar_eval.tasks.shapes.dataset import Row, Split
from avar_eval.tasks.shapes.scene import Scene
from avar_eval.tasks.shapes_english.solutions import View, solution
from avar_eval.tasks.shapes_english.wordings import ASKED, read
from avar_eval.tasks.shapes_prior import dataset as shapes_prior
from avar_eval.tasks.shapes_prior.dataset import PriorRow

R = TypeVar("R", Row, PriorRow)


def rows(split: Split, n: int = shapes.EVALUATION_ROWS, *, seed: int = 0, anchors: bool = True) -> Iterator[Row]:
    """The rows of `shapes`, each in one of the split's wordings, drawn by its id; arguments as there."""
    for index in range(n):
        yield reworded(shapes.row(split, index, seed=seed), split, anchors)


def prior_rows(
    split: Split,
    n: int = shapes_prior.EVALUATION_ROWS,
    *,
    seed: int = 0,
    anchors: bool = True,
    prior: float | None = shapes_prior.PRIOR,
) -> Iterator[PriorRow]:
    """The rows of `shapes_prior`, each in one of the split's wordings; arguments as there."""
    for index in range(n):
        yield reworded(shapes_prior.row(split, index, seed=seed, prior=prior), split, anchors)


def reworded(row: R, split: Split, anchors: bool) -> R:
    """A row in a wording of the split, with its solution in sentences. anchors: whether that has looking phrases."""
    form, fields = read(row["question"])
    wording = random.Random(f"english/{form}/{row['id']}").choice(ASKED[form].wordings(split))
    view = View(Scene.from_canonical(row["scene"]), fields, row["answer"], row["choices"])
    found = row.copy()
    found["question"] = wording.format(**fields)
    suggested = row.get("suggested")
    found["solution"] = solution(form, view, None if suggested is None else str(suggested), anchors)
    return found
