"""`avar-train ablation`: a ladder of any base model is read, trained rung by rung, scored, shown beside the paper."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_ladder import scored
from typer.testing import CliRunner

from avar_eval.errors import AvarError, UsageError
from avar_eval.models.checkpoint import resolve_checkpoint
from avar_eval.models.training_run import TrainingRun
from avar_eval.recipes import ladder, run
from avar_eval.recipes.cli import app
from avar_eval.recipes.ladder import read_ladder, shipped_ladders
from avar_eval.recipes.recipe import read_recipe
from avar_eval.tasks.groups import groups

PAPER = ("qwen2_5_vl_7b", "llama_3_2_11b_vision", "cold_starts_qwen2_5_vl_7b")


@pytest.mark.parametrize("name", sorted(shipped_ladders()))
def test_every_shipped_ladder_is_one_of_recipes_that_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for downloaded in ("vision_r1_cold", "vision_sr1_cold"):
        (tmp_path / "data" / downloaded).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    read = read_ladder(name)
    if name in PAPER:
        assert read.tasks == [term.task for term in groups()["avar7"].mean]
    for rung in read.rungs:
        if rung.recipe is None:
            continue
        arguments = ladder._arguments(rung.options)
        checked = CliRunner().invoke(app, ["check", rung.recipe, *arguments], catch_exceptions=False)
        assert checked.output.startswith(f"{rung.recipe}: ")
        card = read_recipe(rung.recipe).card
        assert card.processes == 1 or (Path(ladder.__file__).parent / "launch" / f"{card.launch}.yaml").is_file()


def test_the_signals_differ_from_grpo_alone_by_their_weights_only() -> None:
    rungs = {rung.name: rung for rung in read_ladder("tiny_signals").rungs}
    plain = read_recipe("tiny_vars_grpo", ladder._arguments(rungs["grpo"].options)).options
    for name in ("vars", "late", "papo", "vppo"):
        options = read_recipe("tiny_vars_grpo", ladder._arguments(rungs[name].options)).options
        changed = {key for key in options if options[key] != plain.get(key, 0.0)}
        assert changed
        assert changed <= {
            "visual_weight",
            "late_attention_weight",
            "perception_weight",
            "perception_entropy_weight",
            "masked_entropy_weight",
            "dependence_weight",
            "masked_share",
        }


def write(folder: Path, rungs: list[dict[str, Any]], **changes: Any) -> str:
    content = {"description": "mine", "model": "avar-tiny", "tasks": ["shapes"], "rungs": rungs} | changes
    (folder / "mine.yaml").write_text(json.dumps(content))
    return str(folder / "mine.yaml")


RUNGS: list[dict[str, Any]] = [
    {"name": "base", "title": "base", "expected": {"average": 49.1, "scores": {"shapes": 60.5}, "source": "mine"}},
    {"name": "sft", "title": "+ SFT", "recipe": "tiny_agto_sft", "options": {"alpha": 0.1}, "start": "base"},
    {"name": "rl", "title": "+ RL", "recipe": "avar_grpo_qwen2_5_vl_7b", "start": "sft"},
]


class Calls:
    """What was trained here, launched, and asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.trained: list[Any] = []
        self.launched: list[list[str]] = []
        self.asked: list[Any] = []
        self.code = 0
        monkeypatch.setattr(run, "run", self.train)
        monkeypatch.setattr(ladder, "evaluate", self.evaluate)
        monkeypatch.setattr(ladder.subprocess, "run", self.launch)

    def train(self, recipe: Any) -> Path:
        self.trained.append(recipe)
        folder = Path(recipe.options["output_dir"])
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def launch(self, command: list[str], check: bool) -> Any:
        self.launched.append(command)
        folder = Path(command[command.index("--output_dir") + 1])
        TrainingRun(run="rl", base="sft", started="2026-01-01", finished=True).write(folder)
        return SimpleNamespace(returncode=self.code)

    def evaluate(self, config: Any) -> Any:
        self.asked.append(config)
        return scored(len(self.asked) / 10, 7.5)


def test_a_ladder_of_ones_own_is_trained_launched_scored_and_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, output = Calls(monkeypatch), tmp_path / "out"
    command = ["ablation", write(tmp_path, RUNGS), "--output", str(output), "--limit", "5", "--max_steps", "2"]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    (sft,) = calls.trained
    base = Path(calls.asked[0].model.asking.model)
    assert (base / "config.json").is_file()
    assert Path(sft.options["model_name_or_path"]) == base
    assert (sft.options["alpha"], sft.options["max_steps"], sft.options["seed"]) == (0.1, 2, 0)
    (launched,) = calls.launched
    config = Path(ladder.__file__).parent / "launch" / "zero3_16gpu.yaml"
    start = ["accelerate", "launch", "--config_file", str(config), "-m", "avar_eval.recipes.cli", "grpo"]
    assert launched[:7] == start
    assert launched[launched.index("--model_name_or_path") + 1] == str(output / "seed-0" / "sft")
    folders = [config.output for config in calls.asked]
    assert folders == [output / "base" / "evaluation", *(output / "seed-0" / of / "evaluation" for of in ("sft", "rl"))]
    for part in (
        "+ SFT",
        "published",
        "60.5",
        "49.1",
        "74.7",
        "18.9",
        "30.0",
    ):  # of the recipe: MathVista is no task here
        assert (part in result.output) == (part != "74.7")
    numbers = json.loads((output / "ladder.json").read_text())["rungs"]
    assert numbers["rl"][0]["average"] == 0.3
    assert numbers["rl"][0]["vas"] == 7.5
    CliRunner().invoke(app, [*command, "--launch", "srun python"], catch_exceptions=False)
    assert len(calls.launched) == 1  # that training is finished


def test_another_launcher_and_a_training_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls(monkeypatch)
    calls.code = 3
    command = ["ablation", write(tmp_path, RUNGS), "--output", str(tmp_path / "out"), "--launch", "srun -N2 launch.sh"]
    result = CliRunner().invoke(app, command)
    assert isinstance(result.exception, AvarError)
    said = str(result.exception)
    assert "the training of avar_grpo_qwen2_5_vl_7b ended with exit code 3: srun -N2 launch.sh -m" in said


@pytest.mark.parametrize(
    ("rungs", "changes", "message"),
    [
        ([RUNGS[0], RUNGS[0]], {}, "two rungs have the name base"),
        ([RUNGS[2]], {}, "stands on sft, which is no rung before it"),
        ([RUNGS[0]], {"model": None}, "the rung base has no recipe"),
        ([RUNGS[0]], {"tasks": ["shape"]}, "unknown task 'shape'"),
        ([RUNGS[0] | {"recipe": "tiny_agto"}], {}, "unknown recipe 'tiny_agto'"),
        ([RUNGS[0] | {"receipt": "x"}], {}, "rungs.0.receipt is not a field of it"),
    ],
)
def test_a_wrong_ladder_is_one_message(tmp_path: Path, rungs: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_ladder(write(tmp_path, rungs, **changes))


def test_the_base_may_be_another_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, base = Calls(monkeypatch), resolve_checkpoint("avar-tiny").path
    command = ["ablation", write(tmp_path, [RUNGS[0]], model=None), "--output", str(tmp_path / "out")]
    assert CliRunner().invoke(app, [*command, "--model", str(base)], catch_exceptions=False).exit_code == 0
    assert [config.model.asking.model for config in calls.asked] == [str(base)]


def test_an_unknown_ladder_is_named() -> None:
    with pytest.raises(UsageError, match="unknown ladder 'tinny': did you mean tiny"):
        read_ladder("tinny")
