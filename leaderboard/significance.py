"""Which cells of a wide table are the best of their column by more than chance: what may stand in bold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Final

from avar_eval.errors import AvarError
from avar_eval.leaderboard.history import History
from avar_eval.leaderboard.ranking import comparable
from avar_eval.leaderboard.row import Row
from avar_eval.leaderboard.wide import WideTable
from avar_eval.records.book import RECORDS_NAME
from avar_eval.results.compare import compare
from avar_eval.results.schema import read_results
from avar_eval.statistics import holm

LEVEL: Final = 0.05


@dataclass
class BestCells:
    """best: (line, column) of cells that are better than all others that were asked alike. by_test, by_interval: the
    columns in which that was told by a paired test, or, where a run's records are not at hand, by intervals that do not
    overlap."""

    best: set[tuple[int, str]] = field(default_factory=set)
    by_test: list[str] = field(default_factory=list)
    by_interval: list[str] = field(default_factory=list)


def best_cells(table: WideTable, history: History) -> BestCells:
    """The best cell of each column among those that were asked alike, if it is better than each of the others.

    By the test of `avar-eval compare` on the rows of both runs, adjusted by Holm for the number of others; the folders
    of runs are where the history says they came from.
    """
    folders, tested = run_folders(history), _Tested()
    found = BestCells()
    for column in table.columns:
        cells = [(place, line.rows[column]) for place, line in enumerate(table.lines) if column in line.rows]
        scored = [cell for cell in cells if cell[1].score is not None and not cell[1].trained_on]
        for _, alike in groupby(sorted(scored, key=_class), key=_class):
            (place, best), *others = sorted(alike, key=lambda cell: -(cell[1].score or 0))
            if not others:
                continue
            ps = [tested.p(folders.get(best.run_id), folders.get(other.run_id), best) for _, other in others]
            known = [p for p in ps if p is not None]
            if len(known) == len(ps):
                told, better = found.by_test, all(p < LEVEL for p in holm(known))
            else:
                told, better = found.by_interval, all(_above(best, other) for _, other in others)
            if column not in told:
                told.append(column)
            if better and all((best.score or 0) > (other.score or 0) for _, other in others):
                found.best.add((place, column))
    return found


def _class(cell: tuple[int, Row]) -> str:
    return repr(comparable(cell[1]))


def _above(one: Row, other: Row) -> bool:
    return one.score_low is not None and other.score_high is not None and one.score_low > other.score_high


class _Tested:
    """The paired tests of two runs, of all tasks and scores at once and each pair once."""

    def __init__(self) -> None:
        self._known: dict[tuple[Path, Path], Mapping[tuple[str, str], float | None]] = {}

    def p(self, one: Path | None, other: Path | None, of: Row) -> float | None:
        """Two-sided p of the score of the row's task; None where it cannot be tested."""
        if one is None or other is None:
            return None
        if (one, other) not in self._known:
            try:
                found = compare(one, other)
            except AvarError:  # other rows, or records that are not whole: intervals are what is left
                found = []
            self._known[one, other] = {(done.task, done.metric): done.p for done in found if done.verdict == "strict"}
        return self._known[one, other].get((of.task, of.score_name))


def run_folders(history: History) -> Mapping[str, Path]:
    """By run id the folder that a run came from, where it and its records still are."""
    newest = {line.run_id: Path(line.source) for line in history.lines if line.event != "removed"}
    return {run_id: path for run_id, path in newest.items() if _has_records(path, run_id)}


def _has_records(folder: Path, run_id: str) -> bool:
    if not (folder / RECORDS_NAME).is_file():
        return False
    try:
        return read_results(folder).run_id == run_id
    except AvarError:
        return False


def in_words(found: BestCells, columns: Sequence[str]) -> str:
    """The rule of the bold cells, for a caption."""
    if not found.by_test and not found.by_interval:
        return "No two rows were asked alike, so none is in bold."
    paired = f"the paired test of avar-eval compare (p < {LEVEL:g} after Holm)"
    apart = "95 % intervals that do not overlap, as the records of a run are not at hand"
    rules = [
        f"{rule}{'' if {*of} == {*columns} else f' ({names})'}"
        for rule, of in ((paired, found.by_test), (apart, found.by_interval))
        if (names := ", ".join(of))
    ]
    return f"Bold: better than each other row that was asked alike, by {' and by '.join(rules)}."
