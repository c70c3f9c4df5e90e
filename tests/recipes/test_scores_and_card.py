"""What a training says of itself afterwards: its README, and its checkpoints' scores in the run's trackers."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import TrainerCallback
from typer.testing import CliRunner

from avar_eval.models.training_run import TrainingRun
from avar_eval.recipes import run
from avar_eval.recipes.cli import app
from avar_eval.recipes.model_card import model_card
from avar_eval.recipes.recipe import read_recipe
from avar_eval.recipes.scores import LogScores, scores_by_step

ARGUMENTS = (
    "--train_rows", "8", "--global_batch_size", "2", "--per_device_train_batch_size", "2", "--save_steps", "1",
    "--lr_scheduler_type", "constant", "--max_steps", "2", "--logging_steps", "1", "--score_tasks", "shapes",
    "--score_limit", "2", "--score_attention_samples", "2",
)  # fmt: skip


class Tracker(TrainerCallback):  # type: ignore[misc] # transformers is untyped here
    """What a tracker is told."""

    told: list[dict[str, Any]]

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        type(self).told.append(dict(logs))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """A finished run of two scored checkpoints, and what its tracker was told."""
    folder = tmp_path_factory.mktemp("scored") / "mine"
    Tracker.told = []
    made = run._trainer

    def with_tracker(recipe: Any) -> Any:
        def make(*args: Any, **kwargs: Any) -> Any:
            trainer = made(recipe)(*args, **kwargs)
            trainer.add_callback(Tracker())
            trainer.add_callback(LogScores(trainer))
            return trainer

        return make

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "_trainer", with_tracker)
        result = CliRunner().invoke(
            app, ["sft", "tiny_agto_sft", "--output_dir", str(folder), *ARGUMENTS], catch_exceptions=False
        )
    assert result.exit_code == 0
    return folder, Tracker.told


def test_trackers_are_told_each_checkpoint_s_scores_once(trained: tuple[Path, list[dict[str, Any]]]) -> None:
    folder, told = trained
    scores = [log for log in told if "score/step" in log]
    assert [log["score/step"] for log in scores] == [0, 1, 2]
    found = scores_by_step(folder)
    assert list(found) == [0, 1, 2]
    for log in scores:
        numbers = found[log["score/step"]]
        assert {"shapes/accuracy", "shapes/vas", "shapes/ratio_of_sums"} <= numbers.keys()
        assert {name: log[f"score/{name}"] for name in numbers} == numbers
    state = json.loads((folder / "checkpoint-2" / "trainer_state.json").read_text())
    assert not any("score/step" in log for log in state["log_history"])  # the training's own log is as without


def test_the_readme_names_base_data_recipe_and_scores(trained: tuple[Path, list[dict[str, Any]]]) -> None:
    folder, _ = trained
    card = (folder / "README.md").read_text()
    head = yaml.safe_load(card.split("---")[1])
    assert head["library_name"] == "transformers"
    assert head["pipeline_tag"] == "image-text-to-text"
    for part in ("recipe `tiny_agto_sft`", "- Base model: avar-tiny", "- Data: shapes, shapes_prior", "alpha: 0.005"):
        assert part in card
    assert "None" not in card
    numbers = scores_by_step(folder)
    for step, name in ((0, "0 (base)"), (2, "2")):
        shown = (
            f"| {name} | shapes | {100 * numbers[step]['shapes/accuracy']:.1f} | {numbers[step]['shapes/vas']:.4g} |"
        )
        assert shown in card
    assert "2 in 1 epochs" not in card
    assert "steps   2 (max_steps" in card


def test_a_card_follows_the_base_to_the_hub(tmp_path: Path) -> None:
    """A model whose base was trained here from a registered one, on data of the hub."""
    cold = tmp_path / "cold"
    cold.mkdir()
    TrainingRun(run="cold", base="qwen2.5-vl-7b", started="2026-01-01T00:00:00+00:00", finished=True).write(cold)
    arguments = ["--model_name_or_path", str(cold), "--train_data", "geo3k,r1_sharevl,shapes"]
    card = model_card(read_recipe("avar_grpo_qwen2_5_vl_7b", arguments), tmp_path / "rl")
    head = yaml.safe_load(card.split("---")[1])
    assert head["base_model"] == "Qwen/Qwen2.5-VL-7B-Instruct"
    assert head["datasets"] == ["hiyouga/geometry3k", "HuanjinYao/R1-ShareVL-52K"]
    assert f"- Base model: {cold} ← qwen2.5-vl-7b" in card
    assert "None yet: `avar-eval watch" in card
