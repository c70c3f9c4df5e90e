"""The models that are correlated: what was measured of each, of which family it is, and which checkpoint stands for it.

A training gives one point, its last checkpoint, and a base model one, however often it is on the board.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import hypot, isfinite
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict

from avar_eval.errors import AvarError, UsageError, unknown_name
from avar_eval.leaderboard.lineage import base_models, model_family, training_place
from avar_eval.leaderboard.paper import paper
from avar_eval.leaderboard.row import ListedRun, Row, run_rows
from avar_eval.leaderboard.store import Store, default_store
from avar_eval.results.prompting import note_on_prompts
from avar_eval.results.schema import RESULTS_NAME, Metric, Results, TaskResult, parse_results, results_bytes
from avar_eval.tasks.groups import Group, group_mean, groups

PAPER_TASKS: Final = ("mathvista", "mathvision", "mathverse_vo")
"""Of the four benchmarks whose mean the paper sets against VAS those that it prints; DynaMath is not printed."""
PAPER_VAS_TASK: Final = "mathvista"
"""What the paper takes VAS from, 200 cases of it; accuracy is of other benchmarks as well."""


class CorrelateError(AvarError):
    """There is nothing to correlate, and why.

    What to do: Evaluate more models, or name tasks that all of them have.
    """


class Point(BaseModel):
    """One model. measures: what was measured of it by the names of results.json, in their units, with `accuracy`.

    family: of models that are not independent. training, step: where it is a checkpoint. note: what a reader has to
    know of it.
    """

    model_config = ConfigDict(extra="forbid")

    model: str
    family: str
    training: str | None = None
    step: int | None = None
    measures: dict[str, Metric]
    note: str | None = None

    def value(self, axis: str) -> float | None:
        """A measure's value, None where it is unknown or infinite."""
        found = self.measures.get(axis)
        return None if found is None or found.value is None or not isfinite(found.value) else found.value


@dataclass(frozen=True)
class Board:
    """The models to correlate. source, accuracy: in words; measured_on: the task of all measures but accuracy.

    left_out: models without a point, with the reason. notes: what a reader has to know of all of them.
    """

    source: str
    accuracy: str
    measured_on: str
    points: list[Point]
    left_out: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Measured:
    """A task of a run."""

    row: Row
    result: TaskResult


def paper_points() -> Board:
    """The rows of which the paper prints VAS, with the mean of those of Figure 1a's benchmarks that it prints."""
    points = [
        Point(
            model=row.name,
            family="Qwen2.5-VL-7B",
            training="AVAR-Thinker",
            step=step,
            measures={"vas": Metric(value=row.vas), "accuracy": Metric(value=accuracy / 100)},
            note=row.notes,
        )
        for step, row in enumerate(
            sorted((*paper().models, *paper().ablations), key=lambda row: (row.vas is None, row.vas))
        )
        if row.vas is not None and (accuracy := row.mean_of(PAPER_TASKS)) is not None
    ]
    note = "these are the steps of one training, from its base model on: no interval and no p can be had of one"
    source = f"the printed rows of {paper().source}"
    return Board(source, f"mean of {', '.join(PAPER_TASKS)}", PAPER_VAS_TASK, points, notes=[note])


def run_points(
    runs: Sequence[Path],
    names: Sequence[str] | None = None,
    vas_task: str | None = None,
    all_checkpoints: bool = False,
) -> Board:
    """Points of finished runs, or without `runs` of the leaderboard's, where steered ones are left out.

    A model's accuracy is the score of the task, the published mean of the group, or the mean of the tasks in `names`,
    by default of those that all models have. All other measures are of `vas_task`, by default MathVista as in the
    paper, or where not all models have that, of the first of the accuracy's tasks. Of several runs of a model on a task
    a whole one counts before one of the first questions only, and of the leaderboard's the latest. Raises UsageError,
    ResultsError, StoreError and CorrelateError.
    """
    by_model: dict[str, dict[str, _Measured]] = {}
    found = sorted(_measured(runs), key=_weight)
    for one in found:
        by_model.setdefault(_model(one.row), {})[one.row.task] = one
    source = "these runs" if runs else f"the leaderboard ({default_store()})"
    if not by_model:
        raise CorrelateError(f"no finished run in {source}: run avar-eval for some models, or try --paper")
    group = _group(names, by_model)
    measured_on, notes = _vas_task(vas_task, by_model, group)
    bases = base_models([one.row for one in found])
    points, left_out = [], {}
    for model, of in sorted(by_model.items()):
        point = _point(model, of, group, measured_on, bases)
        if isinstance(point, Point):
            points.append(point)
        else:
            left_out[model] = point
    if not all_checkpoints:
        chosen = one_a_training(points)
        if len(chosen) < len(points):
            notes.append(
                f"{len(points) - len(chosen)} checkpoints are left out, the last of each training counts: "
                "--all-checkpoints shows them"
            )
        points = chosen
    needed = {*group.task_names(), measured_on}
    used = [one.row for point in points for one in by_model[point.model].values() if one.row.task in needed]
    if note := note_on_prompts(row.prompting_sha256 for row in used):
        notes.append(note)
    tasks = ", ".join(term.label for term in group.mean)
    return Board(source, f"mean of {tasks}" if len(group.mean) > 1 else tasks, measured_on, points, left_out, notes)


def _weight(one: _Measured) -> tuple[bool, int, str, str, str]:
    """Of two runs of a model on a task the one with the greater weight counts."""
    row = one.row
    return row.limit is None, row.limit or 0, row.training_started or "", row.added, row.run_id


def _measured(runs: Sequence[Path]) -> list[_Measured]:
    """The tasks of these runs; without any the leaderboard's, but no steered ones."""
    if runs:  # their order is without effect
        return [one for run in runs for one in _measured_tasks(run / RESULTS_NAME if run.is_dir() else run, "")]
    store = Store(default_store())
    added = {row.run_id: row.added for row in store.rows() if row.steering is None}
    return [one for run_id, time in added.items() for one in _measured_tasks(store.runs / f"{run_id}.json", time)]


def _measured_tasks(path: Path, added: str) -> list[_Measured]:
    data = results_bytes(path)
    tasks = parse_results(Results, data, path).tasks
    return [
        _Measured(row, tasks[row.task])
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


def one_a_training(points: Iterable[Point]) -> list[Point]:
    """The last checkpoint of each training, and all models that are none."""
    last: dict[tuple[str, str | None], Point] = {}
    for point in points:
        steering = point.model.partition(", steered: ")[2]
        key = (point.training or point.model.partition(", steered")[0].partition("@")[0], steering)
        if key not in last or (point.step or 0) >= (last[key].step or 0):
            last[key] = point
    return list(last.values())


def _group(names: Sequence[str] | None, by_model: Mapping[str, Mapping[str, _Measured]]) -> Group:
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
    for name in names:
        _check_task(name, by_model, set(groups()))
    return Group(name="accuracy", description="", mean=list(names))


def _check_task(name: str, by_model: Mapping[str, Mapping[str, _Measured]], others: set[str]) -> None:
    known = {task for of in by_model.values() for task in of}
    if name not in known:
        raise unknown_name("task", name, known | others, "(in these runs)")


def _vas_task(
    wanted: str | None, by_model: Mapping[str, Mapping[str, _Measured]], group: Group
) -> tuple[str, list[str]]:
    """The task of all measures but accuracy, and what to say of a choice that is not the paper's."""
    if wanted is not None:
        _check_task(wanted, by_model, set())
        return wanted, []
    if all(PAPER_VAS_TASK in of for of in by_model.values()):
        return PAPER_VAS_TASK, []
    first = group.task_names()[0]
    return first, [
        f"measures but accuracy are of {first}: not all models have {PAPER_VAS_TASK}, of which the paper takes 200 "
        "cases; --vas-task chooses"
    ]


def _point(
    model: str, tasks: Mapping[str, _Measured], group: Group, measured_on: str, bases: Mapping[str, str]
) -> Point | str:
    """A model's point, or why it has none."""
    needed = [*group.task_names(), measured_on]
    missing = [task for task in dict.fromkeys(needed) if task not in tasks]
    if missing:
        return f"no run of {', '.join(missing)}"
    accuracy = _accuracy(tasks, group)
    if accuracy.value is None:
        return "no score"
    row = tasks[measured_on].row
    training, step = training_place(row)
    trained_on = [task for task in dict.fromkeys(needed) if tasks[task].row.trained_on]
    measures = {
        name: metric
        for name, metric in tasks[measured_on].result.metrics.items()
        if metric.value is not None and isfinite(metric.value)
    }
    return Point(
        model=model,
        family=model_family(row, bases),
        training=training,
        step=step,
        measures=measures | {"accuracy": accuracy},
        note=f"trained on {', '.join(trained_on)}" if trained_on else None,
    )


def _accuracy(tasks: Mapping[str, _Measured], group: Group) -> Metric:
    """The group's mean (0..1) under the strict verdict; half-widths add up as those of independent numbers do."""
    measured = {
        task: one.result.benchmark.get("strict", {})
        | {one.row.score_name: Metric(value=one.row.score, ci95=_interval(one.row), n=one.row.n)}
        for task, one in tasks.items()
    }
    values = {task: {name: metric.value for name, metric in of.items()} for task, of in measured.items()}
    score_names = {task: one.row.score_name for task, one in tasks.items()}
    mean = group_mean(group, values, score_names).mean
    if mean is None:
        return Metric()
    parts = [
        (measured[term.task][term.metric or score_names[term.task]], share) for term, share in group.weights().items()
    ]
    halves = [share * (part.ci95[1] - part.ci95[0]) / 2 for part, share in parts if part.ci95]
    half = hypot(*halves)
    ci95 = parts[0][0].ci95 if len(parts) == 1 else (max(0.0, mean - half), min(1.0, mean + half))
    return Metric(value=mean, ci95=ci95 if len(halves) == len(parts) else None, n=sum(part.n for part, _ in parts))


def _interval(row: Row) -> tuple[float, float] | None:
    return None if row.score_low is None or row.score_high is None else (row.score_low, row.score_high)
