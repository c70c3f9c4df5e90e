"""Two processes over gloo make the step of one: DDP with checkpointing, through TRL's own trainer."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp
import training as runs
from accelerate import PartialState
from safetensors.torch import load_file

from avar_eval.watch.complete import complete_checkpoints

# 3 images in the first process, 1 in the second: the mean over sequences is not the mean of the processes' means
ROWS = runs.rows((1, 2, 0, 1), (3, 9, 5, 1))


def train(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    port = 20000 + os.getppid() % 20000
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    options = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 2, "gradient_checkpointing": True}
    saving = {"save_strategy": "steps", "save_steps": 1, "ddp_backend": "gloo"}
    trainer = runs.trained(Path(folder) / "run", ROWS, **options, **saving)
    gradients = {name.removeprefix("module."): of for name, of in trainer.kept[0].items()}
    if rank == 0:
        torch.save((trainer.state.log_history[0], gradients), f"{folder}/result.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_are_one(tmp_path: Path) -> None:
    mp.start_processes(train, (str(tmp_path),), nprocs=2, start_method="spawn")
    log, gradients = torch.load(tmp_path / "result.pt")
    whole = runs.trained(tmp_path / "whole", ROWS)
    expected = whole.state.log_history[0]
    names = ("loss", "loss_lm", "loss_enhance_image", "loss_suppress_system", "attention/sink")
    for name in names:
        assert log[name] == pytest.approx(expected[name], rel=1e-5), name
    assert runs.close(gradients, whole.kept[0], 1e-4)
    (checkpoint,) = complete_checkpoints(tmp_path / "run").values()
    files = json.loads((checkpoint / "complete.json").read_text())["files"]
    assert {"model.safetensors", "optimizer.pt", "rng_state_0.pth", "rng_state_1.pth"} <= files.keys()


# Gradient descent at rate 1: what a step takes from the weights is the gradient
DESCENT = {"optim": "sgd", "learning_rate": 1.0, "save_strategy": "steps", "save_steps": 1}


# Where weights are shared, processes must pass the same modules: one without an image would skip the vision tower
ALL_SEE = runs.rows((1, 2, 1, 1), (3, 9, 5, 1))


def train_sharded(rank: int, folder: str, stage: int, rows: list[dict[str, Any]]) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(20001 + os.getppid() % 20000)}
    os.environ["ACCELERATE_USE_DEEPSPEED"] = "true"
    PartialState(backend="gloo")  # without a GPU accelerate would choose none, and count one process
    zero = {"stage": stage, "stage3_gather_16bit_weights_on_model_save": True}
    trainer = runs.trained(
        Path(folder) / "run",
        rows,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=2,
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
    mp.start_processes(train_sharded, (str(tmp_path), stage, rows), nprocs=2, start_method="spawn")
    log = torch.load(tmp_path / "log.pt")
    whole = runs.trained(tmp_path / "whole", rows, **DESCENT)
    expected = whole.state.log_history[0]
    for name in ("loss", "loss_lm", "loss_enhance_image", "loss_suppress_system", "attention/sink"):
        assert log[name] == pytest.approx(expected[name], rel=1e-5), name
    shared, one = (load_file(tmp_path / of / "checkpoint-1" / "model.safetensors") for of in ("run", "whole"))
    runs.model().save_pretrained(tmp_path / "start")
    start = load_file(tmp_path / "start" / "model.safetensors")
    steps = [{name: start[name] - of[name] for name in start} for of in (shared, one)]
    assert runs.close(steps[0], steps[1], 1e-4)
    assert list(complete_checkpoints(tmp_path / "run")) == [1]


def test_zero_3_with_an_image_in_one_process_alone_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("deepspeed", reason='pip install "avar-eval[deepspeed]" to train with ZeRO')
    with pytest.raises(mp.ProcessRaisedException, match="leave rows without an image out"):
        mp.start_processes(train_sharded, (str(tmp_path), 3, ROWS), nprocs=2, start_method="spawn")
