"""`avar-eval ablate`."""

import contextlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from avar_eval.command_line import IncludeOption, interruptible
from avar_eval.errors import UsageError
from avar_eval.figures.file import FigureForm, NoTitleOption
from avar_eval.help_text import examples
from avar_eval.run.options import As, asking_options
from avar_eval.terminal import say


@examples(
    "avar-eval ablate avar-runs/avar-tiny",
    "avar-eval ablate avar-runs/avar-tiny --causal full --blur --cutoff --format pdf",
)
@asking_options(
    *("model", "causal", "causal_samples", "knockout_windows", "data_dir", "allow_outside", "device", "batch_size"),
    model=As("Where the run's model lies now.", flags=("--model",), shown="as recorded", required=False),
    data_dir=As("Folder of benchmarks.", shown="as the run had it"),
)
def ablate(
    *,
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")],
    blur: Annotated[bool, typer.Option("--blur", help="Accuracy at four levels of blur, as a picture.")] = False,
    cutoff: Annotated[bool, typer.Option("--cutoff", help="How long an answer needs the image, as a picture.")] = False,
    asked: Mapping[str, Any],
    include_path: IncludeOption = None,
    form: Annotated[FigureForm, typer.Option("--format", help="Of the pictures.")] = FigureForm.PNG,
    no_title: NoTitleOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print results.json and nothing else.")] = False,
) -> None:
    """Measure what the answers of a finished RUN owe to their images. Asks nothing again; run again to resume."""
    if asked["causal"] == "off":
        raise UsageError("avar-eval ablate measures causal columns: --causal fast or full")
    # Libraries print, and standard output is for the results.
    with contextlib.redirect_stdout(sys.stderr), interruptible():
        from avar_eval.ablate.figure import draw_blur, draw_cutoff
        from avar_eval.ablate.run import ablate as measure

        found = measure(run, blur, cutoff, **asked)
        model, title = str(found.results.protocol["model"]), not no_title
        pictures = []
        if blur:
            pictures.append(draw_blur(found.curves.blur, model, run / f"blur.{form.value}", title))
        if cutoff:
            pictures.append(draw_cutoff(found.curves.cutoff, model, run / f"cutoff.{form.value}", title))
    if as_json:
        say(found.results.to_json(), end="")
        return
    from avar_eval.results.run_table import print_results

    print_results(found.results, run)
    for picture in pictures:
        say(f"picture: {picture}")
