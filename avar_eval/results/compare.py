"""Runs on the same rows: is one better than chance would make it? `avar-eval compare RUN_A RUN_B …`."""

import json
import math
from collections.abc import Iterator, Sequence, Set
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from avar_eval.errors import AvarError
from avar_eval.outcomes import Verdict
from avar_eval.results.compared_run import ATTENTION, CAUSAL, VERDICTS, ComparedRun, Scale
from avar_eval.results.metrics import Benchmark, score_by_question
from avar_eval.statistics import Estimate, Linear, PairedTest, holm, paired_test, permutation_test
from avar_eval.tasks.catalog import catalog
from avar_eval.tasks.files import DataError, rows_by_id
from avar_eval.tasks.groups import groups
from avar_eval.terminal import note


class CompareError(AvarError):
    """Runs that cannot be compared, and why.

    What to do: Name runs of the same tasks that share questions.
    """


@dataclass(frozen=True)
class Comparison:
    """One metric of one task, or a group's mean, in two runs, on the rows of both.

    run: the folder of b; a is the first run. task: a task or a group of tasks. metric: "accuracy", "official", "judge";
    the benchmark's own score ("mean", "worst"); "ratio_of_sums", "vas"; or a causal measure. verdict: None for what has
    none.

    a, b: the metric in the two runs, each on the rows on which both have it; a row's value is the mean over its
    samples, with a guess of the published rule among k options worth 1/k. Those of `scale` "ratio" are geometric means.
    difference: b − a, or b / a for a ratio, with an interval that agrees with p; n counts rows. p: two-sided, of
    `test`, None where nothing can be tested; p_holm: adjusted for all that is compared. error: standard error of b − a
    (of its logarithm for a ratio), dof: its degrees of freedom. clusters: independent units. too_few: whether p cannot
    come below .05 with so few. only_a, only_b: rows that one run alone has. gained, lost: rows on which b is better,
    worse.
    """

    run: str
    task: str
    metric: str
    verdict: Verdict | None
    scale: Scale
    a: float
    b: float
    difference: Estimate
    p: float | None
    p_holm: float | None
    test: str
    error: float | None
    dof: float
    clusters: int
    too_few: bool
    only_a: int
    only_b: int
    gained: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON types."""
        return asdict(self) | {"difference": self.difference.to_json()}


def compare(a: Path, *others: Path, data_dir: Path | None = None) -> list[Comparison]:
    """Each of the other runs with the first, in all that both have: verdicts, scores, attention, causal measures,
    means.

    Rows that one of the two lacks are left out, and counted. A benchmark's own score, and means over tasks, need its
    rows, from `data_dir` or where the run has them from; without them they are left out with a note.

    Raises CompareError for runs without a row in common, and what reading the runs raises.
    """
    first = ComparedRun.read(a)
    found: list[Comparison] = []
    benchmarks: dict[str, Benchmark | None] = {}
    for folder in others:
        second = ComparedRun.read(folder)
        common = _common_rows(first, second)
        for task, rows in common.items():
            found += [
                _by_row(task, metric, scale, rows, first, second) for metric, scale in _metrics(task, first, second)
            ]
        found += _scores(common, first, second, benchmarks, data_dir)
    return _adjusted([one for one in found if one.difference.n])


def _common_rows(first: ComparedRun, second: ComparedRun) -> dict[str, list[str]]:
    """The rows of each task that both runs have, in the first one's order."""
    tasks = [task for task in first.rows if task in second.rows]
    if not tasks:
        raise CompareError(
            f"the runs have no task in common: {first.folder} has {', '.join(first.rows)}, {second.folder} has "
            f"{', '.join(second.rows)}"
        )
    common = {task: [row for row in first.rows[task] if row in second.rows[task]] for task in tasks}
    if not any(common.values()):
        raise CompareError(
            f"{first.folder} and {second.folder} answered no row of {', '.join(tasks)} in common: run both "
            "with the same --limit and data"
        )
    for task in tasks:
        for run in (first, second):
            run.note_guesses(task)
        if first.lacks_strata(task) and second.lacks_strata(task):
            note(
                f"note: neither {first.folder} nor {second.folder} says which group each row of {task} is in, so "
                "intervals of differences are somewhat too wide: run one of them again, it asks nothing twice"
            )
    return {task: rows for task, rows in common.items() if rows}


def _metrics(task: str, first: ComparedRun, second: ComparedRun) -> Iterator[tuple[str, Scale]]:
    """What both runs may have of each row."""
    for metric in VERDICTS:
        judges = [(run.results.protocol.get("judge") or {}).get("model") for run in (first, second)]
        if metric != "judge" or (judges[0] is not None and judges[0] == judges[1]):
            yield metric, "share"
    if first.queries == second.queries and first.has_attention(task) and second.has_attention(task):
        for metric in ATTENTION:
            yield metric, "ratio"
    theirs = second.causal_columns(task)
    for metric in first.causal_columns(task):
        if metric in theirs:
            yield metric, CAUSAL[metric][1]


def _by_row(
    task: str, metric: str, scale: Scale, rows: Sequence[str], first: ComparedRun, second: ComparedRun
) -> Comparison:
    """A metric that each row has; verdicts by the groups of rows that are always asked, as in results.json."""
    values: dict[str, tuple[float, float]] = {}
    for row in rows:
        one, other = first.value(task, row, metric), second.value(task, row, metric)
        if one is not None and other is not None:
            values[row] = one, other
    firsts, seconds = [one for one, _ in values.values()], [other for _, other in values.values()]
    groups_of = first.strata.get(task) or second.strata.get(task)
    strata = [groups_of[row] for row in values] if groups_of and metric in VERDICTS else None
    test = paired_test(firsts, seconds, [first.clusters[task][row] for row in values], strata)
    comparison = _comparison(
        task, metric, scale, test, (firsts, seconds), first.rows[task].keys(), second.rows[task].keys(), second.folder
    )
    if metric not in VERDICTS:
        return comparison
    return replace(
        comparison,
        verdict=VERDICTS[metric],
        gained=[row for row, (one, other) in values.items() if other > one],
        lost=[row for row, (one, other) in values.items() if other < one],
    )


def _comparison(
    task: str,
    metric: str,
    scale: Scale,
    test: PairedTest,
    values: tuple[Sequence[float], Sequence[float]],
    rows_a: Set[object],
    rows_b: Set[object],
    folder: Path,
) -> Comparison:
    means = [sum(of) / len(of) if of else 0.0 for of in values]
    difference = test.difference
    if scale == "ratio" and difference.value is not None:
        means = [math.exp(mean) for mean in means]
        ci95 = difference.ci95 and (math.exp(difference.ci95[0]), math.exp(difference.ci95[1]))
        difference = Estimate(math.exp(difference.value), ci95, difference.n)
    elif scale == "share" and metric != "visual_gain" and difference.ci95:  # a gain may change by up to 200 points
        low, high = difference.ci95
        difference = replace(difference, ci95=(max(-1.0, low), min(1.0, high)))
    return Comparison(
        run=str(folder),
        task=task,
        metric=metric,
        verdict=None,
        scale=scale,
        a=means[0],
        b=means[1],
        difference=difference,
        p=test.p,
        p_holm=test.p,
        test=test.test,
        error=test.error,
        dof=test.dof,
        clusters=test.clusters,
        too_few=test.too_few,
        only_a=len(rows_a - rows_b),
        only_b=len(rows_b - rows_a),
    )


def _scores(
    common: dict[str, list[str]],
    first: ComparedRun,
    second: ComparedRun,
    benchmarks: dict[str, Benchmark | None],
    data_dir: Path | None,
) -> Iterator[Comparison]:
    """Scores that are no share of responses, and groups' means."""
    own = {
        task: headline.name
        for task in common
        if (headline := first.results.tasks[task].headline) and headline.name != "accuracy" and task in catalog()
    }
    means = [
        (group, [(term.task, term.metric or catalog()[term.task].headline, weight) for term, weight in parts.items()])
        for group in first.results.groups.keys() & second.results.groups.keys() & groups().keys()
        if (parts := groups()[group].weights()) and all(term.task in common for term in parts)
    ]
    terms = [(task, [(task, metric, 1.0)]) for task, metric in own.items()]
    for name, parts_of in [*terms, *sorted(means)]:
        loaded = [_benchmark(task, common[task], benchmarks, data_dir) for task, _, _ in parts_of]
        if None in loaded:
            continue
        verdicts: tuple[Verdict, ...] = ("strict", "official")
        for verdict in verdicts:
            found = [
                _linear([(benchmark, metric, weight) for benchmark, (_, metric, weight) in zip(loaded, parts_of,
                strict=True)
                         if benchmark], verdict, common, run)
                for run in (first, second)
            ]  # fmt: skip
            if found[0] is None or found[1] is None:
                continue
            (one, keys), (other, other_keys) = found[0], found[1]
            n = sum(len(common[task]) for task, _, _ in parts_of)
            test = permutation_test(other.minus(one, other_keys, keys), n)
            rows_a, rows_b = (
                {(task, row) for task, _, _ in parts_of for row in run.rows[task]} for run in (first, second)
            )
            metric = "mean" if name in groups() else parts_of[0][1]
            comparison = _comparison(
                name, metric, "share", test, ([one.value], [other.value]), rows_a, rows_b, second.folder
            )
            yield replace(comparison, verdict=verdict)


def _linear(
    terms: Sequence[tuple[Benchmark, str, float]], verdict: Verdict, common: dict[str, list[str]], run: ComparedRun
) -> tuple[Linear, list[str]] | None:
    """A weighted sum of metrics by question, and the questions."""
    parts = []
    for benchmark, metric, weight in terms:
        task = benchmark.entry.name
        found = score_by_question(benchmark, run.outcomes(task, common[task]), verdict, metric)
        if found is None:
            return None
        parts.append((weight, *found))
    keys = list(dict.fromkeys(key for _, _, of in parts for key in of))
    return Linear.stacked(parts), keys


def _benchmark(
    task: str, rows: Sequence[str], known: dict[str, Benchmark | None], data_dir: Path | None
) -> Benchmark | None:
    """The task with its rows; None without them, or where they are not those that the run was asked."""
    if task not in known:
        try:
            known[task] = Benchmark(catalog()[task], rows_by_id(catalog()[task], data_dir))
        except DataError as error:
            known[task] = None
            note(f"note: scores that need the rows of {task} are not compared: {error}")
    found = known[task]
    return found if found and all(row in found.rows for row in rows) else None


def _adjusted(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """With p after Holm, over all that has a p."""
    tested = [index for index, one in enumerate(comparisons) if one.p is not None]
    ps = holm([p for one in comparisons if (p := one.p) is not None])
    adjusted = dict(zip(tested, ps, strict=True))
    return [replace(one, p_holm=adjusted.get(index)) for index, one in enumerate(comparisons)]


def comparisons_to_json(comparisons: Sequence[Comparison]) -> str:
    """A JSON array with one object a comparison."""
    return json.dumps([comparison.to_json() for comparison in comparisons], indent=2, ensure_ascii=False)
