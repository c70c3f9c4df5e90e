"""A sweep as a table for the terminal."""

from pathlib import Path

from avar_eval.console import wide_console
from avar_eval.number_format import count, p_value
from avar_eval.results.cells import percent_cell, points_cell, score_cell
from avar_eval.sweep.compare import Comparison, Sweep
from avar_eval.tables import Column, FittedTable


def print_sweep(sweep: Sweep, picture: Path, output: Path) -> None:
    """One row a steering for each task, the unsteered model first."""
    console = wide_console()
    for task, result in sweep.unsteered.items():
        title = f"{sweep.protocol['model']} on {task}"
        headings = ("n", "accuracy %", "difference (points)", "p", "VAS")
        table = FittedTable([Column("steering", text=True, key=True), *map(Column, headings)], title)
        metrics = result.metrics
        n = count(metrics["accuracy"].n)
        table.add_row("unsteered", n, percent_cell(metrics["accuracy"]), "", "", score_cell(metrics["vas"]))
        for comparison in sweep.comparisons:
            if comparison.task == task:
                table.add_row(*_cells(comparison))
        console.print(table)
    console.print(
        "in brackets: 95 % intervals; differences are paired with the unsteered model's answers, their intervals and p "
        "hold for all points of a task together"
    )
    console.print(f"picture: {picture}", soft_wrap=True)
    console.print(f"records and sweep.json: {output}", soft_wrap=True)


def _cells(of: Comparison) -> tuple[str, ...]:
    return (
        str(of.steering).replace(",", ", "),
        count(of.accuracy.n),
        percent_cell(of.accuracy),
        points_cell(of.difference),
        p_value(of.p),
        score_cell(of.vas),
    )
