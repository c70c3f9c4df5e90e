"""`avar-eval view`: runs in a browser."""

import contextlib
import sys
import tempfile
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from avar_eval.command_line import IncludeOption, interruptible
from avar_eval.errors import UsageError
from avar_eval.help_text import examples
from avar_eval.run.options import asking_options
from avar_eval.terminal import note, say


class ViewFormat(StrEnum):
    """What --format takes."""

    HTML = "html"
    INSPECT = "inspect"


@examples(
    "avar-eval view avar-runs/a",
    "avar-eval view avar-runs/a avar-runs/b --output pages",
)
@asking_options("data_dir", "allow_outside")
def view(
    *,
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of finished runs.")],
    output: Annotated[
        Path | None,
        typer.Option(help="Write the page into this folder: it opens as a file, too.", show_default="serve it here"),
    ] = None,
    form: Annotated[
        ViewFormat, typer.Option("--format", help="html, or inspect: logs for `inspect view` and its data frames.")
    ] = ViewFormat.HTML,
    port: Annotated[int, typer.Option(help="Of 127.0.0.1, where it is served; 0 takes a free one.", min=0)] = 8976,
    overlays: Annotated[
        int,
        typer.Option(
            help="Look again at so many rows a task, the wrong ones first, to show where the model looked in their "
            "pictures; nothing is answered anew.",
            min=0,
        ),
    ] = 0,
    include_path: IncludeOption = None,
    asked: Mapping[str, Any],
) -> None:
    """Look at RUNs in a browser: every question with pictures, answer, verdicts and measures; two runs side by side."""
    if form is ViewFormat.INSPECT:
        _write_inspect_logs(runs, output, asked)
        return
    with contextlib.ExitStack() as held, interruptible():
        from avar_eval.view.page import INDEX_NAME, build_viewer
        from avar_eval.view.server import served

        folder = output or Path(held.enter_context(tempfile.TemporaryDirectory(prefix="avar-eval-view-")))
        server = None if output else held.enter_context(served(folder, port))  # a taken port is known at once
        with contextlib.redirect_stdout(sys.stderr):  # libraries print
            if overlays:
                from avar_eval.look.recorded import add_overlays  # torch

                for run in runs:
                    for problem in add_overlays(run, overlays, asked["data_dir"], asked["allow_outside"]):
                        note(f"note: {problem}")
            for problem in build_viewer(runs, folder, asked["data_dir"], asked["allow_outside"]):
                note(f"note: {problem}")
        if server is None:
            say(str(folder / INDEX_NAME))
            return
        say(f"http://127.0.0.1:{server.server_port}/  (Ctrl-C ends it; --output DIR keeps the page)")
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()


def _write_inspect_logs(runs: list[Path], output: Path | None, asked: Mapping[str, Any]) -> None:
    if output is None:
        raise UsageError("--format inspect writes files: give --output DIR, which `inspect view --log-dir DIR` shows")
    with contextlib.redirect_stdout(sys.stderr), interruptible():
        from avar_eval.view.inspect_log import write_inspect_logs

        logs, problems = write_inspect_logs(runs, output, asked["data_dir"], asked["allow_outside"])
    for problem in problems:
        note(f"note: {problem}")
    for log in logs:
        say(str(log))
