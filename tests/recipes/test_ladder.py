"""`avar-train ladder`: which recipe is trained from what, and the table; the trainings themselves are other tests'."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from avar_eval.errors import UsageError
from avar_eval.recipes import ladder, run
from avar_eval.recipes.cli import app
from avar_eval.recipes.recipe import Recipe, check_files, read_recipe, shipped
from avar_eval.results.schema import Metric, Results, TaskResult
from avar_eval.results.summary import left_out_rows


def scored(share: float, vas: float | None) -> Results:
    def metric(value: float | None) -> Metric:
        return Metric(value=value, ci95=None, n=10)

    task = TaskResult(
        metrics={"accuracy": metric(share), "vas": metric(vas)},
        benchmark={"strict": {"wording_right": metric(1.0), "wording_wrong": metric(share / 2)}},
        vas_band=None,
        left_out=left_out_rows({}),
    )
    return Results(run_id="0" * 16, tasks={"shapes": task, "shapes_prior": task}, protocol={})


def test_rungs_are_trained_from_the_rung_below_and_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[Recipe] = []
    asked: list[Any] = []

    def train(recipe: Recipe) -> Path:
        check_files(recipe)
        trained.append(recipe)
        folder = Path(recipe.options["output_dir"])
        folder.mkdir(parents=True)
        return folder

    def evaluate(config: Any) -> Results:
        asked.append(config)
        return scored(len(asked) / 10, 7.5 if len(asked) % 2 else None)

    monkeypatch.setattr(run, "run", train)
    monkeypatch.setattr(ladder, "evaluate", evaluate)
    command = ["ladder", "--output", str(tmp_path), "--seeds", "3,4", "--limit", "5", "--max_steps", "2"]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    below = {"base": None, "plain": "base", "vard": "base", "agto": "base", "vars": "agto"}
    starts = [None if under is None else str(tmp_path / "seed-3" / under) for under in below.values()]
    assert [recipe.options["model_name_or_path"] for recipe in trained[:5]] == [
        start or "avar-tiny" for start in starts
    ]
    assert [recipe.options["seed"] for recipe in trained] == [3] * 5 + [4] * 5
    assert all(recipe.options["max_steps"] == 2 for recipe in trained)
    assert [recipe.options.get("thoughts") for recipe in trained[:5]] == ["none", "plain", "anchored", "anchored", None]
    assert [Path(config.model.asking.model).name for config in asked[:5]] == list(below)
    assert all(config.model.asking.limit == 5 and config.model.asking.attention_samples == 200 for config in asked)
    numbers = json.loads((tmp_path / "ladder.json").read_text())
    assert numbers["seeds"] == [3, 4]
    assert [entry["shapes/accuracy"] for entry in numbers["rungs"]["plain"]] == [0.2, 0.7]
    assert [entry["shapes_prior/vas"] for entry in numbers["rungs"]["base"]] == [7.5, None]
    for part in ("+ VARD", "+ AGTO", "+ VARS", "35.0", "10.0–60.0"):  # base: 10 % and 60 %
        assert part in result.output


def test_the_table_says_over_how_many_seeds_it_is_and_keeps_exploding_ratios_short() -> None:
    numbers = {"shapes/accuracy": 0.5, "shapes/vas": 1.2345e12, "shapes_prior/vas": 2345.0}
    for seeds, said in ((1, "One seed."), (3, "Means over 3 seeds")):
        console = Console(width=160, record=True, file=io.StringIO())
        columns = {"shapes %": ("shapes/accuracy", 100), "VAS": ("shapes/vas", 1), "prior": ("shapes_prior/vas", 1)}
        tiny = ladder.read_ladder("tiny").model_copy(update={"columns": columns})
        console.print(ladder.ladder_table(tiny, {rung.name: [numbers] * seeds for rung in tiny.rungs}))
        shown = console.export_text()
        assert all(part in shown for part in (said, "50.0", "1.23e12", "2.34k"))


def test_tiny_recipes_train_on_what_the_ladder_asks_about() -> None:
    for name in shipped():
        if name.startswith("tiny_"):
            assert read_recipe(name).options["train_data"] == "shapes,shapes_prior"


def test_seeds_are_whole_numbers(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["ladder", "--output", str(tmp_path), "--seeds", "0,x"])
    assert isinstance(result.exception, UsageError)
    assert "--seeds takes whole numbers" in str(result.exception)
