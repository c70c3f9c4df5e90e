"""Two processes over gloo make the step of one: DDP, FSDP2 and DeepSpeed ZeRO, through TRL's own trainers."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
import torch.multiprocessing as mp
import training as runs
from accelerate import PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from local_server import held_port
from test_grpo import coin
from test_grpo import config as grpo_config
from test_grpo import processor as grpo_processor
from test_grpo import rows as grpo_rows
from transformers import AutoProcessor

from avar_eval.models.checkpoint import resolve_checkpoint
from avar_eval.recipes import data, run
from avar_eval.recipes.attention_terms import AttentionTrainingError
from avar_eval.recipes.grpo import AvarGRPOTrainer
from avar_eval.recipes.grpo import trainer as grpo_trainer
from avar_eval.recipes.recipe import read_recipe
from avar_eval.watch.complete import complete_checkpoints

# 3 images in the first process, 1 in the second: the mean over sequences is not the mean of the processes' means
ROWS = runs.rows((1, 2, 0, 1), (3, 9, 5, 1))
# Where weights are shared, processes must pass the same modules: one without an image would skip the vision tower
ALL_SEE = runs.rows((1, 2, 1, 1), (3, 9, 5, 1))
NAMES = ("loss", "loss_lm", "loss_enhance_image", "loss_suppress_system", "attention/sink")
HALVES = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 2}
SAVING = {"save_strategy": "steps", "save_steps": 1}
# Gradient descent at rate 1: what a step takes from the weights is the gradient
DESCENT = {"optim": "sgd", "learning_rate": 1.0} | SAVING
FSDP2 = {
    "accelerator_config": {"use_configured_state": True},
    "fsdp": True,
    "fsdp_config": {"version": 2, "auto_wrap_policy": "TRANSFORMER_BASED_WRAP", "cpu_ram_efficient_loading": True},
}


def start_two(work: Callable[..., None], *arguments: Any) -> None:
    """Two processes that do work(rank, port, *arguments), port being where they meet."""
    with held_port() as held:
        mp.start_processes(work, (held.getsockname()[1], *arguments), nprocs=2, start_method="spawn")


def in_process(rank: int, port: int) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


def seeing() -> Any:
    """The model with its vision tower trained as well, which a row without an image does not reach."""
    made = runs.model()
    made.requires_grad_(True)
    return made


def ddp(folder: Path) -> Any:
    trainer = runs.trained(folder, ROWS, seeing(), gradient_checkpointing=True, ddp_backend="gloo", **HALVES, **SAVING)
    gradients = {name.removeprefix("module."): of for name, of in trainer.kept[0].items()}
    return trainer.state.log_history[0], gradients


def shard() -> None:
    """Let accelerate take processes on the CPU for those that it shards, which it does for GPUs alone."""
    AcceleratorState._reset_state(reset_partial_state=True)
    PartialState(cpu=True).distributed_type = DistributedType.MULTI_GPU


def sharded(folder: Path, made: Any = ALL_SEE, **options: Any) -> Any:
    shard()
    trainer = runs.trained(folder, made, seeing(), **{"gradient_checkpointing": True} | HALVES | FSDP2 | options)
    assert trainer.accelerator.is_fsdp2
    parameter = next(trainer.model.parameters())
    assert parameter.to_local().numel() < parameter.numel()
    return trainer


def fsdp2(folder: Path) -> Any:
    return sharded(folder, **DESCENT).state.log_history[0]


def fsdp2_checkpoints(folder: Path) -> Any:
    """With FSDP's own activation checkpointing."""
    own = {"fsdp_config": FSDP2["fsdp_config"] | {"activation_checkpointing": True}}
    return sharded(folder, **DESCENT | own | {"gradient_checkpointing": False}).state.log_history[0]


def fsdp2_resumed(folder: Path) -> Any:
    """The largest difference between the weights of a resumed and of an uninterrupted run."""
    options = {"max_steps": 2, "gradient_checkpointing": False, **SAVING}
    straight = sharded(folder, **options)
    torch.distributed.barrier()
    if straight.is_world_process_zero():
        shutil.rmtree(folder / "checkpoint-2")
    torch.distributed.barrier()
    shard()
    resumed = runs.Keep(
        runs.model(seed=1).requires_grad_(True),
        runs.sft_config(folder, **HALVES | FSDP2 | options),
        train_dataset=runs.dataset(ALL_SEE),
        processing_class=runs.processor(),
    )
    resumed.train(resume_from_checkpoint=str(folder / "checkpoint-1"))
    pairs = zip(straight.model.parameters(), resumed.model.parameters(), strict=True)
    return max(float((one.full_tensor() - other.full_tensor()).abs().max()) for one, other in pairs)


def fsdp2_uneven(folder: Path) -> Any:
    with pytest.raises(AttentionTrainingError, match="leave rows without an image out"):
        sharded(folder, ROWS)


def fsdp2_uneven_evaluation(folder: Path) -> Any:
    trainer = sharded(folder, per_device_eval_batch_size=1)
    with pytest.raises(AttentionTrainingError, match="leave rows without an image out"):
        trainer.evaluate(runs.dataset(runs.rows((1, 0), (3, 9))))


def grpo_sharded(folder: Path, counts: tuple[int, ...]) -> AvarGRPOTrainer:
    shard()
    trainer = AvarGRPOTrainer(
        runs.model(),
        grpo_config(folder, per_device_train_batch_size=2, **FSDP2),
        train_dataset=grpo_rows(counts),
        processing_class=grpo_processor(),
    )
    with patch.object(grpo_trainer, "judge", coin):  # a random model is never right, and would learn nothing
        trainer.train()
    return trainer


def fsdp2_grpo(folder: Path) -> Any:
    trainer = grpo_sharded(folder, (1, 2))
    assert trainer.accelerator.is_fsdp2
    return trainer.state.log_history[0]


def fsdp2_grpo_uneven(folder: Path) -> Any:
    with pytest.raises(AttentionTrainingError, match="leave rows without an image out"):
        grpo_sharded(folder, (1, 0))


def tiny_processor() -> Any:
    return AutoProcessor.from_pretrained(resolve_checkpoint("avar-tiny").path)


def rows_of_a_recipe(folder: Path) -> Any:
    """How often rows were read and measured in the second process, and how many there are."""
    AcceleratorState._reset_state(reset_partial_state=True)
    recipe = read_recipe("tiny_vard_sft", ["--max_length=400", "--train_rows=6", "--processes=2"])
    training = runs.sft_config(folder, max_length=400)
    options, shared = run.DataArguments(train_data="shapes", train_rows=6), run._shared_folder(training)
    with (
        patch.object(data, "published_rows", wraps=data.published_rows) as read,
        patch.object(data, "token_count", wraps=data.token_count) as measured,
        training.main_process_first(),
    ):
        rows, _ = run._rows(recipe, options, training, tiny_processor(), shared)
    assert (read.call_count > 0) == (measured.call_count > 0) == (training.process_index == 0)
    assert [len(row["images"]) for row in rows] == [1] * len(rows)
    both: list[Any] = [None, None]
    torch.distributed.all_gather_object(both, [row["completion"] for row in rows])
    assert both[0] == both[1]
    return len(rows)


WAYS: tuple[Callable[[Path], Any], ...] = (
    rows_of_a_recipe,
    ddp,
    fsdp2,
    fsdp2_checkpoints,
    fsdp2_resumed,
    fsdp2_uneven,
    fsdp2_uneven_evaluation,
    fsdp2_grpo,
    fsdp2_grpo_uneven,
)


def train(rank: int, port: int, folder: str) -> None:
    in_process(rank, port)
    for way in WAYS:
        found = way(Path(folder) / way.__name__)
        if rank == 0:
            torch.save(found, f"{folder}/{way.__name__}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two processes have trained in all ways, one after the other."""
    made = tmp_path_factory.mktemp("distributed")
    start_two(train, str(made))
    return made


def same_terms(log: dict[str, float], expected: dict[str, float]) -> None:
    for name in NAMES:
        assert log[name] == pytest.approx(expected[name], rel=1e-5), name


def same_descent(sharded: Path, whole: Path) -> None:
    """One step took the same from the weights; the checkpoint is one that an evaluation can load."""
    start, after = runs.model().state_dict(), []
    for of in (sharded, whole):
        saved, info = type(runs.model()).from_pretrained(of / "checkpoint-1", output_loading_info=True)
        assert not info["missing_keys"]
        after.append(saved.state_dict())
    steps = [{name: start[name] - of[name] for name in start} for of in after]
    assert runs.close(steps[0], steps[1], 1e-4)
    assert list(complete_checkpoints(sharded)) == [1]


def test_the_rows_of_a_recipe_are_read_once_on_a_node(folder: Path) -> None:
    assert torch.load(folder / "rows_of_a_recipe.pt") > 0


def test_two_processes_are_one(folder: Path, tmp_path: Path) -> None:
    log, gradients = torch.load(folder / "ddp.pt")
    whole = runs.trained(tmp_path / "whole", ROWS, seeing())
    same_terms(log, whole.state.log_history[0])
    assert runs.close(gradients, whole.kept[0], 1e-4)
    (checkpoint,) = complete_checkpoints(folder / "ddp").values()
    files = json.loads((checkpoint / "complete.json").read_text())["files"]
    assert {"model.safetensors", "optimizer.pt", "rng_state_0.pth", "rng_state_1.pth"} <= files.keys()


def test_two_processes_that_shard_the_model_are_one(folder: Path, tmp_path: Path) -> None:
    """FSDP2 as accelerate sets it up, with gradient checkpointing by transformers and by FSDP itself."""
    whole = runs.trained(tmp_path / "whole", ALL_SEE, seeing(), **DESCENT)
    for way in ("fsdp2", "fsdp2_checkpoints"):
        same_terms(torch.load(folder / f"{way}.pt"), whole.state.log_history[0])
        same_descent(folder / way, tmp_path / "whole")


def test_a_sharded_run_resumes_as_if_it_had_not_been_interrupted(folder: Path) -> None:
    assert torch.load(folder / "fsdp2_resumed.pt") == 0.0


def test_a_sharded_policy_earns_its_visual_reward(folder: Path) -> None:
    log = torch.load(folder / "fsdp2_grpo.pt")
    assert log["rewards/visual/mean"] > 0
    assert log["grad_norm"] > 0


@pytest.mark.parametrize("way", [fsdp2_uneven, fsdp2_uneven_evaluation, fsdp2_grpo_uneven])
def test_images_in_some_processes_alone_are_refused_and_no_process_waits(folder: Path, way: Any) -> None:
    assert (folder / f"{way.__name__}.pt").exists()


def train_sharded(rank: int, port: int, folder: str, stage: int, rows: list[dict[str, Any]]) -> None:
    in_process(rank, port)
    os.environ["ACCELERATE_USE_DEEPSPEED"] = "true"
    PartialState(backend="gloo")  # without a GPU accelerate would choose none, and count one process
    zero = {"stage": stage, "stage3_gather_16bit_weights_on_model_save": True}
    trainer = runs.trained(
        Path(folder) / "run",
        rows,
        gradient_checkpointing=True,
        use_cpu=False,
        accelerator_config={"use_configured_state": True},
        deepspeed={
            "zero_optimization": zero,
            "train_micro_batch_size_per_gpu": "auto",
            "gradient_accumulation_steps": "auto",
            "gradient_clipping": "auto",
            "zero_allow_untested_optimizer": True,
        },
        **HALVES,
        **DESCENT,
    )
    assert trainer.deepspeed.zero_optimization_stage() == stage
    if rank == 0:
        torch.save(trainer.state.log_history[0], f"{folder}/log.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("stage", [2, 3])
def test_two_processes_that_share_the_state_are_one(tmp_path: Path, stage: int) -> None:
    """DeepSpeed ZeRO on the CPU, which compiles DeepSpeed's communication once (g++ and ninja)."""
    pytest.importorskip("deepspeed", reason='pip install "avar-eval[deepspeed]" to train with ZeRO')
    rows = ROWS if stage == 2 else ALL_SEE
    start_two(train_sharded, str(tmp_path), stage, rows)
    log = torch.load(tmp_path / "log.pt")
    whole = runs.trained(tmp_path / "whole", rows, **DESCENT)
    same_terms(log, whole.state.log_history[0])
    same_descent(tmp_path / "run", tmp_path / "whole")


def test_zero_3_with_an_image_in_one_process_alone_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("deepspeed", reason='pip install "avar-eval[deepspeed]" to train with ZeRO')
    with pytest.raises(mp.ProcessRaisedException, match="leave rows without an image out"):
        start_two(train_sharded, str(tmp_path), 3, ROWS)
