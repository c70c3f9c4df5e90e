"""A sweep as a table for the terminal."""

from pathlib import Path

from rich import box
from rich.table import Table

from avar_eval.console import InertConsole
from avar_eval.results.run_table import number, percent
from avar_eval.results.schema import Metric
from avar_eval.results.verdict_tables import p_value
from avar_eval.sweep.compare import Comparison, Sweep


def print_sweep(sweep: Sweep, picture: Path, output: Path) -> None:
    """One row a steering for each task, the unsteered model first."""
    console = InertConsole()
    for task, result in sweep.unsteered.items():
        title = f"{sweep.protocol['model']} on {task}"
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, title=title)
        table.title_justify = "left"
        table.add_column("steering", overflow="fold", min_width=12)
        for heading in ("n", "accuracy %", "difference\n(points)", "p", "p\n(Holm)", "VAS"):
            table.add_column(heading, justify="right", no_wrap=True)
        metrics = result.metrics
        n = str(metrics["accuracy"].n)
        table.add_row("unsteered", n, percent(metrics["accuracy"]), "", "", "", number(metrics["vas"]))
        for comparison in sweep.comparisons:
            if comparison.task == task:
                table.add_row(*_cells(comparison))
        console.print(table)
    console.print(
        "below each number: its 95 % interval (none where every question came out alike); differences are paired with "
        "the unsteered model's answers"
    )
    console.print(f"records, {picture.name} and sweep.json: {output}", highlight=False, soft_wrap=True)


def _cells(of: Comparison) -> tuple[str, ...]:
    return (
        str(of.steering).replace(",", ", "),
        str(of.accuracy.n),
        percent(of.accuracy),
        _points(of.difference),
        p_value(of.p),
        p_value(of.p_holm),
        number(of.vas),
    )


def _points(difference: Metric) -> str:
    """A difference of shares in percentage points, signed, its interval on a second line."""
    if difference.value is None:
        return "–"
    low_high = "" if difference.ci95 is None else "\n" + " … ".join(f"{100 * end:+.1f}" for end in difference.ci95)
    return f"{100 * difference.value:+.1f}{low_high}"
