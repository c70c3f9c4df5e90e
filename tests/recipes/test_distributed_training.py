"""Two processes over gloo make the step of one: DDP with checkpointing, through TRL's own trainer."""

import json
import os
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
import training as runs

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
