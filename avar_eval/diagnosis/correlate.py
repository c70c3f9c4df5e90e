"""Do models that look at the image more answer better? VAS against accuracy over models, as the paper's Figure 1a."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

from avar_eval.errors import AvarError, UsageError
from avar_eval.leaderboard.paper import paper
from avar_eval.leaderboard.row import ListedRun, Row, run_rows
from avar_eval.leaderboard.store import Store, default_store
from avar_eval.results.prompting import note_on_prompts
from avar_eval.results.schema import RESULTS_NAME, Results, parse_results, results_bytes
from avar_eval.statistics import Correlation, pearson
from avar_eval.tasks.groups import Group, group_mean, groups

PAPER_TASKS: Final = ("mathvista", "mathvision", "mathverse_vo")
"""Of the four benchmarks whose mean the paper sets against VAS those that it prints; DynaMath is not printed."""
FEWEST: Final = 3
"""Models; through two points there is always a line."""


class CorrelateError(AvarError):
    """There is nothing to correlate, and why."""


class Point(BaseModel):
    """One model. accuracy in percent; intervals at 95 %, None where there is none, as of a mean over tasks.

    note: what a reader has to know of it.
    """

    model_config = ConfigDict(extra="forbid")

    model: str
    vas: float
    vas_ci95: tuple[float, float] | None = None
    accuracy: float
    accuracy_ci95: tuple[float, float] | None = None
    note: str | None = None


class WithoutOne(BaseModel):
    """The correlation of all models but one."""

    model_config = ConfigDict(extra="forbid")

    model: str
    r: float | None


class Correlated(BaseModel):
    """The content of correlate.json: n models; r, its interval (Fisher's z) and two-sided p; r without each model.

    accuracy: what it is. left_out: models without a point, with the reason. r is None where all values are equal.
    note: how the models were not asked alike.
    """

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[1] = 1
    source: str
    accuracy: str
    n: int
    r: float | None
    ci95: tuple[float, float] | None
    p: float | None
    without: list[WithoutOne]
    points: list[Point]
    left_out: dict[str, str]
    note: str | None = None

    def to_json(self) -> str:
        """The file's text."""
        data = self.model_dump(mode="json")
        return json.dumps({"schema": data.pop("schema_version"), **data}, indent=2, ensure_ascii=False) + "\n"


@dataclass(frozen=True)
class Points:
    """What is to be correlated: source and accuracy in words, the points, who has none and why, and a note."""

    source: str
    accuracy: str
    points: list[Point]
    left_out: dict[str, str]
    note: str | None = None


@dataclass(frozen=True)
class Measured:
    """A task of a run, with the benchmark's own metrics (0..1) by the strict verdict."""

    row: Row
    own: dict[str, float | None]


def correlate(of: Points) -> Correlated:
    """Pearson's r of VAS and accuracy, and what single models contribute to it. Raises CorrelateError."""
    if len(of.points) < FEWEST:
        left_out = "".join(f"; {model}: {reason}" for model, reason in of.left_out.items())
        raise CorrelateError(
            f"a correlation needs {FEWEST} models with both VAS and accuracy, and there are {len(of.points)} in "
            f"{of.source}{left_out}"
        )
    points = sorted(of.points, key=lambda point: point.vas)
    whole = _pearson(points)
    return Correlated(
        source=of.source,
        accuracy=of.accuracy,
        n=len(points),
        r=whole.r,
        ci95=whole.ci95,
        p=whole.p,
        without=[
            WithoutOne(model=left.model, r=_pearson([point for point in points if point is not left]).r)
            for left in (points if len(points) > FEWEST else [])
        ],
        points=points,
        left_out=of.left_out,
        note=of.note,
    )


def _pearson(points: Sequence[Point]) -> Correlation:
    return pearson([point.vas for point in points], [point.accuracy for point in points])


def paper_points() -> Points:
    """The rows of which the paper prints VAS, with the mean of those of Figure 1a's benchmarks that it prints."""
    rows = [row for row in (*paper().models, *paper().ablations) if row.vas is not None]
    points = [
        Point(model=row.name, vas=row.vas, accuracy=accuracy, note=row.notes)
        for row in rows
        if row.vas is not None and (accuracy := row.mean_of(PAPER_TASKS)) is not None
    ]
    return Points(f"the printed rows of {paper().source}", f"mean of {', '.join(PAPER_TASKS)}", points, {})


def run_points(runs: Sequence[Path], names: Sequence[str] | None) -> Points:
    """Points of finished runs, or without `runs` of the leaderboard's, where steered ones are left out.

    A model's accuracy is the score of the task, the published mean of the group, or the mean of the tasks in `names`,
    by default of those that all models have; its VAS is the mean over the same tasks. Of several runs of a model on a
    task a whole one counts before one of the first questions only, and the latest of them. Raises UsageError,
    ResultsError, StoreError and CorrelateError.
    """
    found = _measured(runs)
    by_model: dict[str, dict[str, Measured]] = {}
    for one in sorted(found, key=lambda one: (one.row.limit is None, one.row.limit or 0, one.row.added)):
        by_model.setdefault(_model(one.row), {})[one.row.task] = one
    source = "these runs" if runs else f"the leaderboard ({default_store()})"
    if not by_model:
        raise CorrelateError(f"no finished run in {source}: run avar-eval for some models, or try --paper")
    group = _group(names, by_model)
    points, left_out = [], {}
    for model, of in by_model.items():
        point = _point(model, of, group)
        if isinstance(point, Point):
            points.append(point)
        else:
            left_out[model] = point
    tasks = ", ".join(term.label for term in group.mean)
    used = [one.row for model, of in by_model.items() if model not in left_out for one in of.values()]
    note = note_on_prompts(row.prompting_sha256 for row in used if row.task in group.task_names())
    return Points(source, f"mean of {tasks}" if len(group.mean) > 1 else tasks, points, left_out, note)


def _measured(runs: Sequence[Path]) -> list[Measured]:
    """The tasks of these runs, in their order; without any the leaderboard's, but no steered ones."""
    if runs:
        paths = [run / RESULTS_NAME if run.is_dir() else run for run in runs]
        return [one for number, path in enumerate(paths) for one in _measured_tasks(path, f"{number:06}")]
    store = Store(default_store())
    added = {row.run_id: row.added for row in store.rows() if row.steering is None}
    return [one for run_id, time in added.items() for one in _measured_tasks(store.runs / f"{run_id}.json", time)]


def _measured_tasks(path: Path, added: str) -> list[Measured]:
    data = results_bytes(path)
    tasks = parse_results(Results, data, path).tasks
    return [
        Measured(row, {name: own.value for name, own in tasks[row.task].benchmark.get("strict", {}).items()})
        for row in run_rows(parse_results(ListedRun, data, path), added)
        if row.task in tasks  # not the mean of a group
    ]


def _model(row: Row) -> str:
    name = f"{row.model}@{row.revision[:7]}" if row.revision else row.model
    return name if row.steering is None else f"{name}, steered: {_strengths(row.steering)}"


def _strengths(steering: str) -> str:
    """A steering's JSON in the words of --steer."""
    from avar_eval.attention.steering import Steering

    return str(Steering.model_validate_json(steering))


def _group(names: Sequence[str] | None, by_model: dict[str, dict[str, Measured]]) -> Group:
    """The columns of the accuracy."""
    if names is not None and len(names) == 1 and names[0] in groups():
        group = groups()[names[0]]
        if not group.mean:
            raise UsageError(f"{group.name} has no mean: name its tasks, separated by commas")
        return group
    if names is None:
        common = set.intersection(*(set(of) for of in by_model.values())) - set(groups())
        names = sorted(common)
        if not common:
            have = "; ".join(f"{model}: {', '.join(of)}" for model, of in by_model.items())
            raise CorrelateError(f"the models have no task in common, give --tasks ({have})")
    if not names:
        raise UsageError("--tasks is empty: name a group with a mean, or tasks separated by commas")
    known = {task for of in by_model.values() for task in of}
    for name in names:
        if name not in known:
            from avar_eval.errors import unknown_name

            raise unknown_name("task", name, known | set(groups()), "(in these runs)")
    return Group(name="accuracy", description="", mean=list(names))


def _point(model: str, tasks: dict[str, Measured], group: Group) -> Point | str:
    """A model's point, or why it has none."""
    missing = [task for task in group.task_names() if task not in tasks]
    if missing:
        return f"no run of {', '.join(missing)}"
    rows = {task: one.row for task, one in tasks.items()}
    scores = {task: {one.row.score_name: one.row.score} | one.own for task, one in tasks.items()}
    accuracy = group_mean(group, scores, {task: row.score_name for task, row in rows.items()}).mean
    used = [rows[task] for task in group.task_names()]
    scored = [row.vas for row in used if row.vas is not None and isfinite(row.vas)]
    if accuracy is None:
        return "no score"
    if len(scored) < len(used):  # a mean over some of the tasks would be another quantity than the other models'
        return f"no finite VAS of {', '.join(row.task for row in used if row.vas is None or not isfinite(row.vas))}"
    single = used[0] if len(used) == 1 else None
    trained_on = [row.task for row in used if row.trained_on]
    return Point(
        model=model,
        vas=sum(scored) / len(scored),
        vas_ci95=_interval(single.vas_low, single.vas_high, 1) if single else None,
        accuracy=100 * accuracy,
        accuracy_ci95=_interval(single.score_low, single.score_high, 100) if single else None,
        note=f"trained on {', '.join(trained_on)}" if trained_on else None,
    )


def _interval(low: float | None, high: float | None, unit: int) -> tuple[float, float] | None:
    return None if low is None or high is None else (unit * low, unit * high)
