"""`avar-eval look`."""

import contextlib
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from avar_eval.command_line import IncludeOption, interruptible
from avar_eval.errors import UsageError
from avar_eval.figures.file import FigureForm, NoTitleOption, make_folder
from avar_eval.help_text import examples
from avar_eval.names import run_name
from avar_eval.run.asking import Asking
from avar_eval.run.options import As, asking_options
from avar_eval.terminal import note, say

if TYPE_CHECKING:
    from avar_eval.look.conversation import Look

_ASKED = ("system_prompt", "max_new_tokens", "image_min_pixels", "image_max_pixels")
"""What a recorded row has of its own."""


@examples(
    'avar-eval look avar-tiny --image scene.png --prompt "How many red objects are there?"',
    'avar-eval look avar-tiny --image scene.png --prompt "Why?" --format pdf --no-title',
)
@asking_options(
    "model",
    *_ASKED,
    "data_dir",
    "allow_outside",
    "device",
    "dtype",
    "attn_implementation",
    model=As(argument="MODEL|RUN"),
    system_prompt=As(flags=("--system", "--system-prompt")),
    data_dir=As("With --row: folder of benchmarks.", shown="as the run had it"),
    dtype=As(shown="float32 on a CPU, bfloat16 on a GPU; the run's"),
)
def look(
    *,
    prompt: Annotated[str | None, typer.Option(help="What to ask about the images.")] = None,
    image: Annotated[list[Path] | None, typer.Option(help="Image file; repeat it for several, in their order.")] = None,
    response: Annotated[
        str | None, typer.Option(help="What the model is taken to have answered.", show_default="it answers, greedily")
    ] = None,
    row: Annotated[
        str | None, typer.Option(help="Of a finished RUN: look again at this row, with its recorded response.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="With --row: its task, where the run has several.")] = None,
    sample: Annotated[int, typer.Option(help="With --row: which of its samples.", min=0)] = 0,
    model_now: Annotated[
        str | None, typer.Option("--model", help="With --row: where the run's model lies.", show_default="as recorded")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder for the pictures.", show_default="avar-runs/look/MODEL, or RUN/look/TASK-ROW"),
    ] = None,
    include_path: IncludeOption = None,
    form: Annotated[FigureForm, typer.Option("--format", help="Of the pictures.")] = FigureForm.PNG,
    no_title: NoTitleOption = False,
    asking: Asking,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Show where MODEL looks in images, or looked in a row of RUN: Visual Attention Score, and pictures."""
    # Libraries print, and standard output is for the results.
    with contextlib.redirect_stdout(sys.stderr), interruptible():
        from avar_eval.look.pictures import draw
        from avar_eval.look.report import look_to_json, print_look

        if row is not None:
            given = {"--prompt": prompt, "--image": image, "--response": response}
            given |= {
                f"--{name.replace('_', '-')}": getattr(asking, name) for name in _ASKED if name != "max_new_tokens"
            }
            given["--max-new-tokens"] = asking.decoding.get("max_new_tokens")
            if other := next((flag for flag, value in given.items() if value), None):
                raise UsageError(f"--row looks at what was recorded, and {other} asks otherwise: leave one of them out")
            looked, output = _look_at_row(asking, row, task, sample, model_now, output)
        else:
            looked, output = _look_at_images(asking, prompt, image or [], response, output)
        pictures = draw(looked, output, form, title=not no_title)
    if as_json:
        say(look_to_json(looked, pictures))
    else:
        print_look(looked, pictures)


def _look_at_images(
    asking: Asking, prompt: str | None, images: list[Path], response: str | None, output: Path | None
) -> "tuple[Look, Path]":
    from avar_eval.look.conversation import Conversation, check
    from avar_eval.look.conversation import look as look_at
    from avar_eval.results.schema import RESULTS_NAME

    if (Path(asking.model) / RESULTS_NAME).is_file():
        raise UsageError(f"{asking.model} is a finished run: give --row ID, and --task if it has several")
    if prompt is None:
        raise UsageError("give --prompt, and --image: what to ask about which picture; or a RUN and --row ID")
    conversation = Conversation(asking, images, prompt, response)
    check(conversation)
    output = output or Path("avar-runs") / "look" / run_name(asking.model)
    make_folder(output, "--output")
    return look_at(conversation), output


def _look_at_row(
    asking: Asking, row: str, task: str | None, sample: int, model: str | None, output: Path | None
) -> "tuple[Look, Path]":
    from avar_eval.look.recorded import (
        find_record,
        keep_overlay,
        look_again,
        open_recorded,
        overlay_line,
        question_of,
        recorded_pictures,
    )
    from avar_eval.records.journal import JournalError
    from avar_eval.view.records import RunRecords
    from avar_eval.view.task_rows import TaskRows, data_folder

    run = RunRecords.of(Path(asking.model))
    record = find_record(run, task, row, sample)
    name = re.sub(r"[^\w.-]+", "_", f"{record['task']}-{row}" + (f"-{sample}" if sample else ""))[:100]
    output = output or run.folder / "look" / name
    make_folder(output, "--output")
    data_dir = asking.data_dir or data_folder(str(run.results.protocol.get("command", "")))
    pictures = recorded_pictures(TaskRows.of(record["task"], data_dir, asking.allow_outside), record)
    kernel: Any = asking.backend_options.get("attn_implementation")
    backend = open_recorded(run, model, asking.device, asking.dtype, kernel)
    looked = look_again(backend, run, record, pictures, question_of(run, record))
    if (line := overlay_line(record["key"], looked)) is not None:
        try:
            keep_overlay(run.folder, line)
        except JournalError as error:
            note(f"note: `avar-eval view` will not show where it looked: {error}")
    return looked, output
