"""`avar-train ladder --model avar-smol`: its rungs and recipes; and what is said where its weights are not here."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from avar_eval.models import assembled
from avar_eval.models.checkpoint import resolve_checkpoint
from avar_eval.recipes import ladder, run
from avar_eval.recipes.cli import app
from avar_eval.recipes.recipe import Recipe, read_recipe
from avar_eval.results.schema import Metric, Results, TaskResult
from avar_eval.results.summary import left_out_rows


def test_the_model_chooses_the_ladder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[Recipe] = []

    def train(recipe: Recipe) -> Path:
        trained.append(recipe)
        folder = Path(recipe.options["output_dir"])
        folder.mkdir(parents=True)
        return folder

    def evaluate(config: Any) -> Results:
        metric = Metric(value=0.25, ci95=None, n=10)
        parts = {"strict": {"agree": metric, "disagree": metric}}
        task = TaskResult(metrics={"accuracy": metric}, benchmark=parts, vas_band=None, left_out=left_out_rows({}))
        return Results(run_id="0" * 16, tasks={"language_priors": task}, protocol={})

    monkeypatch.setattr(run, "run", train)
    monkeypatch.setattr(ladder, "evaluate", evaluate)
    command = ["ladder", "--model", "avar-smol", "--output", str(tmp_path), "--seeds", "0"]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    assert [recipe.options["model_name_or_path"] for recipe in trained] == [
        "avar-smol",
        *[str(tmp_path / "seed-0" / below) for below in ("base", "base", "base", "agto")],
    ]
    assert [recipe.options.get("thoughts") for recipe in trained] == ["none", "plain", "anchored", "anchored", None]
    assert [recipe.options.get("alpha") for recipe in trained] == [0.0, 0.0, 0.0, 0.15, None]
    assert json.loads((tmp_path / "ladder.json").read_text())["rungs"]["vars"][0]["language_priors/agree"] == 0.25
    assert all(part in result.output for part in ("agree %", "disagree %", "+ plain reflection"))


def test_a_model_without_a_ladder_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["ladder", "--model", "avar-smoll", "--output", str(tmp_path)])
    assert result.exit_code != 0
    assert "avar-smol" in str(result.exception)


def test_anchored_and_plain_rungs_are_trained_on_the_same_rows() -> None:
    vard, agto = (read_recipe(name).options for name in ("smol_vard_sft", "smol_agto_sft"))
    own = ("alpha", "beta", "output_dir")
    assert {key: value for key, value in vard.items() if key not in own} == {
        key: value for key, value in agto.items() if key not in own
    }


def test_weights_that_are_not_shipped_are_said_to_be_trained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(assembled, "SIGHT", tmp_path / "avar_smol.safetensors")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(assembled.NotAssembledError, match=r"avar_smol\.train --output DIR"):
        resolve_checkpoint("avar-smol")
