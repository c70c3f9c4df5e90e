"""`avar-train`: train with AVAR's recipes. Thin; nothing heavy is imported before a command needs it."""

import contextlib
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from avar_eval.command_line import interruptible, new_app, run_app
from avar_eval.errors import UsageError, unknown_name
from avar_eval.help_text import examples
from avar_eval.names import listed_names
from avar_eval.recipes.synthesis.cli import synthesize
from avar_eval.run.asking import Asking
from avar_eval.run.options import As, asking_options, option_names
from avar_eval.terminal import say

app = new_app("Train vision-language models to look at the image, with TRL.")
_OPTIONS = {"allow_extra_args": True, "ignore_unknown_options": True}


def _complete_recipes(incomplete: str) -> list[str]:
    from avar_eval.recipes.recipe import shipped

    return [name for name in shipped() if name.startswith(incomplete)]


def _complete_ladders(incomplete: str) -> list[str]:
    from avar_eval.recipes.ladder import shipped_ladders

    return [name for name in shipped_ladders() if name.startswith(incomplete)]


_EMBEDDED_LADDERS = {"avar-tiny": "tiny", "avar-smol": "smol"}

_RecipeName = Annotated[
    str,
    typer.Argument(metavar="RECIPE", autocompletion=_complete_recipes, help="A shipped recipe's name, or a YAML file."),
]


@app.command(context_settings=_OPTIONS)
@examples(
    "avar-train sft tiny_agto_sft --output_dir outputs/sft",
    "avar-train sft avar_sft_qwen2_5_vl_7b --learning_rate 1e-5",
)
def sft(context: typer.Context, recipe: _RecipeName) -> None:
    """Cold-start fine-tuning with AGTO, Equations 4-6. Any option of TRL's SFTConfig or ours: --key value."""
    _train("sft", recipe, context.args)


@app.command(context_settings=_OPTIONS)
@examples(
    "avar-train grpo tiny_vars_grpo --output_dir outputs/grpo",
)
def grpo(context: typer.Context, recipe: _RecipeName) -> None:
    """Reinforcement learning with VARS, Equations 7-10. Any option of TRL's GRPOConfig or ours: --key value."""
    _train("grpo", recipe, context.args)


@app.command(context_settings=_OPTIONS)
@examples(
    "avar-train check avar_grpo_qwen2_5_vl_7b",
)
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
@examples(
    "avar-train ladder --output outputs/ladder --seeds 0",
    "avar-train ladder --model avar-smol --output outputs/smol",
)
@asking_options("limit")
def ladder(
    context: typer.Context,
    *,
    output: Annotated[Path, typer.Option(help="Folder for all models and evaluations.")],
    seeds: Annotated[str, typer.Option(help="Seeds with commas between them.")] = "0,1,2",
    model: Annotated[str, typer.Option(help="The embedded model: avar-tiny, or avar-smol (a GPU).")] = "avar-tiny",
    asked: Mapping[str, Any],
) -> None:
    """The embedded world's ablation: base, + VARD, + AGTO, + VARS, trained and scored. Run again to resume."""
    if model not in _EMBEDDED_LADDERS:
        raise unknown_name("embedded model", model, _EMBEDDED_LADDERS, "(avar-train ablation takes any other)")
    _climb(_EMBEDDED_LADDERS[model], output, seeds, asked, context.args)


@app.command(context_settings=_OPTIONS)
@examples(
    "avar-train ablation qwen2_5_vl_7b --output outputs/ablation",
    "avar-train ablation tiny --output outputs/tiny --limit 100",
)
@asking_options("limit", "data_dir", "max_new_tokens", "batch_size")
def ablation(
    context: typer.Context,
    ladder: Annotated[
        str,
        typer.Argument(
            metavar="LADDER", autocompletion=_complete_ladders, help="A shipped ladder's name, or a YAML file."
        ),
    ],
    *,
    output: Annotated[Path, typer.Option(help="Folder for all models and evaluations.")],
    seeds: Annotated[str, typer.Option(help="Seeds with commas between them.")] = "0",
    model: Annotated[
        str | None, typer.Option(help="The base model, a name or folder.", show_default="the ladder's")
    ] = None,
    launch: Annotated[
        str | None,
        typer.Option(
            help="Command before `-m …` that starts a recipe of several processes; {config} is its file in launch/.",
            show_default="accelerate launch --config_file {config}",
        ),
    ] = None,
    asked: Mapping[str, Any],
) -> None:
    """Train and score every rung of LADDER and show them in one table. --key value goes to all recipes."""
    _climb(ladder, output, seeds, asked, context.args, model, launch)


def _climb(
    name: str,
    output: Path,
    seeds: str,
    asked: Mapping[str, Any],
    options: list[str],
    model: str | None = None,
    launch: str | None = None,
) -> None:
    from avar_eval.console import wide_console

    if not all(seed.isdigit() for seed in listed_names(seeds)):
        raise UsageError(f"--seeds takes whole numbers with commas between them, not {seeds!r}")
    with contextlib.redirect_stdout(sys.stderr), interruptible():
        from avar_eval.recipes.ladder import LAUNCH, climb, ladder_table, read_ladder

        read = read_ladder(name, model)
        found = climb(read, output, [int(seed) for seed in listed_names(seeds)], asked, options, launch or LAUNCH)
    wide_console().print(ladder_table(read, found))


_NOT_OF_FILTER = (
    "samples", "prompt_style", "protocol", "uniform_prompts", "data_dir", "allow_outside",
    "steering", "attention_samples", "api_weights",
)  # fmt: skip
"""Rows have their prompts, --rollouts says how many responses, and nothing is measured."""


@app.command("filter")
@examples(
    "avar-train filter --model avar-tiny --data rows.jsonl --output kept --rollouts 8",
)
@asking_options(
    *option_names("transformers", "vllm", "api", without=_NOT_OF_FILTER),
    limit=As("Ask only the first N rows of each source."),
    temperature=As("Of the rollouts.", default=0.8),
)
def filter_(
    *,
    data: Annotated[str, typer.Option(help="Sources of rows, as a recipe's train_data.")],
    output: Annotated[Path, typer.Option(help="Folder for kept rows, histogram and records.")],
    rollouts: Annotated[int, typer.Option(help="Responses to each row.")] = 8,
    lowest: Annotated[float, typer.Option(help="Lowest accuracy of a kept row.")] = 0.25,
    highest: Annotated[float, typer.Option(help="Highest accuracy of a kept row.")] = 0.75,
    asking: Asking,
    backend_option: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE: url, key_env, tensor_parallel and others of the backend.")
    ] = None,
) -> None:
    """Keep the rows that MODEL gets right now and then; a GRPO recipe reads OUTPUT. Run again to resume."""
    from avar_eval.recipes.difficulty import FilterConfig, check_filter

    options = {**asking.backend_options, **_named_values(backend_option or [])}
    asking = replace(asking, backend_options=options).with_decoding(samples=rollouts)
    config = FilterConfig(asking, data, output, keep=(lowest, highest))
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


app.command()(synthesize)


@app.command()
@examples(
    "avar-train recipes",
)
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
