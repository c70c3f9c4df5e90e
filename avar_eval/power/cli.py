"""`avar-eval power`."""

from typing import Annotated

import typer

from avar_eval.errors import UsageError
from avar_eval.help_text import examples
from avar_eval.names import listed_names
from avar_eval.terminal import say


@examples(
    "avar-eval power --task mathvista --difference 2",
    "avar-eval power --n 1000 --discordant 0.2",
)
def power(
    task: Annotated[
        str | None, typer.Option("--task", "-t", help="Names of tasks or groups, separated by commas.")
    ] = None,
    difference: Annotated[
        float | None, typer.Option(help="Points of accuracy: how many rows find it, and how probably the task does.")
    ] = None,
    discordant: Annotated[
        float | None,
        typer.Option(
            help="Share of rows on which one model is right and the other wrong.", show_default="0.1, 0.2 and 0.3"
        ),
    ] = None,
    rows: Annotated[int | None, typer.Option("--n", min=1, help="Rows.", show_default="the task's")] = None,
    design_effect: Annotated[
        float | None, typer.Option(help="How many rows count as one.", show_default="the task's")
    ] = None,
    published: Annotated[bool, typer.Option("--paper", help="Which printed differences are told apart.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON and nothing else.")] = False,
) -> None:
    """Say which difference of two models a benchmark can find, and how many rows a difference needs."""
    if published:
        if task is not None or difference is not None or rows is not None or design_effect is not None:
            raise UsageError("--paper takes --discordant and --json alone: scores and benchmarks are what is printed")
        from avar_eval.power.published import published_differences, published_to_json
        from avar_eval.sample_size import DISCORDANT

        if discordant is not None and not 0 < discordant <= 1:
            raise UsageError("--discordant is a share of the rows, above 0 and at most 1, such as 0.2")
        found = published_differences(discordant=discordant or DISCORDANT)
        if as_json:
            say(published_to_json(found))
            return
        from avar_eval.power.report import print_published

        print_published(found)
        return
    if task is None and rows is None:
        raise UsageError("give --task, --n, or --paper for the printed table; `avar-eval tasks` lists the tasks")
    from avar_eval.power.plan import plan, plan_to_json

    points = None if difference is None else difference / 100
    planned = plan(None if task is None else listed_names(task), points, discordant, rows, design_effect)
    if as_json:
        say(plan_to_json(planned))
        return
    from avar_eval.power.report import print_plan

    print_plan(planned)
