"""The leaderboard as tables of papers have it: a line each model, a column each task, the paper's below ours."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from avar_eval.leaderboard.paper import Paper, PaperRow
from avar_eval.leaderboard.ranking import SETTINGS, told
from avar_eval.leaderboard.row import Row
from avar_eval.leaderboard.table import model_name
from avar_eval.tasks.groups import groups

_OF_MODEL: Final[Mapping[str, Callable[[Row], Any]]] = {
    name: lambda row, name=name: getattr(row, name)  # type: ignore[misc]
    for name in ("model", "revision", "steering", "dtype", "training_run", "training_step", "training_started")
}
_OF_TASKS: Final = ("score", "n", "left out", "token limit", "grader", "version", "data", "split")
"""Settings in which the rows of one line may differ, because each is a benchmark's own."""
_OF_LINE: Final = {name: read for name, read in SETTINGS.items() if name not in _OF_TASKS}


def _steering(row: Row) -> str | None:
    """By what a model was steered; anybody's results.json says it."""
    if row.steering is None:
        return None
    return ",".join(f"{name}={value}" for name, value in json.loads(row.steering).items() if value)


_APART: Final[Mapping[str, Callable[[Row], Any]]] = {**_OF_LINE, "steering": _steering}
"""What sets the lines of one name apart: it says that a model was steered, not by what."""


@dataclass(frozen=True)
class WideLine:
    """The rows of one model that was asked in one way, by column.

    differs: what sets it apart from its other lines, and that its numbers are as a results.json reports them, where no
    records were judged again. average: of the columns' scores, None as soon as one is not there. vas: the same of the
    VAS of all of its tasks. paper: the printed row of the model, of whole benchmarks and without steering only.
    """

    name: str
    differs: str
    rows: Mapping[str, Row]
    average: float | None
    vas: float | None
    paper: PaperRow | None

    def difference(self, column: str) -> float | None:
        """Our score minus the printed one, 0..1; None where either is not there."""
        row = self.rows.get(column)
        if self.paper is None or row is None or row.score is None or column not in self.paper.scores:
            return None
        return row.score - self.paper.scores[column] / 100


@dataclass(frozen=True)
class WideTable:
    """columns: tasks, or groups of them, in the order of the paper's table."""

    columns: Sequence[str]
    lines: Sequence[WideLine]

    def paper_average(self, line: WideLine) -> float | None:
        """The printed average (0..1) where these are the paper's columns, else the mean of what is printed of them."""
        if line.paper is None:
            return None
        if line.paper.average is not None and {*self.columns} == {term.task for term in groups()["avar7"].mean}:
            return line.paper.average / 100
        mean = line.paper.mean_of(tuple(self.columns))
        return None if mean is None else mean / 100


def wide_table(rows: Iterable[Row], tasks: Sequence[str], paper: Paper) -> WideTable:
    """Rows that were asked alike in a line each, of several of a task the one that was added last.

    tasks: the columns (none: all that the rows have; a group that is a column of a published mean stands for its
    tasks). Lines stand by their average, then by the number of columns that they have.
    """
    found: dict[tuple[Any, ...], dict[str, Row]] = {}
    for row in sorted(rows, key=lambda row: (row.added, row.run_id)):
        key = (*(read(row) for read in _OF_MODEL.values()), *(read(row) for read in _OF_LINE.values()))
        found.setdefault(key, {})[row.task] = row
    columns = list(tasks) or _columns(list(found.values()))
    by_task = [of for of in found.values() if any(task in of for task in columns)]
    names = [model_name(next(iter(of.values()))) for of in by_task]
    lines = [
        _line(name, of, columns, [other for other, its in zip(by_task, names, strict=True) if its == name], paper)
        for name, of in zip(names, by_task, strict=True)
    ]
    lines.sort(key=lambda line: (line.average is None, -(line.average or 0), -len(line.rows), line.name, line.differs))
    return WideTable(columns, lines)


def _columns(lines: Sequence[Mapping[str, Row]]) -> list[str]:
    present = {task for line in lines for task in line}
    published = [term.task for group in groups().values() for term in group.mean]
    inner = {name for name in published if name in groups() and name in present}
    for name in sorted(inner):
        members = {term.task for term in groups()[name].weights()}
        if all(name in line for line in lines if members & line.keys()):
            present -= members
        else:
            present.discard(name)
    present = {task for task in present if task not in groups() or task in inner}
    order = list(dict.fromkeys([*(term.task for term in groups()["avar7"].mean), *published]))
    return sorted(present, key=lambda task: (order.index(task) if task in order else len(order), task))


def _line(
    name: str, rows: Mapping[str, Row], columns: Sequence[str], others: Sequence[Mapping[str, Row]], paper: Paper
) -> WideLine:
    first = next(iter(rows.values()))
    settings = [{of: read(next(iter(other.values()))) for of, read in _APART.items()} for other in others]
    varying = {of: read(first) for of, read in _APART.items() if len({str(other[of]) for other in settings}) > 1}
    shown = {column: rows[column] for column in columns if column in rows}
    scores = [row.score for row in shown.values() if row.score is not None]
    tasks = {
        term.task for column in shown if column in groups() for term in groups()[column].weights()
    } | {column for column in shown if column not in groups()}  # fmt: skip
    vas = [rows[task].vas for task in tasks if task in rows]
    known = [value for value in vas if value is not None]
    verified = all(row.mark == "verified" for row in rows.values())
    printed = next((of for of in paper.models if first.model in (of.registered, of.name)), None)
    return WideLine(
        name=name,
        differs=", ".join(filter(None, (told(varying), "" if verified else "as reported"))),
        rows=shown,
        average=sum(scores) / len(columns) if scores and len(scores) == len(columns) else None,
        vas=sum(known) / len(known) if known and len(known) == len(tasks) else None,
        paper=printed if first.limit is None and first.steering is None else None,
    )
