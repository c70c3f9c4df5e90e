"""`avar-eval watch`: score a training's checkpoints as they appear."""

import contextlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from avar_eval.command_line import interruptible
from avar_eval.completion import complete_tasks
from avar_eval.errors import UsageError
from avar_eval.help_text import examples
from avar_eval.names import listed_names
from avar_eval.run.options import As, asking_options, option_names

THE_BASES = "the base model's"


@examples(
    "avar-eval watch outputs/my-run --tasks shapes",
    "avar-eval watch outputs/my-run --tasks mathvista,mmmu --limit 200 --once",
)
@asking_options(
    *option_names("transformers", "vllm", without=("model", "steering")),
    batch_size=As(shown=THE_BASES),
    max_new_tokens=As(shown=THE_BASES),
    system_prompt=As(shown=THE_BASES),
    prompt_style=As(shown="as it was trained: thinking, or the base model's"),
    backend=As("transformers or vllm.", shown="transformers"),
)
def watch(
    *,
    output_dir: Annotated[Path, typer.Argument(metavar="OUTPUT_DIR", help="A training's output folder.")],
    tasks: Annotated[
        str,
        typer.Option(
            "--tasks", "-t", autocompletion=complete_tasks, help="Names of tasks or groups, separated by commas."
        ),
    ],
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
    asked: Mapping[str, Any],
) -> None:
    """Score every complete checkpoint of a training, and its base model, once each; run again to go on.

    Ends when the training says that it has finished. Each score is a row of the leaderboard, and OUTPUT_DIR/best links
    to the checkpoint with the highest one.
    """
    if base is not None and without_base:
        raise UsageError("give either --base or --without-base")
    # Libraries print, and standard output is for the results.
    with contextlib.redirect_stdout(sys.stderr), interruptible():
        from avar_eval.watch.scoring import scoring
        from avar_eval.watch.watch import watch as watch_training

        of = scoring(
            output_dir, listed_names(tasks), base=base, without_base=without_base, run=run, scores=output, **asked
        )
        watch_training(of, once=once, timeout=None if timeout is None else 60 * timeout, pause=pause)
    from avar_eval.watch.report import print_scored

    print_scored(of)
