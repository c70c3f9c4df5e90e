"""An ablation: a base model and what is trained from it, rung by rung, over several seeds, each rung scored with VAS.

    avar-train ladder --output DIR --seeds 0,1,2                 the embedded world's, ladders/tiny.yaml
    avar-train ablation qwen2_5_vl_7b --output DIR               the paper's on Qwen2.5-VL-7B

A ladder is a YAML file in `ladders/`, or anywhere. Each of its rungs is the base model as it is or a recipe, trained
from the recipe's own model or from the rung that it stands on. Trainings and evaluations go on where they were stopped,
so the same command finishes what it began. Each evaluation is a row of the leaderboard for each task.
"""

import json
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from avar_eval.atomic import write_atomically
from avar_eval.errors import AvarError, UsageError, unknown_name
from avar_eval.in_words import in_words
from avar_eval.models.checkpoint import resolve_checkpoint
from avar_eval.models.training_run import read_training_run
from avar_eval.number_format import UNKNOWN, percent, score
from avar_eval.recipes.recipe import Expected, Recipe, read_recipe
from avar_eval.results.schema import Results
from avar_eval.run.asking import Asking
from avar_eval.run.evaluate import RunConfig, evaluate
from avar_eval.run.model import resolve
from avar_eval.tasks.catalog import find_tasks
from avar_eval.user_files import read_yaml

SHIPPED: Final = Path(__file__).parent / "ladders"
LADDER_NAME: Final = "ladder.json"
LAUNCH: Final = "accelerate launch --config_file {config}"
"""How a recipe for several processes is started; {config} is the file that its card names."""


class Rung(BaseModel):
    """title: as the paper's ablation has it. recipe: None for the base model as it is. start: the rung it is trained
    from; None: the recipe's own model. options: of the recipe. expected: what is published, by default the recipe's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"[A-Za-z0-9_-]+")
    title: str
    recipe: str | None = None
    start: str | None = None
    options: dict[str, Any] = {}
    expected: Expected | None = None


class Ladder(BaseModel):
    """model: the base, where a rung is it as it is. max_new_tokens, batch_size: None for the model's own. causal: which
    of the causal columns are measured, `full` for those that ask again. columns: of the table, title -> name of a
    number and its unit; by default each task's score, their average and VAS.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    description: str
    model: str | None = None
    tasks: list[str] = Field(min_length=1)
    max_new_tokens: int | None = Field(default=None, ge=1)
    batch_size: int | None = Field(default=None, ge=1)
    causal: Literal["off", "fast", "full"] = "fast"
    columns: dict[str, tuple[str, float]] = {}
    caption: str = ""
    rungs: list[Rung] = Field(min_length=1)


Numbers = Mapping[str, float | None]
"""Of one evaluation: `TASK/METRIC` -> the value of each metric of results.json; `TASK/score`, the benchmark's own, and
over all tasks `average` and `vas`."""


def shipped_ladders() -> dict[str, Path]:
    """The ladders of this package by name."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.yaml"))}


def read_ladder(name: str, model: str | None = None) -> Ladder:
    """A shipped ladder or a file. model: the base, instead of the file's.

    Raises UsageError if it cannot be read, or a rung or task of it does not exist.
    """
    path = shipped_ladders().get(name, Path(name))
    if not path.is_file():
        raise unknown_name("ladder", name, shipped_ladders(), "(a YAML file is taken as well)")
    content = read_yaml(path)
    if model is not None and isinstance(content, dict):
        content["model"] = model
    try:
        ladder = Ladder.model_validate(content)
    except ValidationError as error:
        raise UsageError(f"{path}: {in_words(error)}") from error
    find_tasks(ladder.tasks)
    below: set[str] = set()
    for rung in ladder.rungs:
        if rung.name in below:
            raise UsageError(f"{path}: two rungs have the name {rung.name}")
        if rung.start is not None and rung.start not in below:
            raise UsageError(f"{path}: the rung {rung.name} stands on {rung.start}, which is no rung before it")
        if rung.recipe is None and (ladder.model is None or rung.start is not None):
            raise UsageError(
                f"{path}: the rung {rung.name} has no recipe: give one, or leave `start` out and name `model` (--model)"
            )
        if rung.recipe is not None:
            read_recipe(rung.recipe, _arguments(rung.options))
        below.add(rung.name)
    return ladder


def climb(
    ladder: Ladder,
    output: Path,
    seeds: Sequence[int],
    asked: Mapping[str, Any],
    options: Sequence[str],
    launch: str = LAUNCH,
) -> dict[str, list[Numbers]]:
    """Train and score all rungs for each seed; returns each rung's numbers, one entry a seed.

    asked: how each model is asked, as `Asking.of` takes it. options: `--key value` for every recipe. launch: the
    command for recipes of several processes. `ladder.json` in `output` holds the numbers.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"the folder {output} cannot be made: {error.strerror}; give --output another one") from error
    found: dict[str, list[Numbers]] = {rung.name: [] for rung in ladder.rungs}
    for seed in seeds:
        for rung in ladder.rungs:
            model, folder = _made(ladder, rung, output, seed, options, launch)
            found[rung.name].append(_numbers(_score(ladder, model, folder, asked)))
            write_atomically(
                output / LADDER_NAME, [json.dumps({"seeds": list(seeds), "rungs": found}, indent=2) + "\n"]
            )
    return found


def _made(
    ladder: Ladder, rung: Rung, output: Path, seed: int, options: Sequence[str], launch: str
) -> tuple[Path, Path]:
    """The model of a rung, trained if it is not the base, and the folder for what is found out about it."""
    if rung.recipe is None:
        assert ladder.model is not None
        # by its folder: a registered name would be asked in another way than what is trained from it
        return resolve_checkpoint(ladder.model).path, output / rung.name
    folder = output / f"seed-{seed}"
    start = {} if rung.start is None else {"model_name_or_path": str(_model_below(ladder, rung, output, folder))}
    own = {"output_dir": str(folder / rung.name), "seed": seed}
    arguments = [*_arguments(rung.options), *_arguments(start), *options, *_arguments(own)]
    recipe = read_recipe(rung.recipe, arguments)
    if recipe.card.processes == 1:
        from avar_eval.recipes.run import run

        trained = run(recipe)
    else:
        trained = _launched(rung.recipe, recipe, arguments, launch)
    return trained, trained


def _model_below(ladder: Ladder, rung: Rung, output: Path, folder: Path) -> Path:
    below = next(other for other in ladder.rungs if other.name == rung.start)
    if below.recipe is None:
        assert ladder.model is not None
        return resolve_checkpoint(ladder.model).path
    return folder / below.name


def _launched(name: str, recipe: Recipe, arguments: Sequence[str], launch: str) -> Path:
    """Train in processes of their own, unless that is done. Raises AvarError where they fail."""
    folder = Path(str(recipe.options["output_dir"]))
    run = read_training_run(folder)
    if run is not None and run.finished:
        return folder
    if "{config}" in launch and recipe.card.launch is None:
        raise UsageError(f"the recipe {name} has no `launch`: give --launch the whole command")
    config = str(Path(__file__).parent / "launch" / f"{recipe.card.launch}.yaml")
    command = [part.replace("{config}", config) for part in shlex.split(launch)]
    command += ["-m", "avar_eval.recipes.cli", recipe.card.method, name, *arguments]
    done = subprocess.run(command, check=False)
    if done.returncode:
        raise AvarError(f"the training of {name} ended with exit code {done.returncode}: {shlex.join(command)}")
    return folder


def _arguments(options: Mapping[str, Any]) -> list[str]:
    """Options as a recipe's command line has them."""
    return [
        word
        for key, value in options.items()
        for word in (f"--{key}", value if type(value) is str else json.dumps(value))
    ]


def _score(ladder: Ladder, model: Path, folder: Path, asked: Mapping[str, Any]) -> Results:
    own = {"max_new_tokens": ladder.max_new_tokens, "batch_size": ladder.batch_size, "causal": ladder.causal}
    given = {name: value for name, value in own.items() if value is not None}
    asking = Asking.of(model=str(model), **{**given, **asked})
    return evaluate(RunConfig(resolve(asking), ladder.tasks, folder / "evaluation", command="avar-train ladder"))


def _numbers(results: Results) -> Numbers:
    numbers: dict[str, float | None] = {}
    scores, ratios = [], []
    for task, result in results.tasks.items():
        own = result.benchmark.get("strict", {})
        numbers |= {f"{task}/{name}": metric.value for name, metric in [*result.metrics.items(), *own.items()]}
        headline = result.headline.values.get("strict") if result.headline else None
        numbers[f"{task}/score"] = headline.value if headline else numbers[f"{task}/accuracy"]
        scores.append(numbers[f"{task}/score"])
        ratios.append(numbers.get(f"{task}/vas"))
    measured = [ratio for ratio in ratios if ratio is not None]
    known = [score for score in scores if score is not None]
    # of some of the tasks it would be another average
    numbers["average"] = fmean(known) if len(known) == len(scores) else None
    numbers["vas"] = fmean(measured) if measured else None
    return numbers


def ladder_table(ladder: Ladder, found: Mapping[str, Sequence[Numbers]]) -> Any:
    """A rich table: a row a rung, in each cell the mean over seeds and in brackets the lowest and the highest.

    Where something is published of a rung it stands in a line of its own.
    """
    from avar_eval.tables import Column, FittedTable

    count = max(map(len, found.values()))
    over = "One seed." if count == 1 else f"Means over {count} seeds, and in brackets the lowest and the highest."
    caption = f"{over} {ladder.caption}".strip()
    columns = ladder.columns or _default_columns(ladder)
    table = FittedTable([Column("rung", text=True, key=True), *map(Column, columns)], note=caption)
    for rung in ladder.rungs:
        table.add_row(rung.title, *(_cell(found[rung.name], *column) for column in columns.values()))
        if published := _published(rung):
            cells = (published.get(name) for name, _ in columns.values())
            table.add_row(f"{rung.title}, published", *("–" if of is None else f"{of:.1f}" for of in cells))
    return table


def _default_columns(ladder: Ladder) -> dict[str, tuple[str, float]]:
    tasks = {f"{task.name} %": (f"{task.name}/score", 100.0) for task in find_tasks(ladder.tasks)}
    return {**tasks, "average %": ("average", 100.0), "VAS": ("vas", 1.0)}


def _published(rung: Rung) -> dict[str, float | None]:
    """What is printed of a rung, by the names of its numbers, in percent but for VAS."""
    expected = rung.expected
    if expected is None and rung.recipe is not None and not rung.options:
        expected = read_recipe(rung.recipe).card.expected
    if expected is None:
        return {}
    scores: dict[str, float | None] = {f"{task}/score": score for task, score in expected.scores.items()}
    return scores | {"average": expected.average, "vas": expected.vas}


def _cell(seeds: Sequence[Numbers], name: str, unit: float) -> str:
    values = [value for numbers in seeds if (value := numbers.get(name)) is not None]
    if not values:
        return UNKNOWN
    ends = (min(values), max(values)) if len(values) > 1 else None
    return percent(fmean(values), ends) if unit == 100 else score(fmean(values), ends)
