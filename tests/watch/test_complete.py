"""Which checkpoints count as complete, and which of them may be deleted."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from avar_eval.watch.complete import (
    TRAINING_RUN_NAME,
    TrainingRun,
    adopt,
    begin_run,
    complete_checkpoints,
    expired,
    has_weights,
    mark_complete,
    read_training_run,
    unmark,
)

WEIGHTS = {"a": torch.ones(3, 5), "b": torch.zeros(7)}


def checkpoint(output_dir: Path, step: int) -> Path:
    """What transformers writes."""
    folder = output_dir / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    save_file(WEIGHTS, folder / "model.safetensors")
    (folder / "optimizer.pt").write_bytes(b"momenta")
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    return folder


def ours(output_dir: Path, finished: bool = False) -> None:
    TrainingRun(run="a", base="avar-tiny", started="2026-01-01T00:00:00+00:00", finished=finished).write(output_dir)


def test_a_marked_checkpoint_is_complete_until_a_file_is_missing_or_cut(tmp_path: Path) -> None:
    ours(tmp_path)
    folders = [checkpoint(tmp_path, step) for step in (10, 9, 100)]
    assert complete_checkpoints(tmp_path) == {}, "our trainers mark what is complete"
    for folder, step in zip(folders, (10, 9, 100), strict=True):
        mark_complete(folder, step)
    assert list(complete_checkpoints(tmp_path)) == [9, 10, 100]
    (folders[0] / "optimizer.pt").unlink()  # as when it is being deleted
    (folders[1] / "optimizer.pt").write_bytes(b"mom")
    assert list(complete_checkpoints(tmp_path)) == [100]
    unmark(folders[2])
    assert complete_checkpoints(tmp_path) == {}
    assert complete_checkpoints(tmp_path / "nowhere") == {}


def cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def cut_header(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:20])


def cut_state(folder: Path) -> None:
    (folder / "trainer_state.json").write_text('{"global_step": 5, "log_hist')


def other_step(folder: Path) -> None:
    (folder / "trainer_state.json").write_text('{"global_step": 4}')


def no_state(folder: Path) -> None:
    (folder / "trainer_state.json").unlink()


@pytest.mark.parametrize("damage", [cut, cut_header, cut_state, other_step, no_state])
def test_another_trainer_s_checkpoint_needs_its_state_and_whole_weights(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    folder = checkpoint(tmp_path, 5)
    assert list(complete_checkpoints(tmp_path)) == [5]
    damage(folder)
    assert complete_checkpoints(tmp_path) == {}


def test_shards_and_adapters_are_weights_and_a_training_s_own_state_is_not(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, 5)
    (folder / "model.safetensors").unlink()
    for part in ("1", "2"):
        save_file(WEIGHTS, folder / f"model-0000{part}-of-00002.safetensors")
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert list(complete_checkpoints(tmp_path)) == [5]
    (folder / "model-00002-of-00002.safetensors").unlink()
    assert complete_checkpoints(tmp_path) == {}

    adapter = checkpoint(tmp_path, 6)
    (adapter / "model.safetensors").rename(adapter / "adapter_model.safetensors")
    assert not has_weights(adapter)
    (adapter / "adapter_config.json").write_text("{}")
    assert has_weights(adapter)

    sharded = checkpoint(tmp_path, 7)
    (sharded / "model.safetensors").rename(sharded / "pytorch_model_fsdp_0")
    mark_complete(sharded, 7)
    assert list(complete_checkpoints(tmp_path)) == [6, 7]
    assert not has_weights(sharded)


def test_going_on_in_another_trainer_s_folder_keeps_its_checkpoints(tmp_path: Path) -> None:
    checkpoint(tmp_path, 5)
    cut(checkpoint(tmp_path, 10))
    adopt(tmp_path)
    ours(tmp_path)
    assert list(complete_checkpoints(tmp_path)) == [5]
    checkpoint(tmp_path, 15)
    adopt(tmp_path)
    assert list(complete_checkpoints(tmp_path)) == [5], "an unmarked one of ours was not finished"


def test_the_best_and_those_that_wait_for_their_score_outlive_the_limit(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4):
        mark_complete(checkpoint(tmp_path, step), step)
    assert [folder.name for folder in expired(tmp_path, 2)] == ["checkpoint-1", "checkpoint-2"]
    for step in (1, 2):
        (tmp_path / "scores" / f"step-{step}").mkdir(parents=True)
    (tmp_path / "scores" / "step-1" / "results.json").write_text("{}")
    assert [folder.name for folder in expired(tmp_path, 1)] == ["checkpoint-1"]
    (tmp_path / "best").symlink_to("checkpoint-1")
    assert expired(tmp_path, 1) == []
    shutil.rmtree(tmp_path / "scores")
    assert [folder.name for folder in expired(tmp_path, 1)] == ["checkpoint-2", "checkpoint-3"]


def test_a_run_is_the_same_one_until_its_checkpoints_are_gone_and_its_scores_are_not(
    tmp_path: Path,
) -> None:
    ours(tmp_path, finished=True)
    first = begin_run(tmp_path, "avar-tiny")
    assert (first.started, first.finished) == ("2026-01-01T00:00:00+00:00", False)
    mark_complete(checkpoint(tmp_path, 5), 5)
    for step in (0, 5):
        (tmp_path / "scores" / f"step-{step}").mkdir(parents=True)
        (tmp_path / "scores" / f"step-{step}" / "results.json").write_text("{}")
    assert begin_run(tmp_path, "avar-tiny").started == first.started
    shutil.rmtree(tmp_path / "checkpoint-5")
    assert begin_run(tmp_path, "avar-tiny").started > first.started
    shutil.rmtree(tmp_path / "scores" / "step-5")
    ours(tmp_path)
    assert begin_run(tmp_path, "avar-tiny").started == first.started, "only the base was scored so far"


def test_what_a_training_says_is_read_back(tmp_path: Path) -> None:
    assert read_training_run(tmp_path) is None
    ours(tmp_path, finished=True)
    read = read_training_run(tmp_path)
    assert read is not None
    assert (read.base, read.finished) == ("avar-tiny", True)
    (tmp_path / TRAINING_RUN_NAME).write_text("{")
    assert read_training_run(tmp_path) is None
