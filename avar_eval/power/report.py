"""Plans and published differences as tables for the terminal."""

from collections.abc import Sequence

from rich import box
from rich.table import Table

from avar_eval.console import wide_console
from avar_eval.power.plan import Planned
from avar_eval.power.published import Difference, PublishedDifferences
from avar_eval.sample_size import ALPHA, POWER
from avar_eval.terminal import say

UNKNOWN = "–"


def print_plan(planned: Sequence[Planned]) -> None:
    """A line a benchmark and share of discordant rows, and what the numbers mean."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    headings = ["task", "rows", "design effect", "disagree on", "smallest difference"]
    difference = planned[0].difference
    if difference is not None:
        headings += [f"rows for {100 * abs(difference):g} points", f"power for {100 * abs(difference):g} points"]
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "task" else "right", no_wrap=True)
    for one in planned:
        cells = [one.task, f"{one.rows:,}", f"{one.design_effect:g}", f"{100 * one.discordant:g} %"]
        cells.append(UNKNOWN if one.detectable is None else f"{100 * one.detectable:.1f} points")
        if difference is not None:
            cells.append(UNKNOWN if one.needed is None else f"{one.needed:,}")
            cells.append(UNKNOWN if one.power is None else f"{100 * one.power:.0f} %")
        table.add_row(*cells)
    wide_console().print(table)
    say(
        f"Smallest difference: found with {100 * POWER:.0f} % power by a paired, two-sided test at the "
        f"{100 * ALPHA:.0f} % level. Disagree on: "
        "the share of rows on which one of the two models is right and the other wrong, which `avar-eval compare` "
        "prints of two runs. Design effect: how many rows count as one."
    )


def print_published(found: PublishedDifferences) -> None:
    """One model over the others and the steps of the ablation, benchmark by benchmark; what is told apart is marked."""
    say(f"{found.over_others[0].model} over each model of {found.source}, in points, with 95 % intervals:")
    _print_differences(found.over_others, "other")
    say("The steps of its ablation:")
    _print_differences(found.steps, "model")
    say(
        f"*: told apart, the interval leaves out 0, if two models disagree on {100 * found.discordant:g} % of the "
        "rows, or on as many as the difference needs: the table does not say on how many, --discordant does. "
        f"Of all {found.pairs} differences of two models {found.apart} are told apart, {found.apart_by_holm} after "
        f"Holm's correction, and {found.surely_apart} on whatever share of rows they disagree."
    )


def _print_differences(differences: Sequence[Difference], row: str) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    tasks = list(dict.fromkeys(one.task for one in differences))
    table.add_column("over" if row == "other" else "step to", overflow="fold", min_width=12)
    for task in tasks:
        table.add_column(task, justify="right", no_wrap=True)
    for name in dict.fromkeys(getattr(one, row) for one in differences):
        by_task = {one.task: one for one in differences if getattr(one, row) == name}
        table.add_row(name, *(_cell(by_task[task]) if task in by_task else UNKNOWN for task in tasks))
    wide_console().print(table)


def _cell(one: Difference) -> str:
    return f"{100 * one.difference:+.1f} ± {100 * one.half:.1f} {'*' if one.told_apart else ' '}"
