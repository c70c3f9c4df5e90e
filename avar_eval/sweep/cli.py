"""`avar-eval sweep`."""

import contextlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from avar_eval.command_line import (
    AttnImplementationOption,
    BatchSizeOption,
    DataDirOption,
    DeviceOption,
    DtypeOption,
    LimitOption,
    TokenLimitOption,
    check_choice,
    command_text,
    interruptible,
)
from avar_eval.names import listed_names, run_name
from avar_eval.ranks import launched
from avar_eval.terminal import say


def sweep(
    model: Annotated[str, typer.Argument(help="Registered name, local folder or hub repository.")],
    tasks: Annotated[str, typer.Option("--tasks", "-t", help="Task names, separated by commas.")],
    system: Annotated[str, typer.Option(help="Strengths of system suppression, by commas.")] = "0,0.05,0.4,0.6",
    image: Annotated[str, typer.Option(help="Strengths of image enhancement, by commas.")] = "0.15",
    mode: Annotated[str, typer.Option(help="Of logit, log, prob, abs; several by commas.")] = "logit",
    rows: Annotated[str, typer.Option(help="Of after-image, all, last; several by commas.")] = "after-image",
    layers: Annotated[
        list[str] | None, typer.Option(help="Such as 8-14, or all; repeat it for several.", show_default="all")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder for records, table and picture.", show_default="avar-runs/sweep/MODEL")
    ] = None,
    limit: LimitOption = None,
    batch_size: BatchSizeOption = None,
    max_new_tokens: TokenLimitOption = None,
    attention_samples: Annotated[int, typer.Option(min=0, help="Questions a task whose attention is measured.")] = 200,
    data_dir: DataDirOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    attn_implementation: AttnImplementationOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print sweep.json and nothing else.")] = False,
) -> None:
    """Steer MODEL by every combination of strengths, beside itself unsteered. Run again to resume."""
    check_choice("--dtype", dtype, ("float32", "bfloat16", "float16", None))
    output = output or Path("avar-runs") / "sweep" / run_name(model)
    from avar_eval.sweep.grid import steering_grid

    grid = steering_grid(system, image, mode, rows, layers or ())
    with contextlib.redirect_stdout(sys.stderr), interruptible():
        from avar_eval.run.evaluate import RunConfig, kernel_options
        from avar_eval.sweep.figure import draw_sweep
        from avar_eval.sweep.run import sweep as run

        found = run(
            RunConfig(
                model=model,
                tasks=listed_names(tasks),
                output=output,
                limit=limit,
                batch_size=batch_size,
                max_new_tokens=max_new_tokens,
                data_dir=data_dir,
                device=device,
                dtype=dtype,
                attention_samples=attention_samples,
                backend_options=kernel_options(attn_implementation),
                command=command_text(sys.argv[1:]),
            ),
            grid,
        )
        if not launched().first:
            return
        picture = draw_sweep(found, output / "sweep.png")
    if as_json:
        say(found.to_json(), end="")
        return
    from avar_eval.sweep.report import print_sweep

    print_sweep(found, picture, output)
