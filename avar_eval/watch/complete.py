"""Which folders of a training's output are complete checkpoints. Light: knows no torch.

AVAR's trainers write `complete.json` into a checkpoint last, after weights, optimizer, scheduler and random states of
all processes are on the disk; it names every file with its size, so that a checkpoint that was half deleted is not
taken for a whole one. In a folder where AVAR's trainers write (`training_run.json` says so) nothing else counts.

Another trainer's checkpoint has no such file. It counts as complete if `trainer_state.json`, which transformers writes
after everything else of the main process, can be read and has the folder's step, and if all safetensors files of its
model or adapter are there, each as long as its own header says.
"""

import json
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ValidationError

from avar_eval.atomic import write_atomically
from avar_eval.models.training_run import TRAINING_RUN_NAME, TrainingRun, read_training_run
from avar_eval.user_files import open_file, parse_json, read_bytes

COMPLETE_NAME: Final = "complete.json"
SCORES_NAME: Final = "scores"
BEST_NAME: Final = "best"
_FOLDER: Final = re.compile(r"checkpoint-(\d+)")
_LONGEST_HEADER: Final = 100_000_000  # bytes; safetensors itself reads no longer one


class _Complete(BaseModel):
    """step: of the optimizer. files: path within the folder -> bytes."""

    step: int
    files: dict[str, int]


def mark_complete(folder: Path, step: int) -> None:
    """Say that a checkpoint is complete, after all of it has reached the disk."""
    files = {}
    for path in _files(folder):
        with open_file(path) as file:
            os.fsync(file.fileno())
        files[path.relative_to(folder).as_posix()] = path.stat().st_size
    write_atomically(folder / COMPLETE_NAME, [_Complete(step=step, files=files).model_dump_json() + "\n"])


def unmark(folder: Path) -> None:
    """A checkpoint is about to be overwritten or deleted."""
    (folder / COMPLETE_NAME).unlink(missing_ok=True)


def complete_checkpoints(output_dir: Path) -> dict[int, Path]:
    """The complete checkpoints of a run by their step, in order."""
    marked_only = (output_dir / TRAINING_RUN_NAME).exists()
    return {
        step: folder
        for step, folder in _checkpoints(output_dir).items()
        if _is_complete(folder, step, marked_only=marked_only)
    }


def expired(output_dir: Path, limit: int) -> list[Path]:
    """Complete checkpoints beyond the newest `limit`, but for the best one and those that wait for their score.

    They wait if scores are made at all (in the output folder's `scores`) and theirs is not there yet.
    """
    scores = output_dir / SCORES_NAME
    best = (output_dir / BEST_NAME).resolve()
    older = list(complete_checkpoints(output_dir).items())[:-limit]
    return [
        folder
        for step, folder in older
        if folder.resolve() != best and (not scores.is_dir() or (scores / f"step-{step}" / "results.json").is_file())
    ]


def begin_run(output_dir: Path, base: str) -> TrainingRun:
    """Note in its output folder that a run of ours begins there, or goes on.

    Where the checkpoints of an earlier one are gone and their scores are not, it is another run.
    """
    adopt(output_dir)
    before = read_training_run(output_dir)
    scored = any(path.parent.name != "step-0" for path in (output_dir / SCORES_NAME).glob("step-*/results.json"))
    goes_on = before is not None and (not scored or bool(complete_checkpoints(output_dir)))
    started = before.started if before and goes_on else datetime.now(UTC).isoformat(timespec="seconds")
    run = TrainingRun(run=output_dir.resolve().name, base=base, started=started, finished=False)
    run.write(output_dir)
    return run


def adopt(output_dir: Path) -> None:
    """Mark the complete checkpoints of another trainer, before ours goes on in its folder."""
    if not (output_dir / TRAINING_RUN_NAME).exists():
        for step, folder in complete_checkpoints(output_dir).items():
            mark_complete(folder, step)


def has_weights(folder: Path) -> bool:
    """Whether a checkpoint holds a model or an adapter that can be loaded, whole, as safetensors.

    False for one that only a training can go on from, such as FSDP's sharded state or ZeRO-3's without a gathered copy.
    """
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            names = set(parse_json(read_bytes(index))["weight_map"].values())
        except (ValueError, KeyError, AttributeError):
            return False
        return all(_is_complete_safetensors(folder / name) for name in names)
    single = "adapter_model.safetensors" if (folder / "adapter_config.json").is_file() else "model.safetensors"
    return _is_complete_safetensors(folder / single)


def _checkpoints(output_dir: Path) -> dict[int, Path]:
    if not output_dir.is_dir():
        return {}
    found = {int(name[1]): path for path in output_dir.iterdir() if (name := _FOLDER.fullmatch(path.name))}
    return dict(sorted(found.items()))


def _is_complete(folder: Path, step: int, *, marked_only: bool) -> bool:
    try:
        marker = _Complete.model_validate_json(read_bytes(folder / COMPLETE_NAME))
    except FileNotFoundError:
        return not marked_only and _state_has_step(folder, step) and has_weights(folder)
    except ValidationError:
        return False
    return marker.step == step and all(_has_size(folder / name, size) for name, size in marker.files.items())


def _state_has_step(folder: Path, step: int) -> bool:
    try:
        state = parse_json(read_bytes(folder / "trainer_state.json"))
    except (FileNotFoundError, ValueError):
        return False
    return isinstance(state, dict) and state.get("global_step") == step


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != COMPLETE_NAME)


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except FileNotFoundError:
        return False


def _is_complete_safetensors(path: Path) -> bool:
    """Whether a safetensors file is as long as its header says: 8 bytes of length, the header, the tensors."""
    try:
        with open_file(path) as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(length, _LONGEST_HEADER)))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        return path.stat().st_size == 8 + length + max(ends, default=0)
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return False
