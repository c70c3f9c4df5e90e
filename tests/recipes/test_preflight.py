"""`avar-train check`: each fault that would end a training later is planted, and found in one message at once."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import training as runs
from typer.testing import CliRunner

from avar_eval.errors import AvarError, UsageError
from avar_eval.recipes import contamination, cost, preflight
from avar_eval.recipes.cli import app
from avar_eval.recipes.contamination import BenchmarkRows, check_public_tests
from avar_eval.recipes.cost import check_disk, copied_rows, estimated_disk, estimated_hours
from avar_eval.recipes.data import load
from avar_eval.recipes.plan import plan
from avar_eval.recipes.preflight import check_attention, check_trackers
from avar_eval.recipes.recipe import read_recipe, shipped
from avar_eval.recipes.sources import TrainingDataError

SOLUTION = {"prompt": "<image>Why?", "completion": "So."}
ANSWER = {"prompt": "<image>How many?", "answer": "7", "answer_type": "integer"}


def write(folder: Path, rows: list[dict[str, Any]]) -> str:
    folder.mkdir(exist_ok=True)
    runs.picture(0).save(folder / "p.png")
    (folder / "rows.jsonl").write_text("".join(json.dumps({"images": ["p.png"]} | row) + "\n" for row in rows))
    return str(folder)


def check(*arguments: str) -> str:
    """What the command prints, or its one message."""
    result = CliRunner().invoke(app, ["check", *arguments])
    if result.exception is None:
        return result.output
    assert isinstance(result.exception, AvarError), result.exception
    assert "\n" not in str(result.exception)
    return str(result.exception)


@pytest.mark.parametrize("name", sorted(shipped()))
def test_every_shipped_recipe_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for downloaded in ("vision_r1_cold", "vision_sr1_cold"):  # no tables of the hub
        (tmp_path / "data" / downloaded).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert check(name).startswith(f"{name}: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("avar_sft_qwen2_5_vl_7b --train_data geo3k", "data for `avar-train grpo`, not for sft: its rows have answers"),
        ("avar_sft_qwen2_5_vl_7b --train_data shapes,r1_sharevl", "r1_sharevl is data for `avar-train grpo`, not for"),
        (
            "avar_grpo_qwen2_5_vl_7b --train_data Antimage01/AVAR-ColdStart-30K@main",
            "is data for `avar-train sft`, not for grpo: its rows have solutions to learn from",
        ),
        ("avar_grpo_qwen2_5_vl_7b --train_data hiyouga/geometry3k", "which are read under the name geo3k: give that"),
        ("avar_grpo_qwen2_5_vl_7b --train_data geo3k --train_split test", "split 'test', which models are compared on"),
        ("avar_sft_qwen2_5_vl_7b --train_data AI4Math/MathVista", "AI4Math/MathVista (the task mathvista) and has"),
        ("avar_sft_qwen2_5_vl_7b --train_data lmms-lab/AI2D@main", "is the benchmark lmms-lab/AI2D and has no"),
        ("tiny_agto_sft --attn_implementation flash_attention_2", "flash_attention_2 does not run on a CPU: use sdpa"),
        ("avar_sft_qwen2_5_vl_7b --attn_implementation flash_attention_3", "flash_attention_3 cannot be had here: "),
        ("tiny_agto_sft --report_to trackio", "needs the package trackio, which is not installed: pip install trackio"),
        ("tiny_agto_sft --report_to wandb", "report_to wandb needs a login"),
        ("tiny_agto_sft --report_to wandbb", "report_to wandbb is no tracker: give none, or azure_ml"),
    ],
)  # fmt: skip
def test_a_planted_fault_is_one_message(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: str, message: str
) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setattr(preflight, "_is_installed", lambda package: package == "wandb")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(preflight, "is_kernels_available", lambda: False)
    assert message in check(*arguments.split())


def test_rows_of_another_method_are_found_in_a_file(tmp_path: Path) -> None:
    solutions, answers = write(tmp_path / "a", [SOLUTION]), write(tmp_path / "b", [ANSWER])
    assert f"{solutions} is data for `avar-train sft`, not for grpo" in check(
        "tiny_vars_grpo", "--train_data", solutions
    )
    assert f"{answers} is data for `avar-train grpo`" in check("tiny_agto_sft", "--train_data", f"shapes,{answers}")
    assert check("tiny_vars_grpo", "--train_data", answers).startswith("tiny_vars_grpo: ")
    neither = write(tmp_path / "c", [{"prompt": "<image>Why?"}])
    assert f"row 0 of {neither}: there is no turn of the assistant" in check("tiny_agto_sft", "--train_data", neither)


def test_the_parts_of_a_mixture_are_checked_and_counted(tmp_path: Path) -> None:
    def mixture(*sources: str) -> str:
        lines = [f"  - {{source: {source}, count: {10 * (place + 1)}}}" for place, source in enumerate(sources)]
        (tmp_path / "mix.yaml").write_text("\n".join(["sources:", *lines]))
        return str(tmp_path / "mix.yaml")

    answers = write(tmp_path / "b", [ANSWER])
    assert "geo3k is data for `avar-train grpo`" in check("tiny_agto_sft", "--train_data", mixture("shapes", "geo3k"))
    assert f"{answers} is data for `avar-train grpo`" in check("tiny_agto_sft", "--train_data", mixture(answers))
    assert "MMStar" in check("tiny_agto_sft", "--train_data", mixture("Lin-Chen/MMStar"))
    passed = check("tiny_vars_grpo", "--train_data", mixture("shapes", answers, "geo3k"))
    assert "an epoch of 60 rows" in passed


def test_a_login_or_none_is_enough_for_trackers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "TRACKIO_SPACE_ID", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setattr(preflight, "_is_installed", lambda package: True)
    monkeypatch.setattr(preflight, "_has_hub_token", lambda: False)
    check_trackers([])
    check_trackers(["trackio", "tensorboard"])
    with pytest.raises(UsageError, match="needs a login"):
        check_trackers(["wandb"])
    (tmp_path / "netrc").write_text("machine api.wandb.ai\n  login user\n  password key\n")
    check_trackers(["wandb"])
    monkeypatch.setenv("WANDB_BASE_URL", "https://own.example:8080")
    with pytest.raises(UsageError, match="needs a login"):
        check_trackers(["wandb"])
    monkeypatch.setenv("WANDB_MODE", "offline")
    check_trackers(["wandb"])
    monkeypatch.setenv("TRACKIO_SPACE_ID", "me/space")
    with pytest.raises(UsageError, match="the Space me/space of the hub, which needs a login: run `hf auth login`"):
        check_trackers(["trackio"])
    monkeypatch.delenv("TRACKIO_SPACE_ID")
    check_trackers(["trackio"])
    with pytest.raises(UsageError, match="the Space me/other of the hub"):
        check_trackers(["trackio"], trackio_space="me/other")
    with pytest.raises(UsageError, match="push_to_hub needs a login at the first checkpoint"):
        check_trackers([], push_to_hub=True)
    monkeypatch.setattr(preflight, "_has_hub_token", lambda: True)
    check_trackers(["trackio"], trackio_space="me/other", push_to_hub=True)


def test_attention_that_is_installed_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (None, "eager", "sdpa", "flex_attention"):
        check_attention(name, torch.device("cpu"), torch.float32)
    monkeypatch.setattr(preflight, "resolve_kernel_name", lambda name: "kernels-community/flash-attn2")
    monkeypatch.setattr(preflight, "is_kernels_available", lambda: True)
    check_attention("flash_attention_2", None, torch.float32)  # of the GPUs of another machine
    with pytest.raises(UsageError, match="it is none of eager, sdpa"):
        check_attention("fast", torch.device("cpu"), torch.float32)


def benchmark(folder: Path) -> Path:
    """A data folder with one row of MathVista's form, and its picture."""
    (folder / "mathvista" / "images").mkdir(parents=True)
    runs.picture(3).save(folder / "mathvista" / "images" / "1.png")
    question = "Which of the four lines that are drawn into this picture is the longest of all, in centimetres?"
    row = {"pid": "1", "question": question, "image": "images/1.png", "answer": "7", "choices": None}
    row |= {"unit": None, "precision": None, "question_type": "free_form", "answer_type": "integer", "metadata": {}}
    (folder / "mathvista" / "rows.jsonl").write_text(
        json.dumps(row | {"query": f"Hint: Give an integer.\nQuestion: {question}"}) + "\n"
    )
    return folder


@pytest.mark.parametrize("method", ["sft", "grpo"])
def test_a_benchmark_s_rows_are_refused_where_its_data_lies_at_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: Any
) -> None:
    data_dir = benchmark(tmp_path / "benchmarks")
    question = json.loads((data_dir / "mathvista" / "rows.jsonl").read_text())["question"]
    row = SOLUTION if method == "sft" else ANSWER
    rows = [row, row | {"prompt": f"<image>{question.upper()}\nThink first."}, row | {"images": ["q.png"]}]
    source = write(tmp_path / "mine", rows)
    (tmp_path / "mine" / "q.png").write_bytes((data_dir / "mathvista" / "images" / "1.png").read_bytes())
    contamination.benchmarks_at_hand.cache_clear()
    monkeypatch.setenv("AVAR_DATA_DIR", str(data_dir))
    try:
        with pytest.raises(
            TrainingDataError,
            match=r"2 of 3 rows are a benchmark's.*: row 1 has the question of row 1 of mathvista; row 2 has the pic",
        ):
            load(source, method, system_prompt=None)
        assert len(load(write(tmp_path / "clean", [row]), method, system_prompt=None)) == 1
    finally:
        contamination.benchmarks_at_hand.cache_clear()
    monkeypatch.delenv("AVAR_DATA_DIR")
    assert len(load(source, method, system_prompt=None)) == 3


def test_short_questions_are_no_proof(tmp_path: Path) -> None:
    data_dir = benchmark(tmp_path)
    file = data_dir / "mathvista" / "rows.jsonl"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"question": "Find x."}) + "\n")
    prompt = [{"role": "user", "content": [{"type": "text", "text": "Find x."}]}]
    assert BenchmarkRows(data_dir).found({"images": [], "prompt": prompt}) is None


def test_a_fetched_benchmark_is_no_training_data(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"dataset": "Lin-Chen/MMStar"}))
    with pytest.raises(UsageError, match="is the benchmark Lin-Chen/MMStar"):
        check_public_tests(str(tmp_path), "train")
    check_public_tests("shapes,owner/set,geo3k", "train")


def test_disk_is_what_checkpoints_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = read_recipe("avar_sft_qwen2_5_vl_7b", ["--output_dir", str(tmp_path / "out" / "run")])
    needed = estimated_disk(recipe)
    assert needed is not None
    assert (needed.kept, needed.checkpoint) == (6, pytest.approx(16 * 8.29e9))
    assert needed.total == pytest.approx(6 * 16 * 8.29e9 + 4 * 8.29e9)
    monkeypatch.setattr(cost, "free_space", lambda folder: 500e9)
    with pytest.raises(UsageError, match=r"6 checkpoints of 133 GB and the trained model need 829 GB, and 500 GB"):
        check_disk(recipe)
    monkeypatch.setattr(cost, "free_space", lambda folder: 900e9)
    check_disk(recipe)
    few = read_recipe("avar_sft_qwen2_5_vl_7b", ["--num_train_epochs", "2"])
    assert estimated_disk(few).kept == 2  # type: ignore[union-attr] # as above
    adapters = estimated_disk(read_recipe("avar_sft_qwen2_5_vl_3b_lora_24gb"))
    assert adapters is not None
    assert adapters.checkpoint == pytest.approx(16 * 29.93e6, rel=1e-3)
    none = read_recipe("avar_sft_qwen2_5_vl_7b", ["--save_strategy", "no"])
    assert estimated_disk(none).kept == 0  # type: ignore[union-attr] # as above
    assert "disk" not in plan(read_recipe("tiny_agto_sft"))


def test_rows_are_copied_into_a_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = write(tmp_path / "lines", [ANSWER])
    (tmp_path / "table").mkdir()
    (tmp_path / "table" / "train.parquet").write_bytes(bytes(5000))
    data = f"shapes,{lines},geo3k={tmp_path / 'table'}"
    recipe = read_recipe("tiny_vars_grpo", ["--train_data", data, "--output_dir", str(tmp_path / "out")])
    size = (tmp_path / "lines" / "rows.jsonl").stat().st_size + 5000
    assert copied_rows(recipe) == size
    assert copied_rows(read_recipe("tiny_vars_grpo", ["--train_data", "geo3k"])) is None
    monkeypatch.setattr(cost, "free_space", lambda folder: size - 1)
    with pytest.raises(UsageError, match="set TMPDIR to a folder on another disk"):
        check_disk(recipe)
    monkeypatch.setattr(cost, "free_space", lambda folder: size)
    check_disk(recipe)
    assert "; and a copy of the rows in " in plan(read_recipe("avar_sft_qwen2_5_vl_7b"))


def test_hours_are_operations_over_what_gpus_do() -> None:
    """By hand: 1,200 steps of 512 rows of 5,000 tokens, on 16 GPUs of 312e12 operations a second at 35 %."""
    hours = estimated_hours(read_recipe("avar_sft_qwen2_5_vl_7b"))
    assert hours is not None
    operations = 1200 * 512 * 5000 * (8 * 8.29e9 + 8 * 5000 * 3584 * 28)
    assert hours.learning == pytest.approx(operations / (16 * 312e12 * 0.35) / 3600)
    assert hours.generating == 0
    short, long = (
        estimated_hours(read_recipe("avar_grpo_qwen2_5_vl_7b", ["--max_completion_length", str(limit)]))
        for limit in (500, 30_000)
    )
    assert short is not None
    assert long is not None
    assert 0 < short.generating < long.generating
    assert 0 < short.learning < long.learning
    assert "hours   about " in check("avar_grpo_qwen2_5_vl_7b")
    assert estimated_hours(read_recipe("tiny_agto_sft")) is None
