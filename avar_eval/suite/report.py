"""What a suite has found: its runs in one wide table, and what failed."""

from pathlib import Path

from avar_eval.console import wide_console
from avar_eval.leaderboard.paper import paper
from avar_eval.leaderboard.row import ListedRun, Row, run_rows
from avar_eval.leaderboard.wide import wide_table
from avar_eval.leaderboard.wide_text import line_name, wide_cells
from avar_eval.results.schema import parse_results, results_bytes
from avar_eval.suite.read import SUITE_NAME
from avar_eval.suite.state import SuiteState
from avar_eval.tables import Column, FittedTable


def print_suite(state: SuiteState, output: Path) -> None:
    """Print the wide table of the finished runs, where all of it lies, and each failure with its reason."""
    console = wide_console()
    finished = [run.results for run in state.runs if run.results is not None]
    if finished:
        console.print(suite_table([output / results for results in finished]))
    console.print(f"runs: {output}, and how far each is: {output / SUITE_NAME}", soft_wrap=True)
    failed = [run for run in state.runs if run.status == "failed"]
    if failed:
        console.print(f"{len(failed)} of {len(state.runs)} runs failed; the same command tries them again:")
    for run in failed:
        console.print(f"  {run.name}: {run.reason}", soft_wrap=True)


def suite_table(files: list[Path]) -> FittedTable:
    """A line each model as it was asked, a column each task, their average and VAS; printed rows below, if any."""
    rows: list[Row] = []
    for place, path in enumerate(files):
        run = parse_results(ListedRun, results_bytes(path), path)
        rows += run_rows(run, f"{place:06}", list(run.tasks))
    table, source = wide_table(rows, (), paper()), paper().source
    headings = [*(f"{column} %" for column in table.columns), "average %", "VAS"]
    note = "Strict scores with 95 % intervals; average: unweighted mean of the columns; VAS: mean over them."
    fitted = FittedTable([Column("model", text=True, key=True), *map(Column, headings)], note=note)
    for line, kind, cells in wide_cells(table):
        fitted.add_row(line_name(line, kind, source), *cells)
    return fitted
