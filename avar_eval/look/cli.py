"""`avar-eval look`."""

import contextlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from avar_eval.command_line import (
    AttnImplementationOption,
    DeviceOption,
    DtypeOption,
    check_choice,
    expanded,
    interruptible,
)
from avar_eval.names import run_name
from avar_eval.terminal import say


def look(
    model: Annotated[str, typer.Argument(help="Registered name, local folder or hub repository.")],
    prompt: Annotated[str, typer.Option(help="What to ask about the images.")],
    image: Annotated[list[Path] | None, typer.Option(help="Image file; repeat it for several, in their order.")] = None,
    system: Annotated[str | None, typer.Option(help="System turn.", show_default="the model's")] = None,
    response: Annotated[
        str | None, typer.Option(help="What the model is taken to have answered.", show_default="it answers, greedily")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(callback=expanded, help="Folder for the pictures.", show_default="avar-runs/look/MODEL"),
    ] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, help="Token limit of the answer.", show_default="the model's")
    ] = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    attn_implementation: AttnImplementationOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Show where MODEL looks in images: its answer, its Visual Attention Score, and pictures."""
    check_choice("--dtype", dtype, ("float32", "bfloat16", "float16", None))
    output = output or Path("avar-runs") / "look" / run_name(model)
    # Libraries print, and standard output is for the results.
    with contextlib.redirect_stdout(sys.stderr), interruptible():
        from avar_eval.look.conversation import Conversation, check
        from avar_eval.look.conversation import look as look_at
        from avar_eval.look.pictures import draw, prepare_folder
        from avar_eval.look.report import look_to_json, print_look

        conversation = Conversation(
            model, image or [], prompt, system, response, max_new_tokens, device, dtype, attn_implementation
        )
        check(conversation)
        prepare_folder(output)
        looked = look_at(conversation)
        pictures = draw(looked, output)
    if as_json:
        say(look_to_json(looked, pictures))
    else:
        print_look(looked, pictures)
