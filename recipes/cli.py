"""`avar-train`: train with AVAR's recipes. Thin; nothing heavy is imported before a command needs it."""

import contextlib
import sys
from typing import Annotated, Literal

import typer

from avar_eval.command_line import run_app
from avar_eval.errors import UsageError

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
    """Cold-start fine-tuning with AGTO (Eq. 4-6). Any option of TRL's SFTConfig or ours: --key value."""
    _train("sft", recipe, context.args)


@app.command(context_settings=_OPTIONS)
def grpo(context: typer.Context, recipe: _RecipeName) -> None:
    """Reinforcement learning with VARS (Eq. 7-10). Any option of TRL's GRPOConfig or ours: --key value."""
    _train("grpo", recipe, context.args)


@app.command(context_settings=_OPTIONS)
def check(context: typer.Context, recipe: _RecipeName) -> None:
    """Check RECIPE without training, and show its batch and the memory it needs on each GPU."""
    from avar_eval.recipes.recipe import check_files, read_recipe

    read = read_recipe(recipe, context.args)
    check_files(read)
    from avar_eval.recipes.plan import plan
    from avar_eval.recipes.run import parse

    parse(read, launched=False)
    typer.echo(plan(read))


@app.command()
def recipes() -> None:
    """List the shipped recipes."""
    from avar_eval.recipes.recipe import read_recipe, shipped

    for name in shipped():
        card = read_recipe(name).card
        typer.echo(f"{name:32} {card.method:5} {card.processes:3} GPU  {card.description}")


def _train(method: Literal["sft", "grpo"], name: str, arguments: list[str]) -> None:
    from avar_eval.recipes.recipe import check_files, read_recipe

    recipe = read_recipe(name, arguments)
    if recipe.card.method != method:
        raise UsageError(f"{name} is a recipe for {recipe.card.method}: avar-train {recipe.card.method} {name}")
    check_files(recipe)
    with contextlib.redirect_stdout(sys.stderr):  # standard output is for where the model lies
        from avar_eval.recipes.run import run

        folder = run(recipe)
    typer.echo(folder)


def main() -> None:
    """Entry point of `avar-train`."""
    run_app(app, "avar-train")


if __name__ == "__main__":
    main()
