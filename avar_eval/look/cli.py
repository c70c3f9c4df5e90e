"""`avar-eval look`."""

import contextlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from avar_eval.command_line import interruptible
from avar_eval.figures.file import FigureForm, NoTitleOption, make_folder
from avar_eval.names import run_name
from avar_eval.run.asking import Asking
from avar_eval.run.options import As, asking_options
from avar_eval.terminal import say


@asking_options(
    "model",
    "system_prompt",
    "max_new_tokens",
    "image_min_pixels",
    "image_max_pixels",
    "device",
    "dtype",
    "attn_implementation",
    model=As(argument="MODEL"),
    system_prompt=As(flags=("--system", "--system-prompt")),
)
def look(
    *,
    prompt: Annotated[str, typer.Option(help="What to ask about the images.")],
    image: Annotated[list[Path] | None, typer.Option(help="Image file; repeat it for several, in their order.")] = None,
    response: Annotated[
        str | None, typer.Option(help="What the model is taken to have answered.", show_default="it answers, greedily")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder for the pictures.", show_default="avar-runs/look/MODEL")
    ] = None,
    form: Annotated[FigureForm, typer.Option("--format", help="Of the pictures.")] = FigureForm.PNG,
    no_title: NoTitleOption = False,
    asking: Asking,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Show where MODEL looks in images: its answer, its Visual Attention Score, and pictures."""
    output = output or Path("avar-runs") / "look" / run_name(asking.model)
    # Libraries print, and standard output is for the results.
    with contextlib.redirect_stdout(sys.stderr), interruptible():
        from avar_eval.look.conversation import Conversation, check
        from avar_eval.look.conversation import look as look_at
        from avar_eval.look.pictures import draw
        from avar_eval.look.report import look_to_json, print_look

        conversation = Conversation(asking, image or [], prompt, response)
        check(conversation)
        make_folder(output, "--output")
        looked = look_at(conversation)
        pictures = draw(looked, output, form, title=not no_title)
    if as_json:
        say(look_to_json(looked, pictures))
    else:
        print_look(looked, pictures)
