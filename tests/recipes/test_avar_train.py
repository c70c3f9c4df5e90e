"""`avar-train`: every shipped recipe is read by TRL's parser, and a wrong one is refused before anything loads."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from peft import get_peft_model
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
from trl import get_peft_config
from typer.testing import CliRunner

from avar_eval.command_line import run_app
from avar_eval.errors import UsageError
from avar_eval.number_format import gigabytes
from avar_eval.recipes.cli import app
from avar_eval.recipes.memory import Architecture, estimate
from avar_eval.recipes.plan import plan
from avar_eval.recipes.recipe import Card, Recipe, check_batch, check_files, read_recipe, shipped, without_gpu
from avar_eval.recipes.run import parse
from avar_eval.tasks.groups import groups


def on_cpu(name: str) -> Recipe:
    """A shipped recipe that can be read on a machine without a GPU."""
    return without_gpu(read_recipe(name))


@pytest.mark.parametrize("name", sorted(shipped()))
def test_every_shipped_recipe_is_one_that_trl_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for downloaded in ("vision_r1_cold", "vision_sr1_cold"):
        (tmp_path / "data" / downloaded).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    recipe = on_cpu(name)
    read = parse(recipe, launched=False)
    assert read.training.output_dir == f"avar-runs/{name}"
    assert read.model.model_name_or_path == recipe.options["model_name_or_path"]
    if recipe.card.method == "grpo":
        assert (read.training.loss_type, read.training.beta, read.training.epsilon) == ("grpo", 0.0, 0.2)
        assert read.training.num_generations == 8


def test_the_paper_s_recipes_have_its_table_6() -> None:
    sft, grpo = (parse(on_cpu(f"avar_{of}_qwen2_5_vl_7b"), launched=False).training for of in ("sft", "grpo"))
    assert (sft.max_length, sft.num_train_epochs, sft.learning_rate, sft.warmup_steps) == (30000, 20, 5e-6, 0.1)
    assert (sft.alpha, sft.beta, sft.lr_scheduler_type) == (0.15, 0.15, "cosine")
    assert sft.per_device_train_batch_size * sft.gradient_accumulation_steps * 16 == 512
    assert (grpo.max_completion_length, grpo.num_train_epochs, grpo.learning_rate) == (30000, 4, 1e-6)
    assert (grpo.warmup_steps, grpo.weight_decay, grpo.temperature) == (0.03, 0.01, 0.8)
    assert (grpo.visual_weight, grpo.format_weight) == (0.3, 0.1)
    assert grpo.per_device_train_batch_size * grpo.gradient_accumulation_steps * 16 == 256 * 8


def written(folder: Path, **changes: Any) -> str:
    content = yaml.safe_load(shipped()["tiny_agto_sft"].read_text())
    content["recipe"] |= changes.pop("recipe", {})
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({name: value for name, value in (content | changes).items() if value != "absent"}))
    return str(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learnig_rate": 1e-3}, "unknown option 'learnig_rate': did you mean learning_rate"),
        ({"train_data": "nowhere.jsonl"}, "there is no training data 'nowhere.jsonl'"),
        ({"train_data": "absent"}, "has no train_data"),
        ({"model_name_or_path": "avar-tinny"}, "did you mean avar-tiny"),
        ({"gradient_accumulation_steps": 3}, "1 processes x .* 8 x .* 3 = 24, and .* 8"),
        ({"recipe": {"processes": 2}}, "start it with accelerate launch"),
        ({"recipe": {"procesess": 2}}, "`recipe`: procesess is not a field of it"),
        ({"recipe": {"method": "ppo"}}, "method is \"ppo\", not 'sft' or 'grpo'"),
        ({"alpha": -1}, "must not be negative"),
        ({"packing": True}, "packing cannot be combined"),
        ({"attention_queries": "image"}, "attention_queries must be one of user, response, both"),
        ({"per_device_train_batch_size": "two"}, "invalid int value: 'two'"),
        ({"learning_rate": "fast"}, "learning-rate: invalid float value: 'fast'$"),
        ({"resume_from_checkpoint": "out/checkpoint-5"}, "there is no checkpoint 'out/checkpoint-5' to resume from"),
        ({"learning_rate": -1e-5}, "learning_rate must be above 0, and is -1e-05"),
        ({"learning_rate": "-1e-5"}, "learning_rate must be above 0"),
        ({"learning_rate": float("nan")}, "learning_rate must be above 0, and is nan"),
        ({"num_train_epochs": -1}, "num_train_epochs must be above 0"),
        ({"max_steps": 0}, "max_steps must be a whole number of at least 1, or -1"),
        ({"max_steps": True}, "max_steps needs a value"),
        ({"run_name": True}, "run_name needs a value"),
        ({"lora_r": 0}, "lora_r must be a whole number of at least 1, and is 0"),
        ({"lora_dropout": 1}, "lora_dropout must be from 0 to below 1"),
        ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps must be a whole number of at least 1"),
        ({"train_rows": 0}, "train_rows must be a whole number of at least 1"),
        ({"max_length": -5}, "max_length must be"),
        ({"data_seed_of_shapes": 1.5}, "data_seed_of_shapes must be a whole number"),
        ({"attention_layers": [0, 99]}, "attention_layers holds 99, and the decoder of avar-tiny has the layers 0 to"),
        ({"attention_layers": [-1]}, "attention_layers must be a list of layer numbers from 0"),
        ({"attention_layers": []}, "leave it out for all layers"),
        ({"thoughts": "deep"}, "thoughts must be one of anchored, plain, none"),
        ({"eval_strategy": "steps"}, "eval_strategy steps needs eval_data"),
        ({"eval_data": "shapes"}, "eval_data is never read with eval_strategy no"),
        ({"attn_implementation": "paged"}, "cannot be measured under attn_implementation 'paged'"),
        ({"score_tasks": "shape"}, "unknown task 'shape': did you mean shapes"),
        ({"score_tasks": "shapes", "save_strategy": False}, "set save_strategy to steps or epoch"),
        (
            {"score_tasks": "shapes", "recipe": {"processes": 2, "global_batch_size": 16}},
            "run `avar-eval watch OUTPUT_DIR --tasks shapes` beside the training",
        ),
    ],
)
def test_a_wrong_recipe_is_refused_in_one_message(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    launched = "score_tasks" not in changes  # as `avar-train check` does
    with pytest.raises(UsageError, match=message):
        parse(read_recipe(written(tmp_path, **changes)), launched=launched)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--num_generations=1", "num_generations must be a whole number of at least 2"),
        ("--temperature=0", "temperature must be above 0"),
        ("--max_completion_length=0", "max_completion_length must be"),
        ("--top_p=1.5", "top_p must be above 0 and at most 1"),
        ("--attention_layers=[28]", "attention_layers holds 28, and the decoder of .* has the layers 0 to 27"),
        ("--gradient_checkpointing_kwargs={use_reentrant: true}", "under reentrant gradient checkpointing"),
    ],
)
def test_impossible_reinforcement_learning_is_refused(option: str, message: str) -> None:
    recipe = without_gpu(read_recipe("avar_grpo_qwen2_5_vl_7b", [option]))
    with pytest.raises(UsageError, match=message):
        parse(recipe, launched=False)


def test_a_recipe_says_only_what_differs_from_its_base(tmp_path: Path) -> None:
    vard, agto = read_recipe("avar_sft_qwen2_5_vl_7b_vard"), read_recipe("avar_sft_qwen2_5_vl_7b")
    changed = {name for name in agto.options if vard.options[name] != agto.options[name]}
    assert changed == {"alpha", "beta", "output_dir"}
    assert (vard.options["alpha"], vard.options["beta"]) == (0.0, 0.0)
    assert vard.card.architecture == agto.card.architecture
    assert vard.card.expected is not None
    assert (vard.card.expected.vas, vard.card.expected.scores["mathvista"]) == (10.1, 70.6)
    (tmp_path / "own.yaml").write_text("recipe: {base: avar_sft_qwen2_5_vl_7b}\nalpha: 0.5\n")
    own = read_recipe(str(tmp_path / "own.yaml"), ["--beta", "0.1"])
    assert (own.options["alpha"], own.options["beta"], own.card.expected) == (0.5, 0.1, None)
    for base, message in (
        ("nothing", "must name a shipped recipe"),
        ("avar_sft_qwen2_5_vl_7b_vard", "stands on another"),
    ):
        (tmp_path / "own.yaml").write_text(f"recipe: {{base: {base}}}\n")
        with pytest.raises(UsageError, match=message):
            read_recipe(str(tmp_path / "own.yaml"))


def test_recipes_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown recipe 'tiny_agto': did you mean tiny_agto_sft"):
        read_recipe("tiny_agto")
    with pytest.raises(UsageError, match="there is no recipe file"):
        read_recipe("mine.yaml")
    (tmp_path / "broken.yaml").write_text("a: [")
    with pytest.raises(UsageError, match="cannot be read"):
        read_recipe(str(tmp_path / "broken.yaml"))
    (tmp_path / "plain.yaml").write_text("alpha: 1")
    with pytest.raises(UsageError, match="needs a mapping `recipe`"):
        read_recipe(str(tmp_path / "plain.yaml"))
    with pytest.raises(UsageError, match=r"--attention_layers '\[1,' cannot be read as YAML"):
        read_recipe("tiny_agto_sft", ["--attention_layers", "[1,"])
    with pytest.raises(UsageError, match="'alpha' is no option"):
        read_recipe("tiny_agto_sft", ["alpha", "1"])


def test_the_command_line_stands_above_the_recipe() -> None:
    recipe = read_recipe(
        "tiny_agto_sft",
        ["--alpha", "0.5", "--attention-layers=[0, 1]", "--seed", "3", "--output_dir", "2024", "--logging_first_step"],
    )
    read = parse(recipe).training
    assert read.output_dir == "2024"
    assert (read.alpha, read.beta, read.attention_layers, read.seed) == (0.5, 0.005, [0, 1], 3)
    assert read.logging_first_step is True
    one = read_recipe("avar_sft_qwen2_5_vl_7b", ["--processes", "1", "--gradient_accumulation_steps", "512"])
    check_files(one)
    check_batch(one.card, 1, 512, None, 1)


def test_groups_are_whole() -> None:
    card = Card(method="grpo", description="", global_batch_size=12)
    with pytest.raises(UsageError, match="12 responses is no multiple of num_generations 8"):
        check_batch(card, 12, 1, 8, 1)


def test_memory_is_that_of_the_published_shapes() -> None:
    """Adapters of rank 16 on Qwen2.5-VL-3B's decoder: 29.9 M parameters; 16 bytes for each weight that is trained."""
    shape = Architecture(parameters=3.75e9, layers=36, hidden=2048, intermediate=11008, heads=16, kv_heads=2)
    assert shape.lora_parameters(16) == 36 * 16 * (4096 + 2304 + 2304 + 4096 + 3 * 13056)
    whole = estimate(shape, 0, lora_rank=None)
    assert whole.total - whole.workspace == pytest.approx(16 * 3.75e9)
    spread = estimate(shape, 0, lora_rank=None, shards=16)
    assert spread.total - spread.workspace == pytest.approx(3.75e9)
    for size in (24, 80):
        options = read_recipe(f"avar_sft_qwen2_5_vl_3b_lora_{size}gb").options
        tokens = options["per_device_train_batch_size"] * options["max_length"]
        assert estimate(shape, tokens, lora_rank=options["lora_r"]).total < 0.8 * size * 1e9


def test_memory_counts_the_patches_of_pictures() -> None:
    """4,194,304 pixels are 21,399 patches of 14 x 14, each 1,280 numbers in 32 layers of Qwen2.5-VL's vision tower."""
    shape = read_recipe("avar_grpo_qwen2_5_vl_7b").card.architecture
    assert shape is not None
    whole = estimate(shape, 0, lora_rank=None, pixels=4_194_304)
    assert whole.vision == pytest.approx(21_399 * 1280 * (2 * 32 + 18 + 4 * 3420 / 1280))
    assert estimate(shape, 0, lora_rank=None).vision == 0
    adapted = estimate(shape, 0, lora_rank=16, pixels=4_194_304)
    assert adapted.vision == pytest.approx(21_399 * 1280 * (18 + 4 * 3420 / 1280)), "a frozen tower keeps no inputs"


def test_adapters_are_those_that_the_memory_counts() -> None:
    """On every linear map of the decoder's layers, and on none of the vision tower."""
    tiny = Architecture(parameters=0, layers=2, hidden=16, intermediate=32, heads=4, kv_heads=2)
    config = Qwen2_5_VLConfig(
        text_config={
            "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 2, "vocab_size": 32,
        },
        vision_config={"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16},
    )  # fmt: skip
    for name in (name for name in shipped() if "lora" in name):
        adapted = get_peft_model(
            Qwen2_5_VLForConditionalGeneration(config), get_peft_config(parse(on_cpu(name), launched=False).model)
        )
        trained = [(name, of.numel()) for name, of in adapted.named_parameters() if of.requires_grad]
        assert not any("visual" in name for name, _ in trained)
        assert sum(count for _, count in trained) == tiny.lora_parameters(16)


def test_a_sharded_policy_is_gathered_for_generation() -> None:
    recipe = read_recipe("avar_grpo_llama_3_2_11b_vision")
    shape = recipe.card.architecture
    assert shape is not None
    need = estimate(shape, 1, lora_rank=None, shards=16, generated=1000)
    assert need.generation == shape.cache_bytes(1000) + 2 * shape.parameters
    assert estimate(shape, 1, lora_rank=None, generated=1000).generation == shape.cache_bytes(1000)


@pytest.mark.parametrize("size", [24, 80])
def test_grpo_with_adapters_fits_its_card_with_the_cache_of_generation(size: int) -> None:
    recipe = read_recipe(f"avar_grpo_qwen2_5_vl_3b_lora_{size}gb")
    shape, options = recipe.card.architecture, recipe.options
    assert shape is not None
    # Qwen2.5-VL-3B keeps 2 heads of 128 numbers for keys and for values in 36 layers, 2 bytes each
    assert shape.cache_bytes(1) == 36 * 2 * 2 * 128 * 2
    length = options["max_prompt_tokens"] + options["max_completion_length"]
    together = options.get("steps_per_generation", options["gradient_accumulation_steps"])
    sequences = options["per_device_train_batch_size"]
    pixels = sequences * options["image_max_pixels"]
    need = estimate(shape, sequences * length, lora_rank=16, generated=sequences * together * length, pixels=pixels)
    assert need.total < 0.8 * size * 1e9
    assert f"memory  {gigabytes(need.total)} a GPU" in plan(recipe)


def test_a_plan_names_what_is_published() -> None:
    for name, model in (
        ("avar_sft_qwen2_5_vl_7b", "Qwen/Qwen2.5-VL-7B-Instruct"),
        ("avar_sft_qwen2_5_vl_7b_vard", "Qwen/Qwen2.5-VL-7B-Instruct"),
        ("avar_sft_llama_3_2_11b_vision_vard", "meta-llama/Llama-3.2-11B-Vision-Instruct"),
        ("sft_qwen2_5_vl_7b_r1_onevision", "Fancy-MLLM/R1-Onevision"),
        ("sft_qwen2_5_vl_7b_vision_sr1", "vision_sr1_cold"),
        ("avar_grpo_llama_3_2_11b_vision", ""),
    ):
        recipe = read_recipe(name)
        expected = recipe.card.expected
        assert expected is not None
        assert expected.average == pytest.approx(sum(expected.scores.values()) / 7, abs=0.06)
        assert list(expected.scores) == [term.task for term in groups()["avar7"].mean]
        shown = plan(recipe)
        assert model in shown
        assert f"mathvista {expected.scores['mathvista']}" in shown
        assert "arXiv 2603.03825" in shown
    assert "VAS 13.8, average 52.6" in plan(read_recipe("avar_sft_qwen2_5_vl_7b"))
    shown = plan(read_recipe("avar_grpo_qwen2_5_vl_7b", ["--train_data", "geo3k,r1_sharevl"]))
    assert "geo3k (hiyouga/geometry3k@37e4933, split train), r1_sharevl (HuanjinYao/R1-ShareVL-52K@newest" in shown
    assert "vLLM takes 50% of it" in shown
    assert "16 GPU x 1 x 128 accumulated = 2048 responses a step: 256 prompts x 8 rollouts" in shown
    assert "1 CPU x 8 x 1 accumulated = 8 sequences a step" in plan(read_recipe("tiny_agto_sft"))


def test_commands_list_and_check_recipes() -> None:
    runner = CliRunner()
    listed = runner.invoke(app, ["recipes"]).output
    assert all(name in listed for name in shipped())
    checked = runner.invoke(app, ["check", "avar_sft_qwen2_5_vl_3b_lora_24gb"])  # also where there is no GPU
    assert "1 GPU x 1 x 64 accumulated = 64" in checked.output
    assert "GB a GPU, estimated: weights 7.5 + " in checked.output
    assert "nothing is published for this model and recipe" in checked.output
    wrong = runner.invoke(app, ["grpo", "tiny_agto_sft"])
    assert isinstance(wrong.exception, UsageError)
    assert "avar-train sft tiny_agto_sft" in str(wrong.exception)


@pytest.mark.parametrize("name", [name for name in shipped() if name.startswith("tiny_")])
def test_every_recipe_for_a_cpu_trains_from_its_command(name: str, tmp_path: Path) -> None:
    method = read_recipe(name).card.method
    few = ["--max_steps", "1", "--train_rows", "16", "--save_steps", "1"]
    few += ["--max_completion_length", "16"] if method == "grpo" else []
    command = [method, name, "--output_dir", str(tmp_path / "out"), *few]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    assert result.exit_code == 0
    assert (tmp_path / "out" / "model.safetensors").is_file()
    assert json.loads((tmp_path / "out" / "checkpoint-1" / "trainer_state.json").read_text())["global_step"] == 1


def test_an_error_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["avar-train", "sft", "tiny_agto"])
    with pytest.raises(SystemExit) as stopped:
        run_app(app, "avar-train")
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith("avar-train: unknown recipe 'tiny_agto'")


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys, json\n"
        "from typer.testing import CliRunner\n"
        "from avar_eval.recipes.cli import app\n"
        "assert 'avar-train' in CliRunner().invoke(app, ['--help'], prog_name='avar-train').output\n"
        "print(json.dumps([name for name in ('torch', 'transformers', 'trl', 'datasets') if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_a_tiny_run_trains_and_goes_on_where_it_was_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The embedded world, three steps: data, model, trainer, checkpoint and result in one command, then two more."""
    common = [
        "--train_rows", "8", "--output_dir", str(tmp_path / "out"), "--global_batch_size", "2",
        "--per_device_train_batch_size", "2", "--save_steps", "1", "--lr_scheduler_type", "constant",
    ]  # fmt: skip
    for steps in (2, 3):
        monkey = ["avar-train", "sft", "tiny_agto_sft", *common, "--max_steps", str(steps)]
        result = CliRunner().invoke(app, monkey[1:], catch_exceptions=False)
        assert result.exit_code == 0
    state = json.loads((tmp_path / "out" / "checkpoint-3" / "trainer_state.json").read_text())
    assert state["global_step"] == 3
    assert (tmp_path / "out" / "model.safetensors").is_file()
    assert (tmp_path / "out" / "checkpoint-1").is_dir()
