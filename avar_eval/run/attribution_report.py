"""The steps from one protocol to another, as a table for the terminal and as JSON."""

import json
from collections.abc import Sequence
from pathlib import Path

from avar_eval.console import wide_console
from avar_eval.number_format import p_value, percent
from avar_eval.results.cells import points_cell
from avar_eval.results.schema import Metric
from avar_eval.run.attribution import Step
from avar_eval.tables import Column, FittedTable
from avar_eval.terminal import say


def print_steps(steps: Sequence[Step], output: Path, as_json: bool) -> None:
    """A row for each step, task and verdict: the share before and after it, and the change with its paired interval."""
    if as_json:
        say(json.dumps([step.to_json() for step in steps], indent=2, ensure_ascii=False))
        return
    headings = ("before %", "after %", "change (points)", "p")
    keys = (Column(heading, text=True, key=True) for heading in ("changed", "task", "verdict", "metric"))
    table = FittedTable([*keys, *map(Column, headings)])
    for step in steps[1:]:
        for one in step.comparisons:
            if one.verdict is None:  # attention and what else is no share
                continue
            table.add_row(
                step.setting or "",
                one.task,
                one.verdict,
                one.metric,
                *map(percent, (one.a, one.b)),
                points_cell(Metric.of(one.difference)),
                p_value(one.p),
            )
    wide_console().print(table)
    say(f"a step's change depends on those before it; runs and attribution.json: {output}")
