"""Two runs on the same rows: is one better than chance would make it? `avar-eval compare RUN_A RUN_B`."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

from avar_eval.errors import AvarError
from avar_eval.names import first_few
from avar_eval.records.book import RECORDS_NAME
from avar_eval.results.schema import read_results, read_task_records
from avar_eval.results.stored import StoredResponse, read_stored, run_responses
from avar_eval.statistics import Estimate, holm, mcnemar, paired_difference, paired_permutation
from avar_eval.tasks.catalog import catalog, task_hooks
from avar_eval.terminal import note

SEED: Final = 0
"""Of the permutation test: the same two runs give the same p."""


VERDICTS: Final[tuple[Literal["correct", "official"], ...]] = ("correct", "official")
"""By their names in a judgement."""


class CompareError(AvarError):
    """Two runs that cannot be compared, and why."""


@dataclass(frozen=True)
class Comparison:
    """One task under one verdict; a row's value is the share of its samples that are right.

    Where the published rule guesses among k options, a sample is worth 1/k, as in the scores. a, b: shares of the two
    runs (0..1) on the rows on which both have the verdict. difference: b − a with the paired, clustered interval.
    mcnemar_p: exact, None where a row's value is neither 0 nor 1 (a guess, samples). permutation_p: over clusters.
    permutation_p_holm: adjusted for the number of tasks compared. gained, lost: rows on which b is better, worse.
    """

    task: str
    verdict: Literal["strict", "official"]
    a: float | None
    b: float | None
    difference: Estimate
    mcnemar_p: float | None
    permutation_p: float
    permutation_p_holm: float
    gained: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON types."""
        return asdict(self) | {"difference": self.difference.to_json()}


@dataclass(frozen=True)
class _Run:
    """A run's responses by row: task -> row -> samples, the cluster of each row, and what a guess on it is worth."""

    folder: Path
    rows: dict[str, dict[str, list[StoredResponse]]]
    clusters: dict[str, dict[str, str]]
    guess_chances: dict[str, dict[str, float | None]]


def compare(a: Path, b: Path) -> list[Comparison]:
    """The tasks that both runs have, under the strict and the official verdict, where there is one.

    Raises CompareError for runs without a common task or with different rows, and what reading the runs raises.
    """
    first, second = _read(a), _read(b)
    tasks = [task for task in first.rows if task in second.rows]
    if not tasks:
        raise CompareError(
            f"the runs have no task in common: {a} has {', '.join(first.rows)}, {b} has {', '.join(second.rows)}"
        )
    for task in tasks:
        _check_rows(task, first, second)
        for run in (first, second):
            _note_guesses(task, run)
    return [
        comparison
        for verdict in VERDICTS
        for comparison in _adjusted([_compared(task, verdict, first, second) for task in tasks])
    ]


def _read(folder: Path) -> _Run:
    tasks = read_results(folder).tasks
    responses = run_responses(folder, tasks, read_stored(folder / RECORDS_NAME))
    asked = read_task_records(folder, tasks)
    rows: dict[str, dict[str, list[StoredResponse]]] = {task: {} for task in tasks}
    clusters: dict[str, dict[str, str]] = {task: {} for task in tasks}
    chances: dict[str, dict[str, float | None]] = {task: {} for task in tasks}
    for task, of in responses.items():
        worth = asked[task].guess_chances or [None] * len(of)
        for response, cluster, chance in zip(of, asked[task].clusters, worth, strict=True):
            rows[task].setdefault(response.row_id, []).append(response)
            clusters[task][response.row_id] = cluster
            chances[task][response.row_id] = chance
    return _Run(folder, rows, clusters, chances)


def _note_guesses(task: str, run: _Run) -> None:
    """Say that a run of before guesses were written down is compared without them."""
    if task not in catalog():  # of a folder that this command was not told of, or lmms-eval's: files say all there is
        return
    if not hasattr(task_hooks(task), "guess_chance") or any(of is not None for of in run.guess_chances[task].values()):
        return
    guessed = sum(_right(one, "official", None) is None for samples in run.rows[task].values() for one in samples)
    if guessed:
        note(
            f"note: {run.folder} does not say what the published rule's guesses are worth, so official leaves out "
            f"{guessed} responses to {task}: run the evaluation again, it asks nothing twice"
        )


def _check_rows(task: str, a: _Run, b: _Run) -> None:
    only_a = [row for row in a.rows[task] if row not in b.rows[task]]
    only_b = [row for row in b.rows[task] if row not in a.rows[task]]
    if only_a or only_b:
        differing = [f"only {run.folder} has {first_few(rows)}" for run, rows in ((a, only_a), (b, only_b)) if rows]
        raise CompareError(
            f"the runs did not answer the same rows of {task}: {'; '.join(differing)}; run both with the same --limit "
            "and data"
        )


def _compared(task: str, verdict: Literal["correct", "official"], a: _Run, b: _Run) -> Comparison | None:
    """None where the two runs have no row in common on which there is the verdict."""
    values: dict[str, tuple[float, float]] = {}
    for row in a.rows[task]:
        first, second = (_value(run.rows[task][row], verdict, run.guess_chances[task][row]) for run in (a, b))
        if first is not None and second is not None:
            values[row] = first, second
    if not values:
        return None
    firsts, seconds = [first for first, _ in values.values()], [second for _, second in values.values()]
    clusters = [a.clusters[task][row] for row in values]
    single = {*firsts, *seconds} <= {0.0, 1.0}
    p = paired_permutation(seconds, firsts, SEED, clusters)
    return Comparison(
        task=task,
        verdict="strict" if verdict == "correct" else "official",
        a=sum(firsts) / len(firsts),
        b=sum(seconds) / len(seconds),
        difference=paired_difference(seconds, firsts, clusters),
        mcnemar_p=mcnemar([first == 1 for first in firsts], [second == 1 for second in seconds]) if single else None,
        permutation_p=p,
        permutation_p_holm=p,
        gained=[row for row, (first, second) in values.items() if second > first],
        lost=[row for row, (first, second) in values.items() if second < first],
    )


def _value(
    samples: Sequence[StoredResponse], verdict: Literal["correct", "official"], guess_chance: float | None
) -> float | None:
    """How right a row's samples are on average, of those with the verdict; None without any."""
    known = [right for one in samples if (right := _right(one, verdict, guess_chance)) is not None]
    return sum(known) / len(known) if known else None


def _right(sample: StoredResponse, verdict: Literal["correct", "official"], guess_chance: float | None) -> float | None:
    """1 or 0; where the published rule has no verdict, what its guess is worth; None without a guess."""
    if not sample.judgement:
        return None
    found = sample.judgement.get(verdict)
    if found is not None:
        return float(found)
    return guess_chance if verdict == "official" else None


def _adjusted(comparisons: Sequence[Comparison | None]) -> list[Comparison]:
    known = [comparison for comparison in comparisons if comparison]
    adjusted = holm([comparison.permutation_p for comparison in known])
    return [replace(comparison, permutation_p_holm=p) for comparison, p in zip(known, adjusted, strict=True)]


def comparisons_to_json(comparisons: Sequence[Comparison]) -> str:
    """A JSON array with one object a comparison."""
    return json.dumps([comparison.to_json() for comparison in comparisons], indent=2, ensure_ascii=False)
