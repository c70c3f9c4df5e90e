"""`avar-leaderboard`: show, export and check the store of finished runs. Nothing heavy is imported for --help."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avar_eval.command_line import new_app, run_app
from avar_eval.errors import AvarError
from avar_eval.figures.file import check_figure
from avar_eval.terminal import inert, note, say

if TYPE_CHECKING:
    from avar_eval.leaderboard.row import Row
    from avar_eval.leaderboard.store import SkippedFile, Store

app = new_app("Finished runs side by side: accuracy and Visual Attention Score.")


class ExportFormat(StrEnum):
    """For people: md. For programs, with shares as fractions 0..1: csv, json."""

    MD = "md"
    CSV = "csv"
    JSON = "json"


StoreOption = Annotated[
    Path | None,
    typer.Option("--store", help="Folder of the leaderboard.", show_default="$AVAR_LEADERBOARD, else the user's own"),
]


@app.command()
def show(
    task: Annotated[str | None, typer.Option(help="Only this task.")] = None,
    model: Annotated[str | None, typer.Option(help="Only this model.")] = None,
    store: StoreOption = None,
) -> None:
    """Print the table, the best score first.

    It has a row for each task of every run. The score is strict, official the published rule's; intervals are at 95 %.
    """
    leaderboard = _open(store)
    rows, skipped = leaderboard.read()
    if rows:
        _check_names(rows, task, model)
        if chosen := [row for row in rows if task in (None, row.task) and model in (None, row.model)]:
            from avar_eval.console import wide_console
            from avar_eval.leaderboard.table import terminal_table

            wide_console().print(terminal_table(chosen))
        else:
            say(f"No run of {model} on {task} yet.")
    else:
        say(
            f"The leaderboard in {leaderboard.path} is empty. Every finished run adds its row: try "
            "`avar-eval --model avar-tiny --tasks shapes`, or add one with `avar-leaderboard add RESULTS.json`."
        )
    _report_skipped(skipped)


@app.command()
def export(
    form: Annotated[ExportFormat, typer.Option("--format", help="md is for people; csv and json hold fractions 0..1.")],
    output: Annotated[Path | None, typer.Option(help="File to write.", show_default="standard output")] = None,
    store: StoreOption = None,
) -> None:
    """Write the whole leaderboard as Markdown, CSV or JSON."""
    from avar_eval.atomic import write_atomically
    from avar_eval.leaderboard import table

    rows, skipped = _open(store).read()
    render = {ExportFormat.MD: table.markdown, ExportFormat.CSV: table.csv_text, ExportFormat.JSON: table.json_text}
    text = render[form](rows)
    if output is None:
        # Bytes: the same file whatever the terminal's encoding. Flushed here, where typer minds a closed pipe.
        binary = typer.get_binary_stream("stdout")
        binary.write(inert(text).encode())
        binary.flush()
    else:
        write_atomically(output, [text])
    _report_skipped(skipped)


@app.command()
def curve(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A training's name, as `avar-eval watch` gives it.")],
    task: Annotated[str | None, typer.Option(help="Only this task.")] = None,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The picture: .pdf, .svg or .png.", show_default="avar-runs/curve/RUN.png"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the points as JSON and nothing else.")] = False,
    store: StoreOption = None,
) -> None:
    """Draw score and VAS over the steps of a training, and print them."""
    from avar_eval.leaderboard.curve import checkpoint_rows
    from avar_eval.leaderboard.table import json_text

    output = output or Path("avar-runs") / "curve" / f"{run.replace('/', '--')}.png"
    check_figure(output, "--output")
    points = checkpoint_rows(_open(store).rows(), run, task)
    from avar_eval.leaderboard.curve import curve_table, draw_curve

    draw_curve(points, run, output)
    if as_json:
        say(json_text(points), end="")
        return
    from avar_eval.console import wide_console

    console = wide_console()
    console.print(curve_table(points))
    console.print(f"picture: {output}", highlight=False, soft_wrap=True)


@app.command()
def check(store: StoreOption = None) -> None:
    """Count the stored runs, and say of each file that holds none what is wrong with it."""
    rows, skipped = _open(store).read()
    runs = len({row.run_id for row in rows})
    say(f"{_count(runs, 'run')}, {_count(len(rows), 'row')}, {_count(len(skipped), 'file')} skipped.")
    for file in skipped:
        note(f"skipped: {file.reason}")


@app.command()
def add(
    results: Annotated[list[Path], typer.Argument(metavar="RESULTS.json", help="Of finished runs.")],
    store: StoreOption = None,
) -> None:
    """Add finished runs from elsewhere.

    A run that is there already is replaced, never doubled.
    """
    leaderboard = _open(store)
    failed = 0
    for path in results:
        try:
            run = leaderboard.add(path)
        except AvarError as error:
            failed += 1
            note(f"avar-leaderboard: {error}")
        else:
            say(f"added {run.protocol.model} on {', '.join(run.tasks)} (run {run.run_id})")
    if failed:
        raise typer.Exit(1)


def _open(path: Path | None) -> "Store":
    from avar_eval.leaderboard.store import Store, default_store

    return Store(path or default_store())


def _check_names(rows: "list[Row]", task: str | None, model: str | None) -> None:
    """Raise UsageError, with the nearest names, for a task or model that no row has."""
    from avar_eval.errors import unknown_name

    asked = (("task", task, {row.task for row in rows}), ("model", model, {row.model for row in rows}))
    for kind, name, known in asked:
        if name is not None and name not in known:
            raise unknown_name(kind, name, known, "(in this leaderboard)")


def _report_skipped(skipped: "list[SkippedFile]") -> None:
    if skipped:
        count = _count(len(skipped), "file")
        note(f"{count} in the store could not be read; `avar-leaderboard check` says why")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def main() -> None:
    """Entry point of `avar-leaderboard`."""
    run_app(app, "avar-leaderboard")
