"""`avar-eval data`: benchmarks on disk, for machines without a network."""

import contextlib
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

import typer

from avar_eval.command_line import interruptible, new_app
from avar_eval.help_text import examples
from avar_eval.names import listed_names
from avar_eval.run.options import As, asking_options
from avar_eval.terminal import note

data_app = new_app("Download benchmarks into folders that --data-dir takes, and check them.", program=False)

Tasks = Annotated[str, typer.Argument(help="Names of tasks or groups, separated by commas.")]
_FOLDER = As("Folder with one sub-folder a benchmark.", required=True)

_SHOWN_PROBLEMS = 20


@data_app.command("fetch")
@examples(
    "avar-eval data fetch mathvista,mmmu --data-dir benchmarks",
)
@asking_options("data_dir", data_dir=replace(_FOLDER, made=True))
def fetch_command(*, tasks: Tasks, asked: Mapping[str, Any]) -> None:
    """Download the rows and pictures of TASKS at their pinned revisions. Run again to resume."""
    with contextlib.redirect_stdout(sys.stderr), interruptible():  # libraries print
        from avar_eval.tasks.catalog import find_avar_tasks
        from avar_eval.tasks.data import EMBEDDED, fetch

        entries = find_avar_tasks(listed_names(tasks))
        for entry in entries:
            if entry.dataset == EMBEDDED:
                note(f"{entry.name}: comes in a package, nothing to fetch")
        for folder, manifest in fetch(entries, asked["data_dir"]):
            source = manifest.revision or ", ".join(manifest.commits) or "no revision known"
            note(f"{folder}: {manifest.rows} rows, {len(manifest.pictures)} pictures, {source}")


@data_app.command("verify")
@examples(
    "avar-eval data verify mathvista --data-dir benchmarks",
)
@asking_options("data_dir", data_dir=_FOLDER)
def verify_command(*, tasks: Tasks, asked: Mapping[str, Any]) -> None:
    """Check that the folders of TASKS are complete and undamaged. Exit code 1 if one is not."""
    from avar_eval.console import wide_console
    from avar_eval.number_format import count
    from avar_eval.progress import Bar
    from avar_eval.tables import Column, FittedTable
    from avar_eval.tasks.catalog import find_avar_tasks
    from avar_eval.tasks.data import EMBEDDED, verify

    entries = [entry for entry in find_avar_tasks(listed_names(tasks)) if entry.dataset != EMBEDDED]
    checked = []
    with interruptible(), Bar("checking tasks", len(entries)) as bar:
        for entry in entries:
            checked.append(verify(entry, asked["data_dir"]))
            bar.advance(1)
    table = FittedTable([Column("task", text=True, key=True), *map(Column, ("rows", "pictures", "problems"))])
    for one in checked:
        table.add_row(one.task, count(one.rows), count(one.pictures), str(len(one.problems) or "none"))
    wide_console().print(table)
    for one in checked:
        for problem in one.problems[:_SHOWN_PROBLEMS]:
            note(f"{one.task}: {problem}")
        if len(one.problems) > _SHOWN_PROBLEMS:
            note(f"{one.task}: and {len(one.problems) - _SHOWN_PROBLEMS} more")
    if any(one.problems for one in checked):
        raise typer.Exit(1)
