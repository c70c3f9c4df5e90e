"""Score against each measure of looking over models, a benchmark at a time: what `avar-leaderboard page` draws."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Final

from avar_eval.leaderboard.lineage import base_models, model_family
from avar_eval.leaderboard.page.measures import MEASURES, PLACES
from avar_eval.leaderboard.page.rows import PAPER_AVERAGE, PAPER_VAS, Line, PageRow
from avar_eval.leaderboard.paper import Paper
from avar_eval.leaderboard.ranking import ComparableRows
from avar_eval.leaderboard.row import Row
from avar_eval.statistics import Correlation, Pairs, pearson

_LEFT_OUT: Final = (
    "steered, within a training, asked otherwise or of another number of questions, earlier, or without this measure"
)
FEWEST: Final = 2
"""Points that are worth a picture."""


@dataclass(frozen=True)
class Picture:
    """One picture. x: the place of its measure. points: places of the rows that have x and the score of each model."""

    title: str
    x: int
    points: list[tuple[int, int]]
    found: Correlation
    notes: list[str]


def correlations(rows: Sequence[PageRow], alike: Sequence[ComparableRows]) -> list[Picture]:
    """Of each benchmark and each measure that at least two models have.

    alike: rows that were asked alike, as `ranked` has them. Of a benchmark the largest group is taken, and of it one
    point a model, its row that was added last, but none that is steered or of a checkpoint within a training.
    """
    largest: dict[str, ComparableRows] = {}
    for group in alike:
        if group.task not in largest or len(group.rows) > len(largest[group.task].rows):
            largest[group.task] = group
    places = {id(one.own): place for place, one in enumerate(rows)}
    bases = base_models(one.own for one in rows if one.own is not None)
    counts = Counter(one.task for one in rows if one.own is not None)
    pictures = []
    for task, group in largest.items():
        latest = [places[id(row)] for row in _latest([one.row for one in group.rows])]
        for x, measure in enumerate(MEASURES):
            points = [(place, place) for place in latest if measure.x and _has(rows[place], x)]
            if len(points) >= FEWEST:
                of_family = [model_family(own, bases) for y, _ in points if (own := rows[y].own) is not None]
                left = counts[task] - len(points)
                notes = [f"{left} more rows of {task} are left out: {_LEFT_OUT}."] if left else []
                pictures.append(_picture(f"{task}: score against {measure.label}", x, points, rows, of_family, notes))
    return sorted(pictures, key=lambda picture: -len(picture.points))


def printed_picture(published: Paper, rows: Sequence[PageRow], lines: Sequence[Line]) -> Picture:
    """The paper's models of which it prints VAS and an average."""
    points = []
    for line in lines:
        of = {rows[place].task: place for place in line.rows}
        if PAPER_AVERAGE in of and PAPER_VAS in of and PLACES["vas"] in rows[of[PAPER_VAS]].cells:
            points.append((of[PAPER_VAS], of[PAPER_AVERAGE]))
    whole = published.correlation
    note = (
        f"The paper reports r = {whole.r} (p = {whole.p:.1e}) over {whole.n} models, their accuracy being the "
        f"{whole.accuracy}; of those it prints no more than these as numbers, and here the average of its table. They "
        "are one training from its base model on, of which no interval and no p can be had."
    )
    return _picture(
        f"{published.source}, as printed: average against VAS",
        PLACES["vas"],
        points,
        rows,
        ["one training"] * len(points),
        [note],
    )


def _latest(rows: Iterable[Row]) -> list[Row]:
    """A row a model, that which was added last, without steered ones and checkpoints."""
    found: dict[tuple[str, str | None], Row] = {}
    for row in sorted(rows, key=lambda row: (row.added, row.run_id)):
        if row.steering is None and row.training_step is None:
            found[row.model, row.revision] = row
    return list(found.values())


def _has(one: PageRow, x: int) -> bool:
    return x in one.cells and PLACES["score"] in one.cells and isfinite(one.cells[x][0])


def _picture(
    title: str,
    x: int,
    points: list[tuple[int, int]],
    rows: Sequence[PageRow],
    families: Sequence[str],
    notes: list[str],
) -> Picture:
    across = [rows[place].cells[x][0] for place, _ in points]
    up = [rows[place].cells[PLACES["score"]][0] for _, place in points]
    return Picture(title, x, points, pearson(Pairs.of(across, up, families)), notes)
