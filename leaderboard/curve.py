"""A training's checkpoints over its steps: score and VAS, as a table and as a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from avar_eval.errors import UsageError, unknown_name
from avar_eval.figures.file import save_figure
from avar_eval.leaderboard.row import Row
from avar_eval.leaderboard.table import score_cell, vas_cell
from avar_eval.number_format import count, percent
from avar_eval.number_format import points as format_points
from avar_eval.tables import Column, FittedTable

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def checkpoint_rows(rows: Sequence[Row], run: str, task: str | None = None) -> list[Row]:
    """The rows of one training, by task and step; of several for a step the one that was added last.

    A training that was started anew under the same name leaves out the earlier one's rows. Raises UsageError, with the
    nearest names, if there is no such training or it was not scored on this task.
    """
    of_run = [row for row in rows if row.training_run == run]
    if not of_run:
        known = {row.training_run for row in rows if row.training_run is not None}
        if not known:
            raise UsageError(
                "no training is in the leaderboard yet: `avar-eval watch OUTPUT_DIR --tasks NAMES` scores one"
            )
        raise unknown_name("run", run, known, "(in this leaderboard)")
    latest = max(row.training_started or "" for row in of_run)
    of_run = [row for row in of_run if (row.training_started or "") == latest]
    if task is not None and task not in {row.task for row in of_run}:
        raise unknown_name("task", task, {row.task for row in of_run}, f"(of the run {run})")
    newest = {
        (row.task, row.training_step): row
        for row in sorted(of_run, key=lambda row: (row.added, row.run_id))
        if task in (None, row.task)
    }
    return sorted(newest.values(), key=lambda row: (row.task, row.training_step or 0))


def curve_table(points: Sequence[Row]) -> FittedTable:
    """One row a task and step, with the change of the score against step 0 in percentage points."""
    keys = (Column(heading, text=heading == "task", key=True) for heading in ("task", "step"))
    headings = ("n", "score %", "vs step 0 (points)", "VAS", "truncated %", "unparsed %")
    table = FittedTable([*keys, *map(Column, headings)])
    base = {row.task: row.score for row in points if row.training_step == 0}
    for row in points:
        before = base.get(row.task)
        change = "" if before is None or row.score is None else format_points(row.score - before)
        table.add_row(
            row.task,
            str(row.training_step),
            count(row.n),
            score_cell(row),
            change,
            vas_cell(row),
            percent(row.truncated),
            percent(row.unparsed),
        )
    return table


def draw_curve(points: Sequence[Row], run: str, path: Path, title: bool = True) -> Path:
    """Write the picture: above the score, below the VAS, over steps; a line a task, bars are 95 % intervals.

    Raises WriteError if it cannot be written.
    """
    from avar_eval.figures.score_axis import score_axis
    from avar_eval.figures.style import COLUMN, drawing, new_figure, say_instead

    tasks = list(dict.fromkeys(row.task for row in points))
    head = (
        (run, "Score and Visual Attention Score over the steps of a training; bars: 95 % intervals.") if title else ()
    )
    with drawing():
        figure = new_figure(COLUMN, 2.9 + 0.15 * -(-len(tasks) // 3), *head)
        above, below = figure.subplots(2, 1, sharex=True)
        for index, task in enumerate(tasks):
            of_task = [row for row in points if row.task == task]
            _line(above, index, task, [(row, row.score, row.score_low, row.score_high) for row in of_task], 100)
            _line(below, index, task, [(row, row.vas, row.vas_low, row.vas_high) for row in of_task], 1)
        above.set_ylabel("score (%)")
        above.grid(axis="y")
        below.set_ylabel("VAS")
        below.set_xlabel("step of the optimizer (0: the base model)")
        below.xaxis.get_major_locator().set_params(integer=True)
        ends = [end for row in points for end in (row.vas, row.vas_low, row.vas_high) if end is not None]
        if ends and max(ends) > 0:
            score_axis(below, min(ends), max(ends))
        else:
            say_instead(below, "no attention was measured")
        figure.legend(*above.get_legend_handles_labels(), loc="outside lower left", ncols=3)
        return save_figure(figure, path)


def _line(
    axes: "Axes",
    index: int,
    task: str,
    values: Sequence[tuple[Row, float | None, float | None, float | None]],
    unit: float,
) -> None:
    known = [
        (row.training_step or 0, unit * value, unit * _length(value, low), unit * _length(high, value))
        for row, value, low, high in values
        if value is not None
    ]
    if not known:
        return
    from avar_eval.figures.style import series_style

    steps, heights, down, up = zip(*known, strict=True)
    axes.errorbar(
        steps,
        heights,
        yerr=[down, up],
        label=task,
        capsize=1.8,
        **series_style(index),
    )


def _length(upper: float | None, lower: float | None) -> float:
    """Of an error bar: 0 where an end is unknown, or where rounding put it on the wrong side."""
    return 0.0 if upper is None or lower is None else max(0.0, upper - lower)
