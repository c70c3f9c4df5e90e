"""What the command line prints of verdicts: a benchmark's own metrics, scored responses."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from avar_eval.console import wide_console
from avar_eval.names import first_few
from avar_eval.number_format import count, percent
from avar_eval.outcomes import Verdict
from avar_eval.results.cells import percent_cell
from avar_eval.results.metrics import VERDICTS
from avar_eval.results.schema import Metric, TaskResult
from avar_eval.tables import Column, FittedTable
from avar_eval.tasks.catalog import catalog

_COLUMNS = 3
_MOST_ROWS = 12
"""Own metrics that a table holds in full, of a task that declares no main ones."""


def print_details(console: Console, tasks: Mapping[str, TaskResult]) -> None:
    """What a run's table has no column for, if anything: own metrics, several samples, a judge, time-outs."""
    detailed = {name: rows for name, task in tasks.items() if (rows := _detail_rows(name, task))}
    if detailed:
        table = _table("task", "metric", *_headings(tasks.values()))
        for name, rows in detailed.items():
            for row in rows:
                table.add_row(name, *row[: len(table.columns) - 1])
        console.print(table)
    for name, task in tasks.items():
        if finer := _finer(name, task):
            said = f"{name}: {len(finer)} finer metrics are in results.json: {first_few(finer)}"
            console.print(said, soft_wrap=True, markup=False)


def print_scores(task: str, scored: Iterable[tuple[str, TaskResult]], output: Path | None) -> None:
    """A table a model: accuracy and the benchmark's own metrics under each verdict, and what was not scored."""
    console = wide_console()
    for model, result in scored:
        metrics = result.metrics
        table = _table("metric", *_headings([result]))
        table.title = f"{model}, {task}: {count(metrics['truncated'].n)} responses"
        for row in [_accuracy_row(result), *_benchmark_rows(task, result)]:
            table.add_row(*row[: len(table.columns)])
        console.print(table)
        _print_finer(console, model, task, result)
        shares = (name for name in ("truncated", "unparsed", "timeout", "judge_error") if name in metrics)
        console.print(", ".join(f"{name} {percent(metrics[name].value)} %" for name in shares))
        if line := guessed_line(model, result):
            console.print(line)
        if (left_out := result.left_out).n:
            console.print(f"{left_out.n} rows with {left_out.reason}: {first_few(left_out.ids)}")
    console.print("in brackets: 95 % intervals")
    if output is not None:
        console.print(f"judged responses: {output}", soft_wrap=True)


def _table(*headings: str) -> FittedTable:
    keys = ("task", "metric", "verdict")
    return FittedTable([Column(heading, text=heading in keys, key=heading in keys) for heading in headings])


def _headings(tasks: Iterable[TaskResult]) -> list[str]:
    judged = any("judge" in task.metrics for task in tasks)
    return [f"{verdict} %" for verdict in VERDICTS if verdict != "judge" or judged]


def _detail_rows(name: str, task: TaskResult) -> list[tuple[str, ...]]:
    rows = _benchmark_rows(name, task)
    if "judge" in task.metrics:
        rows.insert(0, _accuracy_row(task))
    for share in ("timeout", "judge_error"):
        if share in task.metrics and task.metrics[share].value:
            rows.append((share, *_cells({"strict" if share == "timeout" else "judge": task.metrics[share]})))
    return rows


def _accuracy_row(task: TaskResult) -> tuple[str, ...]:
    names: dict[Verdict, str] = {"strict": "accuracy", "official": "official", "judge": "judge"}
    return "accuracy", *_cells({verdict: task.metrics[of] for verdict, of in names.items() if of in task.metrics})


def _benchmark_rows(name: str, task: TaskResult) -> list[tuple[str, ...]]:
    """pass@k and majority, then the benchmark's own metrics but for the finer ones, each under every verdict."""
    rows = [
        (one, *_cells({"strict": metric}))
        for one, metric in task.metrics.items()
        if one.startswith("pass@") or one == "majority"
    ]
    finer = _finer(name, task)
    for one in _benchmark_names(task):
        if one not in finer:
            score = " (score)" if _is_headline(one, task) else ""
            rows.append(
                (one + score, *_cells({verdict: of[one] for verdict, of in task.benchmark.items() if one in of}))
            )
    return rows


def _is_headline(metric: str, task: TaskResult) -> bool:
    return task.headline is not None and task.headline.name == metric


def guessed_line(name: str, task: TaskResult) -> str:
    """How much of the official share is guesses, where the published rule makes any; else nothing."""
    guessed = task.metrics.get("official_guessed")
    if guessed is None or not guessed.value:
        return ""
    return (
        f"{name}: the published rule guesses on {round(guessed.value * guessed.n)} of {guessed.n} responses; official "
        "counts a guess among k options as 1/k"
    )


def _benchmark_names(task: TaskResult) -> list[str]:
    return list(dict.fromkeys(name for of in task.benchmark.values() for name in of))


def _finer(name: str, task: TaskResult) -> list[str]:
    """Own metrics that would drown the others in a table with intervals: those that the task does not declare as main.

    Of a task that declares none, where there are many: parts of parts, by their names.
    """
    names = _benchmark_names(task)
    entry = catalog().get(name)
    if entry is not None and entry.main:
        return [one for one in names if one not in entry.main and not _is_headline(one, task)]
    return [one for one in names if "/" in one or ", " in one] if len(names) > _MOST_ROWS else []


def _print_finer(console: Console, model: str, name: str, task: TaskResult) -> None:
    """The finer metrics side by side, each verdict's share with the number of responses."""
    verdicts = [verdict for verdict in VERDICTS if verdict in task.benchmark]
    cells = []
    for one in _finer(name, task):
        metrics = [task.benchmark[verdict][one] for verdict in verdicts if one in task.benchmark[verdict]]
        if any(metric.value is not None for metric in metrics):
            shares = " | ".join(percent(metric.value) for metric in metrics)
            cells.append(Text(f"{one} {shares} ({max(metric.n for metric in metrics)})", overflow="fold"))
    if cells:
        console.print(f"{model}: {' | '.join(verdicts)} % (responses)", markup=False)
        columns = max(1, min(_COLUMNS, console.width // (3 + max(cell.cell_len for cell in cells))))
        lines = -(-len(cells) // columns)
        grid = Table.grid(padding=(0, 3, 0, 0))
        for line in range(lines):
            grid.add_row(*cells[line::lines])
        console.print(grid)


def _cells(metrics: Mapping[Verdict, Metric]) -> list[str]:
    return [percent_cell(metrics.get(verdict)) for verdict in VERDICTS]
