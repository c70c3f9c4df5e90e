"""What the command line prints: the final table, and the lists of models and tasks."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from avar_eval.attention.steering import Steering
from avar_eval.console import wide_console
from avar_eval.number_format import UNKNOWN, count, percent
from avar_eval.results.cells import percent_cell, points_cell, score_cell
from avar_eval.results.schema import Metric, Results, TaskResult, TaskScores
from avar_eval.results.summary import has_band
from avar_eval.results.verdict_tables import guessed_line, print_details
from avar_eval.statistics import is_heavy
from avar_eval.tables import Column, FittedTable

TRAINED_ON = "†"
"""Beside a task whose data set is known to be in the model's training data."""

_DECIDED = ("visual_gain", "visual_dependence")
"""What stands beside image over system attention, the first that the run has."""

_SHOWN = 20
"""Rows left out that are named; results.json has all of them."""


def print_results(results: Results, output: Path) -> None:
    """The run's table, and below it what it has no column for."""
    console = wide_console()
    console.print(results_table(results))
    console.print("in brackets: 95 % intervals; accuracy is strict, official the published rule's")
    if line := _protocol_line(results.protocol.get("protocol")):
        console.print(line, soft_wrap=True, markup=False)
    for name, task in results.tasks.items():
        if line := guessed_line(name, task):
            console.print(line)
        if line := _heavy_line(name, task):
            console.print(line, soft_wrap=True)
        if task.knockout_windows:
            console.print(_windows_line(name, task), soft_wrap=True, markup=False)
    if results.protocol.get("backend", {}).get("backend") == "api":
        console.print("VAS is not available through an API: it shows no attention")
    for name in results.protocol.get("trained_on", []):
        console.print(
            f"{TRAINED_ON} {name}: in the training data of {results.protocol['model']}, so no measure of its ability"
        )
    of_lmms_eval = {
        name: task
        for name, task in results.tasks.items()
        if results.protocol.get("tasks", {}).get(name, {}).get("form") == "lmms-eval"
    }
    for name, task in of_lmms_eval.items():
        verdict = "" if task.metric("accuracy").n else "; it has no `judge`, so no strict verdict and no accuracy"
        console.print(f"{name}: lmms-eval's metrics, in their own units{verdict}", soft_wrap=True, markup=False)
        for metric, value in task.benchmark.get("official", {}).items():
            console.print(f"  {metric} {_plain(value)} (n = {value.n})", soft_wrap=True, markup=False)
    print_details(console, {name: task for name, task in results.tasks.items() if name not in of_lmms_eval})
    for name, task in results.tasks.items():
        if task.left_out.n:
            rows = "1 row" if task.left_out.n == 1 else f"{task.left_out.n} rows"
            ids = ", ".join(task.left_out.ids[:_SHOWN])
            ids += f" and {task.left_out.n - _SHOWN} more" if task.left_out.n > _SHOWN else ""
            console.print(f"{name}: {rows} left out: {task.left_out.reason} [{ids}]", soft_wrap=True, markup=False)
    for note in results.notes:
        console.print(f"note: {note}", soft_wrap=True, markup=False)
    console.print(f"records and results: {output}", soft_wrap=True)
    console.print(
        f"every answer, in a browser: avar-eval view {shlex.quote(str(output))}", soft_wrap=True, markup=False
    )


def _protocol_line(named: Mapping[str, Any] | None) -> str:
    """The named protocol that the run was asked under, what of it was changed, and whose verdict its score is."""
    if named is None:
        return ""
    changed = ", ".join(f"{name} {of['chosen']} for {of['protocol']}" for name, of in named.get("changed", {}).items())
    name = f"custom, {named.get('based_on')} with {changed}" if changed else named["name"]
    verdicts = ", ".join(dict.fromkeys(named.get("verdict", {}).values()))
    return f"protocol: {name}; published scores under it are by verdict {verdicts}"


def _heavy_line(name: str, task: TaskScores) -> str:
    """That a few responses make the mean of Eq. 2, where they do."""
    top = task.metric("vas_top_rows")
    if not is_heavy(top.value, top.n):
        return ""
    few = -(-top.n // 100)
    return (
        f"{name}: {few} of {top.n} responses hold {percent(top.value)} % of the sum of VAS, so its mean has no "
        "interval and no band; image ÷ system, vas_median and vas_geometric_mean in results.json do not hang on them"
    )


def _windows_line(name: str, task: TaskResult) -> str:
    """What the answer's log-probability changes by when text cannot see the image in each window of layers."""
    windows = ", ".join("{} to {}: ".format(*of.layers) + _plain(of.answer) for of in task.knockout_windows)
    return f"{name}: knockout of the answer by layers, nats: {windows}"


def results_table(results: Results) -> FittedTable:
    """One row a task: n, both verdicts, image over system attention, what the image decides, VAS with its band, …

    Image over system is `ratio_of_sums`; beside it visual_gain, or without it visual_dependence, where a run has them.
    Below them one row for each group whose published mean the run allows.
    """
    gain = next((name for name in _DECIDED if any(name in task.metrics for task in results.tasks.values())), None)
    decided = {"visual_gain": "gain (points)", "visual_dependence": "dependence (nats)"}
    headings = (
        "n", "accuracy %", "official %", "image ÷ system", *([decided[gain]] if gain else []),
        "VAS", "VAS (response)", "truncated %", "unparsed %",
    )  # fmt: skip
    table = FittedTable([Column("task", text=True, key=True), *map(Column, headings)], _title(results))
    for name, task in results.tasks.items():
        table.add_row(
            f"{name} {TRAINED_ON}" if name in results.protocol.get("trained_on", []) else name,
            count(task.metric("truncated").n),
            percent_cell(task.metric("accuracy")),
            percent_cell(task.metric("official")),
            score_cell(task.metric("ratio_of_sums")),
            *([(points_cell if gain == "visual_gain" else score_cell)(task.metric(gain))] if gain else []),
            score_cell(task.metric("vas"), task.vas_band if has_band(results.protocol) else None),
            score_cell(task.metric("vas_response")),
            percent_cell(task.metric("truncated")),
            percent_cell(task.metric("unparsed")),
        )
    for name, group in results.groups.items():
        means = [percent_cell(group.mean.get(verdict)) for verdict in ("strict", "official")]
        table.add_row(f"{name}: mean of {len(group.columns)}", count(group.mean["strict"].n), *means)
    return table


def _title(results: Results) -> str:
    """The model, and what it was steered by."""
    steering = results.protocol.get("steering")
    return str(results.protocol.get("model", "")) + ("" if steering is None else f", steered: {Steering(**steering)}")


def _plain(metric: Metric) -> str:
    """A number in a unit that is not ours, its interval beside it."""
    if metric.value is None:
        return UNKNOWN
    return f"{metric.value:.4g}" + ("" if metric.ci95 is None else " [{:.4g} to {:.4g}]".format(*metric.ci95))
