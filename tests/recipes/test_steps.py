"""Planned steps are those that TRL's own loaders give, and the paper's batch is 256 prompts with 8 rollouts each."""

from pathlib import Path
from typing import Any

import pytest
import training as runs
from test_grpo import rows as grpo_rows
from test_grpo import start

from avar_eval.errors import UsageError
from avar_eval.recipes.plan import plan
from avar_eval.recipes.recipe import Card, Recipe, check_batch, read_recipe
from avar_eval.recipes.steps import planned_steps, recipe_steps, training_rows


def recipe_of(method: str, batch: int, rows: int, **options: Any) -> Recipe:
    card = Card(method=method, description="", global_batch_size=batch, rows=rows)
    return Recipe(name="mine", card=card, options={"train_data": "owner/set"} | options)


@pytest.mark.parametrize(
    ("rows", "options"),
    [
        (4, {"per_device_train_batch_size": 4}),
        (5, {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}),
        (7, {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4, "steps_per_generation": 2}),
        (7, {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4, "steps_per_generation": 1}),
        (5, {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "num_iterations": 2}),
        (6, {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "generation_batch_size": 4}),
    ],
)
@pytest.mark.parametrize("epochs", [1, 2.5])
def test_planned_steps_of_grpo_are_trl_s(tmp_path: Path, rows: int, options: dict[str, Any], epochs: float) -> None:
    options |= {"num_generations": 2, "num_train_epochs": epochs}
    trainer = start(tmp_path, grpo_rows((1,) * rows), **options, max_steps=-1, visual_weight=0.0)
    values = trainer.set_initial_training_values(trainer.args, trainer.get_train_dataloader())
    planned = planned_steps(recipe_of("grpo", 1, rows, **options))
    assert planned is not None
    assert (planned.an_epoch, planned.steps) == (values[1], values[-1])
    passes = trainer.args.steps_per_generation * trainer.num_iterations
    assert recipe_steps(recipe_of("grpo", 1, rows, **options)).on_policy == (
        trainer.args.gradient_accumulation_steps % passes == 0
    )


@pytest.mark.parametrize(("rows", "accumulation"), [(4, 1), (5, 2), (3, 4)])
def test_planned_steps_of_fine_tuning_are_trl_s(tmp_path: Path, rows: int, accumulation: int) -> None:
    options = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": accumulation, "num_train_epochs": 3}
    trainer = runs.Keep(
        runs.model(),
        runs.sft_config(tmp_path, **options, max_steps=-1),
        train_dataset=runs.dataset(runs.rows((1,) * rows, (2,) * rows)),
        processing_class=runs.processor(),
    )
    values = trainer.set_initial_training_values(trainer.args, trainer.get_train_dataloader())
    planned = planned_steps(recipe_of("sft", 1, rows, **options))
    assert planned is not None
    assert (planned.an_epoch, planned.steps) == (values[1], values[-1])


def test_the_paper_s_step_is_of_256_prompts_with_8_rollouts_each() -> None:
    for name in ("avar_grpo_qwen2_5_vl_7b", "avar_grpo_llama_3_2_11b_vision"):
        recipe = read_recipe(name)
        steps = recipe_steps(recipe)
        assert (steps.prompts, steps.generations, steps.sequences) == (256, 8, 2048)
        assert steps.generated < steps.sequences
        assert steps.on_policy
        assert "= 2048 responses a step: 256 prompts x 8 rollouts" in plan(recipe)
    shown = plan(read_recipe("avar_grpo_qwen2_5_vl_7b"))
    assert "512 responses generated at a time, 32 on each process; all by the policy that learns from them" in shown
    assert "280 in 4 epochs of 17900 rows, 70 an epoch (17900 x 4 / 256 = 279 whole ones)" in shown
    late = plan(read_recipe("avar_grpo_qwen2_5_vl_7b", ["--steps_per_generation", "256"]))
    assert "4096 responses generated at a time, 256 on each process; the policy has moved on when it learns" in late


def test_rows_are_counted_where_they_lie_on_this_disk(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"a": 1}\n\n{"a": 2}\n{"a": 3}')
    local = recipe_of("grpo", 1, 99).model_copy(update={"options": {"train_data": f"{tmp_path},shapes"}})
    assert training_rows(local) == 3 + 5000
    assert training_rows(read_recipe("tiny_vars_grpo", ["--train_data", f"{tmp_path},shapes", "--train_rows=2"])) == 4
    assert training_rows(read_recipe("avar_sft_qwen2_5_vl_7b")) == 30419
    unknown = read_recipe("tiny_agto_sft", ["--train_data", "owner/set"])
    assert training_rows(unknown) is None
    assert "steps   not known before the rows are read" in plan(unknown)


def test_a_batch_of_grpo_is_counted_in_prompts() -> None:
    card = Card(method="grpo", description="", global_batch_size=256)
    check_batch(card, 8, 256, 8, 1)
    with pytest.raises(UsageError, match=r"= 256 responses, 32 prompts with 8 each, and the recipe's .* is 256"):
        check_batch(card, 1, 256, 8, 1)
