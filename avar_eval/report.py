"""What the command line prints: the final table, and the lists of models and tasks."""

import json
from collections.abc import Sequence
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from avar_eval.models.registry import ModelEntry
from avar_eval.results import Metric, Results
from avar_eval.tables import print_details
from avar_eval.tasks.catalog import TaskEntry
from avar_eval.terminal import wide_console


def print_results(results: Results, output: Path) -> None:
    """One row a task: n, both verdicts, VAS with band, VAS of response tokens, truncated and unparsed shares."""
    table = Table(
        box=None,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        header_style="bold",
        title=f"{results.protocol['model']}",
        title_justify="left",
    )
    table.add_column("task", overflow="fold", min_width=8)
    for heading in ("n", "accuracy\n%", "official\n%", "VAS", "VAS\n(response)", "truncated\n%", "unparsed\n%"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, task in results.tasks.items():
        metrics = task.metrics
        table.add_row(
            name,
            str(metrics["accuracy"].n),
            _percent(metrics["accuracy"]),
            _percent(metrics["official"]),
            _number(metrics["vas"], task.vas_band or ""),
            _number(metrics["vas_response"]),
            _percent(metrics["truncated"]),
            _percent(metrics["unparsed"]),
        )
    console = wide_console()
    console.print(table)
    console.print("below each number: its 95 % interval; accuracy is strict, official the published rule's")
    print_details(console, results.tasks)
    for name, task in results.tasks.items():
        if task.left_out.n:
            console.print(f"{name}: {task.left_out.n} rows left out, {task.left_out.reason}")
    console.print(f"records and results: {output}", highlight=False, soft_wrap=True)


def _percent(metric: Metric) -> str:
    """A share as percent, its interval on a second line."""
    if metric.value is None:
        return "–"
    interval = "" if metric.ci95 is None else f"\n{100 * metric.ci95[0]:.1f}–{100 * metric.ci95[1]:.1f}"
    return f"{100 * metric.value:.1f}{interval}"


def _number(metric: Metric, band: str = "") -> str:
    """A score, its interval on a second line, its band on a third."""
    if metric.value is None:
        return "–"
    interval = "" if metric.ci95 is None else f"\n{_short(metric.ci95[0])}–{_short(metric.ci95[1])}"
    return _short(metric.value) + interval + (f"\n{band}" if band else "")


def _short(score: float) -> str:
    """A mean of ratios has no upper bound: from a thousand on as 1.2e3, so that the table keeps its width."""
    if score < 999.995:
        return f"{score:.2f}"
    digits, exponent = f"{score:.1e}".split("e")
    return f"{digits}e{int(exponent)}"


def print_models(entries: Sequence[ModelEntry], as_json: bool) -> None:
    """All registered models."""
    if as_json:
        typer.echo(json.dumps([_model(entry) for entry in entries], indent=2))
        return
    _print_table(
        ("model", "source", "description"),
        [(entry.name, entry.repository or "embedded", entry.description) for entry in entries],
    )


def print_model(entry: ModelEntry, as_json: bool) -> None:
    """One entry, field by field."""
    fields = _model(entry)
    if as_json:
        typer.echo(json.dumps(fields, indent=2))
        return
    _print_table(("field", "value"), [(name, str(value)) for name, value in fields.items() if value is not None])


def _model(entry: ModelEntry) -> dict[str, object]:
    return entry.model_dump(mode="json") | {"path": None if entry.path is None else str(entry.path)}


def print_tasks(entries: Sequence[TaskEntry], as_json: bool) -> None:
    """All tasks."""
    if as_json:
        typer.echo(json.dumps([entry.model_dump(mode="json") for entry in entries], indent=2))
        return
    _print_table(
        ("task", "dataset", "description"), [(entry.name, entry.dataset, entry.description) for entry in entries]
    )


def _print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table()
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
