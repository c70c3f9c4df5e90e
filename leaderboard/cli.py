"""`avar-leaderboard`: show, export and check the store of finished runs. Nothing heavy is imported for --help."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avar_eval.command_line import IncludeOption, new_app, run_app
from avar_eval.errors import AvarError
from avar_eval.figures.file import NoTitleOption, check_figure
from avar_eval.help_text import examples
from avar_eval.terminal import inert, note, say

if TYPE_CHECKING:
    from avar_eval.leaderboard.row import Row
    from avar_eval.leaderboard.store import Added, SkippedFile, Store

app = new_app("Finished runs side by side: accuracy and Visual Attention Score.")


class ExportFormat(StrEnum):
    """For people: md, tex. For programs, with shares as fractions 0..1: csv, json."""

    MD = "md"
    CSV = "csv"
    JSON = "json"
    TEX = "tex"


StoreOption = Annotated[
    Path | None,
    typer.Option("--store", help="Folder of the leaderboard.", show_default="$AVAR_LEADERBOARD, else the user's own"),
]


@app.command()
@examples(
    "avar-leaderboard show",
    "avar-leaderboard show --task shapes",
)
def show(
    task: Annotated[str | None, typer.Option(help="Only this task.")] = None,
    model: Annotated[str | None, typer.Option(help="Only this model.")] = None,
    store: StoreOption = None,
) -> None:
    """Print the table: a row for each task of every run, the best score first.

    Only runs that were asked alike, on as many questions, are ranked together; what sets others apart stands above
    them. The score is strict, official the published rule's; intervals are at 95 %.
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
            "`avar-eval --model avar-tiny --tasks shapes`, or add one with `avar-leaderboard add RUN_DIR`."
        )
    _report_skipped(skipped)


@app.command()
@examples(
    "avar-leaderboard export --format csv --output leaderboard.csv",
    "avar-leaderboard export --format tex --wide --last --output table.tex",
)
def export(
    form: Annotated[
        ExportFormat,
        typer.Option("--format", help="md and tex (booktabs) are for people; csv and json hold fractions 0..1."),
    ],
    wide: Annotated[
        bool,
        typer.Option(
            "--wide",
            help="A row each model, a column each task, average and VAS; the paper's printed row and the difference "
            "below.",
        ),
    ] = False,
    tasks: Annotated[str | None, typer.Option(help="Only these tasks or groups, in this order.")] = None,
    models: Annotated[str | None, typer.Option(help="Only these models.")] = None,
    last: Annotated[bool, typer.Option("--last", help="Of each model on a task only what was added last.")] = False,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File to write.", show_default="standard output")
    ] = None,
    store: StoreOption = None,
) -> None:
    """Write the leaderboard as Markdown, CSV, JSON or LaTeX: a row each task of a run, or with --wide each model."""
    from avar_eval.atomic import write_atomically
    from avar_eval.leaderboard.ranking import last_of_each
    from avar_eval.names import listed_names

    leaderboard = _open(store)
    rows, skipped = leaderboard.read()
    columns, names = listed_names(tasks or ""), listed_names(models or "")
    for task in columns:
        _check_names(rows, task, None)
    for model in names:
        _check_names(rows, None, model)
    rows = [row for row in rows if (not columns or row.task in columns) and (not names or row.model in names)]
    if last:
        rows = last_of_each(rows)
    text = _wide_text(form, rows, columns, leaderboard) if wide else _long_text(form, rows)
    if output is None:
        # Bytes: the same file whatever the terminal's encoding. Flushed here, where typer minds a closed pipe.
        binary = typer.get_binary_stream("stdout")
        binary.write(inert(text).encode())
        binary.flush()
    else:
        write_atomically(output, [text])
    _report_skipped(skipped)


def _long_text(form: ExportFormat, rows: "list[Row]") -> str:
    from avar_eval.leaderboard import latex, table

    render = {
        ExportFormat.MD: table.markdown,
        ExportFormat.CSV: table.csv_text,
        ExportFormat.JSON: table.json_text,
        ExportFormat.TEX: latex.long_latex,
    }
    return render[form](rows)


def _wide_text(form: ExportFormat, rows: "list[Row]", columns: list[str], leaderboard: "Store") -> str:
    from avar_eval.leaderboard.latex import wide_latex
    from avar_eval.leaderboard.paper import paper
    from avar_eval.leaderboard.significance import best_cells
    from avar_eval.leaderboard.wide import wide_table
    from avar_eval.leaderboard.wide_text import wide_csv, wide_json, wide_markdown

    table, source = wide_table(rows, columns, paper()), paper().source
    if form is ExportFormat.CSV:
        return wide_csv(table, source)
    if form is ExportFormat.JSON:
        return wide_json(table, source)
    render = wide_markdown if form is ExportFormat.MD else wide_latex
    return render(table, best_cells(table, leaderboard.history()), source)


@app.command()
@examples("avar-leaderboard page --output page")
def page(
    output: Annotated[Path, typer.Option(help="Folder of the page; its index.html opens as a file, too.")] = Path(
        "avar-runs/leaderboard"
    ),
    viewers: Annotated[
        list[Path] | None,
        typer.Option(
            help="A folder that `avar-eval view RUN --output` wrote, or one with such folders in it, which the rows of "
            "those runs link to; more than once, if wanted.",
            show_default=False,
        ),
    ] = None,
    with_paper: Annotated[bool, typer.Option("--paper/--no-paper", help="With the rows that the paper prints.")] = True,
    readme: Annotated[
        Path | None, typer.Option(help="Write the rows into this Markdown file, too.", show_default=False)
    ] = None,
    store: StoreOption = None,
) -> None:
    """Write a page of all rows: filters, intervals, protocol cards, curves of trainings, VAS against score.

    It is one file without a server, and fetches nothing from elsewhere.
    """
    from avar_eval.leaderboard.page.build import PAGE_NAME, build_page

    skipped = build_page(_open(store), output, with_paper=with_paper, viewers=viewers or [], readme=readme)
    say(f"page: {output / PAGE_NAME}")
    if readme is not None:
        say(f"readme: {readme}")
    _report_skipped(skipped)


@app.command()
@examples(
    "avar-leaderboard curve my-run",
    "avar-leaderboard curve my-run --task shapes --output curve.pdf --no-title",
)
def curve(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A training's name, as `avar-eval watch` gives it.")],
    task: Annotated[str | None, typer.Option(help="Only this task.")] = None,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The picture: .pdf, .svg or .png.", show_default="avar-runs/curve/RUN.png"),
    ] = None,
    no_title: NoTitleOption = False,
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

    draw_curve(points, run, output, title=not no_title)
    if as_json:
        say(json_text(points), end="")
        return
    from avar_eval.console import wide_console

    console = wide_console()
    console.print(curve_table(points))
    console.print(f"picture: {output}", highlight=False, soft_wrap=True)


@app.command()
@examples(
    "avar-leaderboard check",
)
def check(store: StoreOption = None) -> None:
    """Count the stored runs, and say of each file that holds none what is wrong with it: then the exit code is 1."""
    rows, skipped = _open(store).read()
    runs = len({row.run_id for row in rows})
    say(f"{_count(runs, 'run')}, {_count(len(rows), 'row')}, {_count(len(skipped), 'file')} skipped.")
    for file in skipped:
        note(f"skipped: {file.reason}")
    if skipped:
        raise typer.Exit(1)


@app.command()
@examples(
    "avar-leaderboard add avar-runs/a",
    "avar-leaderboard add avar-runs",
)
def add(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="PATH...", help="A run's folder, a folder with such folders in it, or a results.json."),
    ],
    data_dir: Annotated[
        Path | None,
        typer.Option(envvar="AVAR_DATA_DIR", help="Folder with the rows of benchmarks, one sub-folder each."),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Put other content of a run in the place of what is there.")
    ] = False,
    include_path: IncludeOption = None,
    store: StoreOption = None,
) -> None:
    """Add finished runs from elsewhere.

    The records of a run's folder are judged again, and its rows are marked `verified`; what a bare results.json says is
    marked `as reported`. Numbers that contradict the records, the protocol or one another are refused.
    """
    leaderboard = _open(store)
    failed = 0
    for path in runs:
        try:
            from avar_eval.leaderboard.store import runs_in

            found = runs_in(path)
        except AvarError as error:
            failed += 1
            note(f"avar-leaderboard: {error}")
            continue
        for run in found:
            try:
                done = leaderboard.add(run, data_dir=data_dir, replace=replace)
            except AvarError as error:
                failed += 1
                note(f"avar-leaderboard: {error}")
            else:
                say(_said(done))
    if failed:
        raise typer.Exit(1)


@app.command()
@examples("avar-leaderboard remove 00aa11bb")
def remove(
    run: Annotated[str, typer.Argument(metavar="RUN_ID", help="The run's id, or as much of it as is its alone.")],
    store: StoreOption = None,
) -> None:
    """Take a run out of the leaderboard. Its folder stays as it is, and can be added again."""
    line = _open(store).remove(run)
    say(f"removed {line.model} on {', '.join(line.tasks)} (run {line.run_id})")


@app.command()
@examples("avar-leaderboard history")
def history(store: StoreOption = None) -> None:
    """What was added, verified, replaced and removed, and from where."""
    leaderboard = _open(store)
    found = leaderboard.history()
    lines = found.lines
    for problem in found.unreadable:
        note(f"warning: {problem}")
    if not lines:
        say(f"Nothing has been added to the leaderboard in {leaderboard.path} yet.")
        return
    from avar_eval.tables import print_table

    print_table(
        ("run", "time", "", "model", "tasks", "verified", "sha256", "from"),
        [
            (
                line.run_id[:8],
                line.time[:19].replace("T", " "),
                line.event,
                line.model,
                ", ".join(line.tasks),
                ", ".join(line.verified) or "–",
                line.sha256[:12],
                line.source,
            )
            for line in lines
        ],
    )


@app.command()
@examples(
    "avar-leaderboard publish avar-runs/avar-tiny --output avar-runs/publish",
    "avar-leaderboard publish avar-runs/avar-tiny --output avar-runs/publish --to me --push",
)
def publish(
    names: Annotated[
        list[str], typer.Argument(metavar="MODEL_OR_RUN...", help="A model of the leaderboard, or a run's folder.")
    ],
    output: Annotated[Path, typer.Option(help="Folder in which all of it is written first.")],
    to: Annotated[
        str | None,
        typer.Option(metavar="OWNER", help="User or organisation on the hub.", show_default="who is logged in"),
    ] = None,
    push: Annotated[bool, typer.Option("--push", help="Send it to the hub; without, nothing is sent.")] = False,
    data_dir: Annotated[
        Path | None,
        typer.Option(envvar="AVAR_DATA_DIR", help="Folder with rows and pictures of benchmarks, one sub-folder each."),
    ] = None,
    include_path: IncludeOption = None,
    store: StoreOption = None,
) -> None:
    """Write what the hub can have of models and runs, and say what would go where; --push sends it.

    Model cards with model-index, .eval_results for benchmarks that the hub lists, page and viewer as a static Space,
    the runs as a data set. The hub is asked which benchmarks it lists, and told nothing.
    """
    from huggingface_hub import HfApi

    from avar_eval.leaderboard.publishing.bundle import write_bundle
    from avar_eval.leaderboard.publishing.push import hub_user
    from avar_eval.leaderboard.publishing.push import push as send

    api = HfApi()
    owner = hub_user(api) if push and to is None else to
    if push and to is not None:
        hub_user(api)  # without a login, nothing is worth writing
    bundle = write_bundle(names, _open(store), output, owner, api, data_dir)
    for problem in bundle.notes:
        note(f"note: {problem}")
    seen = ", ".join(f"{number} {what}" for what, number in bundle.counts.items() if number)
    for part, (kind, name) in bundle.repositories.items():
        say(f"{'to' if push else 'would go to'} the {kind} {name}: {output / part}")
    say(f"everybody there can read {seen or 'the numbers'}, with questions, answers and command lines")
    if not push:
        say("nothing was sent: look through the folder, then give --push")
        return
    for address in send(bundle, api):
        say(f"sent: {address}")


def _open(path: Path | None) -> "Store":
    from avar_eval.leaderboard.store import Store, default_store

    return Store(path or default_store())


def _said(done: "Added") -> str:
    """What became of a run that was added."""
    tasks = list(done.run.tasks)
    mark = "as reported" if not done.verified else "verified"
    if done.verified and (others := [task for task in tasks if task not in done.verified]):
        mark = f"verified, but for {', '.join(others)}, as reported: lmms-eval judges them"
    what = "unchanged" if done.event is None else done.event
    return f"{what}: {done.run.protocol.model} on {', '.join(tasks)} (run {done.run.run_id}), {mark}"


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
