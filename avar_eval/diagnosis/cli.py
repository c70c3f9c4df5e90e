"""`avar-eval profile` and `avar-eval correlate`."""

import contextlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from avar_eval.command_line import command_text, interruptible
from avar_eval.completion import complete_tasks
from avar_eval.errors import UsageError
from avar_eval.figures.file import FigureOption, NoTitleOption, figure_file
from avar_eval.help_text import examples
from avar_eval.names import listed_names
from avar_eval.run.options import As, asking_options, option_names
from avar_eval.terminal import say


@examples(
    "avar-eval profile avar-runs/a avar-runs/b",
    "avar-eval profile avar-tiny --tasks shapes --limit 50 --figure profile.pdf --no-title",
)
@asking_options(
    *option_names("transformers", without=("model", "steering", "attention_samples", "backend")),
    limit=As("Ask a model the first N questions of each task.", default=200),
)
def profile(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL", help="Folders of finished runs, or models as --model takes them.")
    ],
    tasks: Annotated[
        str | None,
        typer.Option(
            "--tasks",
            "-t",
            autocompletion=complete_tasks,
            help="Task names, separated by commas.",
            show_default="the runs'",
        ),
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for picture, numbers and new runs.")] = Path("avar-runs/profile"),
    figure: FigureOption = None,
    no_title: NoTitleOption = False,
    *,
    asked: Mapping[str, Any],
    as_json: Annotated[bool, typer.Option("--json", help="Print profile.json and nothing else.")] = False,
) -> None:
    """Show where several models look: VAS by layer, along the answer and by role, in one picture.

    A folder of a finished run is read; any other MODEL is asked TASKS first, and what it was asked before is kept.
    """
    from avar_eval.diagnosis.profile_runs import check_models, load_runs
    from avar_eval.tasks.catalog import find_tasks

    names = None if tasks is None else [task.name for task in find_tasks(listed_names(tasks))]
    check_models(models, names)
    picture = figure_file(output, figure, "profile")
    command = command_text(sys.argv[1:])
    with contextlib.redirect_stdout(sys.stderr), interruptible():
        from avar_eval.atomic import write_atomically
        from avar_eval.diagnosis.profile import profile as make_profile
        from avar_eval.diagnosis.profile_figure import draw_profile
        from avar_eval.diagnosis.profile_report import print_profile, profile_to_json

        runs = load_runs(models, names, output, {**asked, "attention_samples": None}, command)
        if not runs:
            return
        found = make_profile(runs)
        text = profile_to_json(found)
        write_atomically(output / "profile.json", [text])
        draw_profile(found, picture, title=not no_title)
    if as_json:
        say(text, end="")
    else:
        print_profile(found, picture, output)


@examples(
    "avar-eval correlate --paper",
    "avar-eval correlate avar-runs/a avar-runs/b avar-runs/c avar-runs/d --tasks avar_vas",
)
def correlate(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="RUN", help="Folders of finished runs.", show_default="those of the leaderboard"),
    ] = None,
    tasks: Annotated[
        str | None,
        typer.Option(
            "--tasks",
            "-t",
            autocompletion=complete_tasks,
            help="Accuracy: a group with a mean, or tasks.",
            show_default="what all have",
        ),
    ] = None,
    vas_task: Annotated[
        str | None, typer.Option(help="The task of VAS and all other measures.", show_default="mathvista, as the paper")
    ] = None,
    x: Annotated[str, typer.Option("--x", help="The measure along x, by its name in results.json.")] = "vas",
    y: Annotated[str, typer.Option("--y", help="The measure along y.")] = "accuracy",
    all_checkpoints: Annotated[
        bool, typer.Option("--all-checkpoints", help="All checkpoints of a training, not its last one alone.")
    ] = False,
    published: Annotated[bool, typer.Option("--paper", help="The paper's printed rows instead of runs.")] = False,
    output: Annotated[Path, typer.Option(help="Folder for pictures and numbers.")] = Path("avar-runs/correlate"),
    figure: FigureOption = None,
    no_title: NoTitleOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print correlate.json and nothing else.")] = False,
) -> None:
    """Set VAS against accuracy over models, and all measures against all: which one predicts what?

    Pearson's r and Spearman's rho with intervals over families of models, and both without each model.
    """
    if published and (runs or tasks is not None or vas_task is not None or all_checkpoints):
        raise UsageError("--paper takes neither runs nor tasks nor --all-checkpoints: it is what the paper prints")
    picture = figure_file(output, figure, "correlate")
    from avar_eval.atomic import write_atomically
    from avar_eval.diagnosis.correlate import correlate as correlated
    from avar_eval.diagnosis.correlate_figure import draw_correlation
    from avar_eval.diagnosis.correlate_matrix import draw_matrix
    from avar_eval.diagnosis.correlate_points import paper_points, run_points
    from avar_eval.diagnosis.correlate_report import print_correlation

    names = None if tasks is None else listed_names(tasks)
    board = paper_points() if published else run_points(runs or [], names, vas_task, all_checkpoints)
    found = correlated(board, x, y)
    write_atomically(output / "correlate.json", [found.to_json()])
    pictures = [draw_correlation(found, picture, not no_title)]
    if len(found.pairs) > 1:
        pictures.append(draw_matrix(found, picture.with_stem(f"{picture.stem}-matrix"), not no_title))
    if as_json:
        say(found.to_json(), end="")
    else:
        print_correlation(found, pictures, published)
