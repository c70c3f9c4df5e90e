"""`avar-eval sweep`."""

import contextlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from avar_eval.command_line import command_text, interruptible
from avar_eval.completion import complete_tasks
from avar_eval.figures.file import FigureOption, NoTitleOption, figure_file
from avar_eval.help_text import examples
from avar_eval.names import listed_names
from avar_eval.ranks import launched
from avar_eval.run.asking import Asking
from avar_eval.run.options import As, asking_options, option_names
from avar_eval.terminal import say


@examples(
    "avar-eval sweep avar-tiny --tasks shapes --limit 100",
    "avar-eval sweep avar-tiny --tasks shapes --system 0,0.2,0.4 --mode logit,prob --figure sweep.pdf",
)
@asking_options(
    *option_names("transformers", without=("steering", "backend")),
    model=As(argument="MODEL"),
    causal=As(default="off"),  # a pass for each point of the grid
)
def sweep(
    *,
    tasks: Annotated[
        str,
        typer.Option(
            "--tasks",
            "-t",
            autocompletion=complete_tasks,
            help="Task names, separated by commas.",
        ),
    ],
    system: Annotated[str, typer.Option(help="Strengths of system suppression, by commas.")] = "0,0.05,0.4,0.6",
    image: Annotated[str, typer.Option(help="Strengths of image enhancement, by commas.")] = "0.15",
    mode: Annotated[str, typer.Option(help="Of logit, log, prob, abs; several by commas.")] = "logit",
    rows: Annotated[str, typer.Option(help="Of after-image, all, last; several by commas.")] = "after-image",
    layers: Annotated[
        list[str] | None, typer.Option(help="Such as 8-14, or all; repeat it for several.", show_default="all")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder for records, table and picture.", show_default="avar-runs/sweep/MODEL")
    ] = None,
    figure: FigureOption = None,
    no_title: NoTitleOption = False,
    asking: Asking,
    as_json: Annotated[bool, typer.Option("--json", help="Print sweep.json and nothing else.")] = False,
) -> None:
    """Steer MODEL by every combination of strengths, beside itself unsteered. Run again to resume."""
    from avar_eval.sweep.grid import steering_grid

    grid = steering_grid(system, image, mode, rows, layers or ())
    with contextlib.redirect_stdout(sys.stderr), interruptible():
        from avar_eval.run.evaluate import RunConfig
        from avar_eval.run.folder import RUNS, run_folder
        from avar_eval.run.model import resolve
        from avar_eval.sweep.figure import draw_sweep
        from avar_eval.sweep.run import sweep as run

        command = command_text(sys.argv[1:])
        model = resolve(asking)
        output = output or run_folder(model, RUNS / "sweep")
        picture = figure_file(output, figure, "sweep")
        found = run(RunConfig(model, listed_names(tasks), output, command=command), grid)
        if not launched().first:
            return
        draw_sweep(found, picture, title=not no_title)
    if as_json:
        say(found.to_json(), end="")
        return
    from avar_eval.sweep.report import print_sweep

    print_sweep(found, picture, output)
