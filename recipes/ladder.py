"""The paper's ablation in the embedded world: base, + VARD, + AGTO, + VARS, several seeds, each rung scored with VAS.

    avar-train ladder --output DIR --seeds 0,1,2

Every rung is a shipped recipe, trained from the rung that it stands on:

    base      tiny_base_sft from avar-tiny       answers without a thought, as the wording suggests
    plain     tiny_vard_sft from base            solutions without visual anchors, the control of VARD
    vard      tiny_vard_sft from base            solutions with anchors
    agto      tiny_agto_sft from base            the same with the losses of Eq. 4-6
    vars      tiny_vars_grpo from agto           GRPO with the rewards of Eq. 7-10

Trainings and evaluations go on where they were stopped, so the same command finishes what it began. Each evaluation
is a row of the leaderboard for each task.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Final

from avar_eval.atomic import write_atomically
from avar_eval.recipes.recipe import read_recipe
from avar_eval.results.schema import Results
from avar_eval.run.asking import Asking
from avar_eval.run.evaluate import RunConfig, evaluate
from avar_eval.run.model import resolve
from avar_eval.terminal import UNREADABLE, exponential

TASKS: Final = ("shapes", "shapes_prior")
LADDER_NAME: Final = "ladder.json"
_MAX_NEW_TOKENS: Final = 160
_BATCH_SIZE: Final = 50


@dataclass(frozen=True)
class Rung:
    """title: as the paper's ablation has it. start: the rung it is trained from; None: the recipe's own model."""

    name: str
    title: str
    recipe: str
    start: str | None
    options: tuple[str, ...] = ()


RUNGS: Final = (
    Rung("base", "base", "tiny_base_sft", None),
    Rung("plain", "+ reflection without anchors", "tiny_vard_sft", "base", ("--thoughts", "plain")),
    Rung("vard", "+ VARD", "tiny_vard_sft", "base"),
    Rung("agto", "+ AGTO", "tiny_agto_sft", "base"),
    Rung("vars", "+ VARS", "tiny_vars_grpo", "agto"),
)

Numbers = Mapping[str, float | None]
"""Of one evaluation: `TASK/METRIC` -> accuracy and shares as fractions 0..1, VAS as a ratio."""


def climb(
    output: Path, seeds: Sequence[int], asked: Mapping[str, Any], options: Sequence[str]
) -> dict[str, list[Numbers]]:
    """Train and score all rungs for each seed; returns each rung's numbers, one entry a seed.

    asked: how each model is asked, as `Asking.of` takes it. options: `--key value` for every recipe. `ladder.json` in
    `output` holds the numbers.
    """
    found: dict[str, list[Numbers]] = {rung.name: [] for rung in RUNGS}
    for seed in seeds:
        for rung in RUNGS:
            folder = output / f"seed-{seed}"
            found[rung.name].append(_numbers(_score(_train(rung, folder, seed, options), asked)))
            write_atomically(
                output / LADDER_NAME, [json.dumps({"seeds": list(seeds), "rungs": found}, indent=2) + "\n"]
            )
    return found


def _train(rung: Rung, folder: Path, seed: int, options: Sequence[str]) -> Path:
    from avar_eval.recipes.run import run

    start = () if rung.start is None else ("--model_name_or_path", str(folder / rung.start))
    own = ("--output_dir", str(folder / rung.name), "--seed", str(seed))
    return run(read_recipe(rung.recipe, (*rung.options, *start, *options, *own)))


def _score(folder: Path, asked: Mapping[str, Any]) -> Results:
    asking = Asking.of(model=str(folder), batch_size=_BATCH_SIZE, max_new_tokens=_MAX_NEW_TOKENS, **asked)
    return evaluate(RunConfig(resolve(asking), TASKS, folder / "evaluation", command="avar-train ladder"))


def _numbers(results: Results) -> Numbers:
    numbers: dict[str, float | None] = {}
    for task, result in results.tasks.items():
        own = result.benchmark.get("strict", {})
        for name in ("accuracy", "vas", "vas_response", "ratio_of_sums"):
            numbers[f"{task}/{name}"] = result.metrics[name].value if name in result.metrics else None
        numbers |= {f"{task}/{name}": metric.value for name, metric in own.items()}
    return numbers


_COLUMNS: Final = {
    "shapes %": ("shapes/accuracy", 100),
    "image ÷ system": ("shapes/ratio_of_sums", 1),
    "VAS": ("shapes/vas", 1),
    "shapes_prior %": ("shapes_prior/accuracy", 100),
    "wording right %": ("shapes_prior/wording_right", 100),
    "wording wrong %": ("shapes_prior/wording_wrong", 100),
    "image ÷ system (prior)": ("shapes_prior/ratio_of_sums", 1),
    "VAS (prior)": ("shapes_prior/vas", 1),
}
_CAPTION: Final = (
    "Image ÷ system: the questions' summed attention on the image over that on the system turn. VAS is the mean of the "
    "heads' own ratios: a few heads that keep next to nothing on the system turn make it."
)


def ladder_table(found: Mapping[str, Sequence[Numbers]]) -> Any:
    """A rich table: a line a rung, in each cell the mean over seeds and below it the lowest and the highest."""
    from rich.table import Table

    count = max(map(len, found.values()))
    over = "One seed." if count == 1 else f"Means over {count} seeds, and below them the lowest and the highest."
    table = Table(
        box=None, padding=(0, 1, 0, 0), header_style="bold", caption=f"{over} {_CAPTION}", caption_justify="left"
    )
    table.add_column("rung")
    for column in _COLUMNS:
        table.add_column(column.replace(" ", "\n"), justify="right")
    for rung in RUNGS:
        table.add_row(rung.title, *(_cell(found[rung.name], *column) for column in _COLUMNS.values()))
    return table


def _cell(seeds: Sequence[Numbers], name: str, unit: float) -> str:
    values = [unit * value for numbers in seeds if (value := numbers.get(name)) is not None]
    if not values:
        return "–"
    decimals = 1 if unit == 100 else 2
    span = f"\n{_number(min(values), decimals)}–{_number(max(values), decimals)}" if len(values) > 1 else ""
    return f"{_number(fmean(values), decimals)}{span}"


def _number(value: float, decimals: int) -> str:
    if value >= UNREADABLE:
        return exponential(value, 0)
    return f"{value:,.0f}" if value >= 1000 else f"{value:.{decimals}f}"
