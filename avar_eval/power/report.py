"""Plans and published differences as tables for the terminal."""

from collections.abc import Sequence

from avar_eval.console import wide_console
from avar_eval.number_format import UNKNOWN, count, percent, points
from avar_eval.power.plan import Planned
from avar_eval.power.published import Difference, PublishedDifferences
from avar_eval.sample_size import ALPHA, POWER
from avar_eval.tables import Column, FittedTable
from avar_eval.tasks.groups import groups
from avar_eval.terminal import say


def print_plan(planned: Sequence[Planned]) -> None:
    """A line a benchmark and share of discordant rows, and what the numbers mean."""
    headings = ["rows", "design effect", "disagree on, %", "smallest difference, points"]
    difference = planned[0].difference
    if difference is not None:
        headings += [f"rows for {100 * abs(difference):g} points", f"power for {100 * abs(difference):g} points, %"]
    table = FittedTable([Column("task", text=True, key=True), *map(Column, headings)])
    for one in planned:
        cells = [
            one.task,
            count(one.rows),
            f"{one.design_effect:g}",
            f"{100 * one.discordant:g}",
            percent(one.detectable),
        ]
        if difference is not None:
            cells += [UNKNOWN if one.needed is None else count(one.needed), percent(one.power, decimals=0)]
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
    tasks = [term.label for term in groups()["avar7"].mean]
    table = FittedTable([Column("over" if row == "other" else "step to", text=True, key=True), *map(Column, tasks)])
    for name in dict.fromkeys(getattr(one, row) for one in differences):
        by_task = {one.task: one for one in differences if getattr(one, row) == name}
        table.add_row(name, *(_cell(by_task[task]) if task in by_task else UNKNOWN for task in tasks))
    wide_console().print(table)


def _cell(one: Difference) -> str:
    return f"{points(one.difference)}\n± {percent(one.half)} {'*' if one.told_apart else ' '}"
