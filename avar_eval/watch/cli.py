"""`avar-eval watch`: score a training's checkpoints as they appear."""

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from avar_eval.command_line import (
    AttnImplementationOption,
    DataDirOption,
    DeviceOption,
    DtypeOption,
    LimitOption,
    check_choice,
    interruptible,
)
from avar_eval.errors import UsageError
from avar_eval.names import listed_names

if TYPE_CHECKING:
    from avar_eval.models.backend_options import BackendName
    from avar_eval.tasks.prompts import Style


def watch_command(
    output_dir: Annotated[Path, typer.Argument(metavar="OUTPUT_DIR", help="A training's output folder.")],
    tasks: Annotated[str, typer.Option("--tasks", "-t", help="Names of tasks or groups, separated by commas.")],
    base: Annotated[
        str | None, typer.Option(help="The model that was trained: step 0.", show_default="what the training says")
    ] = None,
    without_base: Annotated[bool, typer.Option("--without-base", help="Do not score the base model.")] = False,
    run: Annotated[
        str | None, typer.Option(help="The run's name in the leaderboard.", show_default="what the training says")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder for records and results.", show_default="OUTPUT_DIR/scores")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Score what is there, and end.")] = False,
    timeout: Annotated[
        float | None,
        typer.Option(min=0.0, help="End after so many minutes without a new one.", show_default="never"),
    ] = None,
    pause: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 10.0,
    limit: LimitOption = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Questions a batch.", show_default="the base model's")
    ] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, help="Token limit of a response.", show_default="the base model's")
    ] = None,
    system_prompt: Annotated[str | None, typer.Option(help="System turn.", show_default="the base model's")] = None,
    prompt_style: Annotated[str, typer.Option(help="thinking, direct or boxed.")] = "thinking",
    attention_samples: Annotated[int, typer.Option(min=0, help="Questions a task whose attention is measured.")] = 200,
    data_dir: DataDirOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    attn_implementation: AttnImplementationOption = None,
    backend: Annotated[str, typer.Option(help="transformers or vllm.")] = "transformers",
    tensor_parallel: Annotated[int | None, typer.Option(min=1, help="GPUs a copy (vllm).", show_default="1")] = None,
) -> None:
    """Score every complete checkpoint of a training, and its base model, once each; run again to go on.

    Ends when the training says that it has finished. Each score is a row of the leaderboard, and OUTPUT_DIR/best links
    to the checkpoint with the highest one.
    """
    check_choice("--dtype", dtype, ("float32", "bfloat16", "float16", None))
    check_choice("--backend", backend, ("transformers", "vllm"))
    check_choice("--prompt-style", prompt_style, ("thinking", "direct", "boxed"))
    if base is not None and without_base:
        raise UsageError("give either --base or --without-base")
    # Libraries print, and standard output is for the results.
    with contextlib.redirect_stdout(sys.stderr), interruptible():
        from avar_eval.watch.scoring import scoring
        from avar_eval.watch.watch import watch

        of = scoring(
            output_dir,
            listed_names(tasks),
            base=base,
            without_base=without_base,
            run=run,
            scores=output,
            limit=limit,
            system_prompt=system_prompt,
            prompt_style=cast("Style", prompt_style),
            max_new_tokens=max_new_tokens,
            attention_samples=attention_samples,
            dtype=dtype,
            attn_implementation=attn_implementation,
            backend=cast("BackendName", backend),
            batch_size=batch_size,
            device=device,
            data_dir=data_dir,
            backend_options={} if tensor_parallel is None else {"tensor_parallel": tensor_parallel},
        )
        watch(of, once=once, timeout=None if timeout is None else 60 * timeout, pause=pause)
    from avar_eval.watch.report import print_scored

    print_scored(of)
