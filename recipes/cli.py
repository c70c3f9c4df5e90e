"""`avar-train`: train with AVAR's recipes. Thin; nothing heavy is imported before a command needs it."""

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from avar_eval.command_line import (
    AttnImplementationOption,
    BatchSizeOption,
    TokenLimitOption,
    interruptible,
    run_app,
)
from avar_eval.errors import UsageError
from avar_eval.names import listed_names
from avar_eval.terminal import say

if TYPE_CHECKING:
    from avar_eval.models.backend_options import BackendName

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Train vision-language models to look at the image, with TRL.",
)
_OPTIONS = {"allow_extra_args": True, "ignore_unknown_options": True}
_RecipeName = Annotated[str, typer.Argument(metavar="RECIPE", help="A shipped recipe's name, or a YAML file.")]


@app.command(context_settings=_OPTIONS)
def sft(context: typer.Context, recipe: _RecipeName) -> None:
    """Cold-start fine-tuning with AGTO, Equations 4-6. Any option of TRL's SFTConfig or ours: --key value."""
    _train("sft", recipe, context.args)


@app.command(context_settings=_OPTIONS)
def grpo(context: typer.Context, recipe: _RecipeName) -> None:
    """Reinforcement learning with VARS, Equations 7-10. Any option of TRL's GRPOConfig or ours: --key value."""
    _train("grpo", recipe, context.args)


@app.command(context_settings=_OPTIONS)
def check(context: typer.Context, recipe: _RecipeName) -> None:
    """Check RECIPE without training, and show its batch and the memory it needs on each GPU."""
    from avar_eval.recipes.recipe import check_files, read_recipe, without_gpu

    read = read_recipe(recipe, context.args)
    check_files(read)
    import torch

    from avar_eval.recipes.plan import plan
    from avar_eval.recipes.run import parse

    parse(read if torch.cuda.is_available() else without_gpu(read), launched=False)
    say(plan(read))


@app.command(context_settings=_OPTIONS)
def ladder(
    context: typer.Context,
    output: Annotated[Path, typer.Option(help="Folder for all models and evaluations.")],
    seeds: Annotated[str, typer.Option(help="Seeds with commas between them.")] = "0,1,2",
    limit: Annotated[int | None, typer.Option(min=1, help="Ask only the first N questions of each task.")] = None,
) -> None:
    """The embedded world's ablation: base, + VARD, + AGTO, + VARS, trained and scored. Run again to resume."""
    from avar_eval.console import wide_console

    if not all(seed.isdigit() for seed in listed_names(seeds)):
        raise UsageError(f"--seeds takes whole numbers with commas between them, not {seeds!r}")
    with contextlib.redirect_stdout(sys.stderr), interruptible():
        from avar_eval.recipes.ladder import climb, ladder_table

        found = climb(output, [int(seed) for seed in listed_names(seeds)], limit, context.args)
    wide_console().print(ladder_table(found))


@app.command("filter")
def filter_(
    model: Annotated[str, typer.Option("--model", "-m", help="Registered name, local folder or hub repository.")],
    data: Annotated[str, typer.Option(help="Sources of rows, as a recipe's train_data.")],
    output: Annotated[Path, typer.Option(help="Folder for kept rows, histogram and records.")],
    rollouts: Annotated[int, typer.Option(help="Responses to each row.")] = 8,
    lowest: Annotated[float, typer.Option(help="Lowest accuracy of a kept row.")] = 0.25,
    highest: Annotated[float, typer.Option(help="Highest accuracy of a kept row.")] = 0.75,
    limit: Annotated[int | None, typer.Option(min=1, help="Ask only the first N rows of each source.")] = None,
    temperature: Annotated[float, typer.Option(help="Of the rollouts.")] = 0.8,
    max_new_tokens: TokenLimitOption = None,
    batch_size: BatchSizeOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of sampling.")] = 0,
    system_prompt: Annotated[str | None, typer.Option(help="System turn.", show_default="the model's")] = None,
    backend: Annotated[str | None, typer.Option(help="transformers, vllm or api.")] = None,
    attn_implementation: AttnImplementationOption = None,
    backend_option: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE: url, key_env, tensor_parallel and others of the backend.")
    ] = None,
) -> None:
    """Keep the rows that MODEL gets right now and then; a GRPO recipe reads OUTPUT. Run again to resume."""
    from avar_eval.recipes.difficulty import FilterConfig, check_filter
    from avar_eval.run.evaluate import kernel_options

    if backend not in ("transformers", "vllm", "api", None):
        raise UsageError(f"--backend takes transformers, vllm or api, not {backend!r}")
    config = FilterConfig(
        model=model,
        sources=data,
        output=output,
        rollouts=rollouts,
        keep=(lowest, highest),
        limit=limit,
        temperature=temperature,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        seed=seed,
        system_prompt=system_prompt,
        backend=cast("BackendName | None", backend),
        backend_options=_named_values(backend_option or []) | kernel_options(attn_implementation),
    )
    check_filter(config)
    with contextlib.redirect_stdout(sys.stderr), interruptible():
        from avar_eval.recipes.difficulty import filter_rows

        found = filter_rows(config)
    say(f"{len(found.kept)} of {len(found.right)} rows kept in {output}")


def _named_values(options: list[str]) -> dict[str, str]:
    pairs = [option.partition("=") for option in options]
    for (name, equals, _), option in zip(pairs, options, strict=True):
        if not (name and equals):
            raise UsageError(f"--backend-option takes NAME=VALUE, not {option!r}")
    return {name.replace("-", "_"): value for name, _, value in pairs}


@app.command()
def recipes() -> None:
    """List the shipped recipes."""
    from avar_eval.recipes.recipe import read_recipe, shipped

    for name in shipped():
        recipe = read_recipe(name)
        card = recipe.card
        say(f"{name:34} {card.method:5} {card.processes:3} {recipe.processor}  {card.description}")


def _train(method: Literal["sft", "grpo"], name: str, arguments: list[str]) -> None:
    from avar_eval.recipes.recipe import check_files, read_recipe

    recipe = read_recipe(name, arguments)
    if recipe.card.method != method:
        raise UsageError(f"{name} is a recipe for {recipe.card.method}: avar-train {recipe.card.method} {name}")
    check_files(recipe)
    with contextlib.redirect_stdout(sys.stderr):  # standard output is for where the model lies
        from avar_eval.recipes.run import run

        folder = run(recipe)
    say(str(folder))


def main() -> None:
    """Entry point of `avar-train`."""
    run_app(app, "avar-train")


if __name__ == "__main__":
    main()
