"""The steps from one protocol to another, as a table for the terminal and as JSON."""

import json
from collections.abc import Sequence
from pathlib import Path

from avar_eval.results.schema import Metric
from avar_eval.results.verdict_tables import interval, p_value
from avar_eval.run.attribution import Step
from avar_eval.tables import print_table
from avar_eval.terminal import say


def print_steps(steps: Sequence[Step], output: Path, as_json: bool) -> None:
    """A row for each step, task and verdict: the share before and after it, and the change with its paired interval."""
    if as_json:
        say(json.dumps([step.to_json() for step in steps], indent=2, ensure_ascii=False))
        return
    rows = [
        (
            step.setting or "",
            one.task,
            one.verdict,
            *("–" if share is None else f"{100 * share:.1f}" for share in (one.a, one.b)),
            interval(Metric.of(one.difference), signed=True),
            p_value(one.permutation_p),
        )
        for step in steps[1:]
        for one in step.comparisons
    ]
    print_table(("changed", "task", "verdict", "before %", "after %", "change (points)", "permutation p"), rows)
    say(f"a step's change depends on those before it; runs and attribution.json: {output}")
