"""A checkpoint's identity: whatever transformers would load of it, and nothing that it would not."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from runs import MODEL
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from avar_eval.models.checkpoint import CheckpointError, resolve_checkpoint, weights_sha256

Tensors = dict[str, torch.Tensor]
CHANGED, IN_MODEL = "model.norm.weight", "model.language_model.norm.weight"
"""The name of a tensor in the file, and in the model."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(resolve_checkpoint(MODEL).path, tmp_path / "model"))


@pytest.fixture
def tensors(folder: Path) -> Tensors:
    return load_file(folder / "model.safetensors")


def safe(folder: Path, tensors: Tensors) -> None:
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def safe_shards(folder: Path, tensors: Tensors) -> None:
    _shards(folder, tensors, "model", ".safetensors", lambda part, path: save_file(part, path, {"format": "pt"}))


def pickled(folder: Path, tensors: Tensors) -> None:
    torch.save(tensors, folder / "pytorch_model.bin")


def pickled_shards(folder: Path, tensors: Tensors) -> None:
    _shards(folder, tensors, "pytorch_model", ".bin", torch.save)


def named(folder: Path, tensors: Tensors) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"transformers_weights": "elsewhere.safetensors"}))
    save_file(tensors, folder / "elsewhere.safetensors", {"format": "pt"})


def _shards(folder: Path, tensors: Tensors, stem: str, ending: str, save: Callable[[Tensors, Path], None]) -> None:
    files = (f"{stem}-00001-of-00002{ending}", f"{stem}-00002-of-00002{ending}")
    place = {name: files[number % 2] for number, name in enumerate(tensors)}
    for file in files:
        save({name: tensor for name, tensor in tensors.items() if place[name] == file}, folder / file)
    index = {"metadata": {"total_size": 1}, "weight_map": place}
    (folder / f"{stem}{ending}.index.json").write_text(json.dumps(index))


WAYS = (safe, safe_shards, pickled, pickled_shards)
"""In the order in which transformers looks for them."""


def loaded(folder: Path) -> torch.Tensor:
    weight: torch.Tensor = AutoModelForImageTextToText.from_pretrained(folder).state_dict()[IN_MODEL].clone()
    return weight


def identity(folder: Path) -> str:
    return weights_sha256(resolve_checkpoint(str(folder)))


@pytest.mark.parametrize("write", [*WAYS, named])
def test_changed_weights_are_other_weights(
    write: Callable[[Path, Tensors], None], folder: Path, tensors: Tensors
) -> None:
    (folder / "model.safetensors").unlink()
    write(folder, tensors)
    before, model = identity(folder), loaded(folder)
    assert identity(folder) == before
    write(folder, tensors | {CHANGED: tensors[CHANGED] * 2})
    assert torch.equal(loaded(folder), model * 2)
    assert identity(folder) != before


@pytest.mark.parametrize(("first", "second"), [(a, b) for i, a in enumerate(WAYS) for b in WAYS[i + 1 :]])
def test_what_transformers_passes_over_counts_for_nothing(
    first: Callable[[Path, Tensors], None],
    second: Callable[[Path, Tensors], None],
    folder: Path,
    tensors: Tensors,
) -> None:
    (folder / "model.safetensors").unlink()
    first(folder, tensors)
    second(folder, tensors | {CHANGED: tensors[CHANGED] * 2})
    assert torch.equal(loaded(folder), tensors[CHANGED])
    before = identity(folder)
    for file in folder.glob("pytorch_model-*.bin" if second is pickled_shards else "pytorch_model.bin"):
        if second is not safe_shards:
            file.write_bytes(b"other")
    assert identity(folder) == before
    first(folder, tensors | {CHANGED: tensors[CHANGED] * 3})
    assert torch.equal(loaded(folder), tensors[CHANGED] * 3)
    assert identity(folder) != before


def test_what_training_leaves_beside_a_checkpoint_is_no_part_of_it(folder: Path) -> None:
    before = identity(folder)
    for name in ("training_args.bin", "optimizer.pt", "rng_state.pth", "trainer_state.json"):
        (folder / name).write_bytes(b"{}")
    assert identity(folder) == before
    (folder / "chat_template.jinja").write_bytes(b"x")
    assert identity(folder) != before


def test_weights_that_are_not_there_are_named(folder: Path, tensors: Tensors) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"holds no weights: it has no model\.safetensors and no"):
        identity(folder)
    pickled_shards(folder, tensors)
    (folder / "pytorch_model-00002-of-00002.bin").unlink()
    with pytest.raises(CheckpointError, match=r"pytorch_model-00002-of-00002\.bin cannot be read: No such file"):
        identity(folder)
    (folder / "pytorch_model.bin.index.json").write_text('{"weight_map": [1]}')
    with pytest.raises(CheckpointError, match="does not say which files hold the weights"):
        identity(folder)
