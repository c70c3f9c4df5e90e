"""LoRA adapters as checkpoints: loaded with their base, measured like any model, known by the weights of both."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from avar_eval.errors import UsageError
from avar_eval.models.backend import BackendError
from avar_eval.models.backend_options import VllmOptions
from avar_eval.models.checkpoint import CheckpointError, find_source, resolve_checkpoint, weights_sha256
from avar_eval.models.open_backend import open_backend
from avar_eval.models.transformers_backend import TransformersBackend

BASE = resolve_checkpoint("avar-tiny")
RESPONSE = [65, 66, 67, 2]


@pytest.fixture(scope="module")
def trained() -> Any:
    """The embedded model with an adapter that changes where it looks."""
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_pretrained(BASE.path, dtype=torch.float32)
    adapter = LoraConfig(r=4, target_modules=["q_proj", "k_proj", "up_proj"], init_lora_weights=False)
    return get_peft_model(model, adapter).eval()


@pytest.fixture
def folder(trained: Any, tmp_path: Path) -> Path:
    trained.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def summary_of(backend: TransformersBackend) -> Any:
    question = [{"type": "image"}, {"type": "text", "text": "How many red circles are there?"}]
    prompt = backend.render([{"role": "user", "content": question}])
    inputs = backend.encode([prompt], [[Image.new("RGB", (112, 112), "red")]])
    (record,) = backend.measure(inputs, [RESPONSE])
    return record.summary()


def test_an_adapter_is_measured_as_the_model_that_it_makes_of_its_base(
    folder: Path, trained: Any, tmp_path: Path
) -> None:
    merged = tmp_path / "merged"
    shutil.copytree(BASE.path, merged)
    trained.save_pretrained(tmp_path / "again")  # merging changes a model, and the fixture is shared
    again = AutoModelForImageTextToText.from_pretrained(BASE.path, dtype=torch.float32)
    from peft import PeftModel

    PeftModel.from_pretrained(again, tmp_path / "again").merge_and_unload().save_pretrained(merged)
    ours, whole, base = (
        TransformersBackend(resolve_checkpoint(str(path)), "cpu", "float32") for path in (folder, merged, BASE.path)
    )
    measured, expected, before = map(summary_of, (ours, whole, base))
    assert measured.user.vas == pytest.approx(expected.user.vas, rel=1e-3)
    assert measured.user.vas != pytest.approx(before.user.vas, rel=0.05)
    for name, share in expected.response.share_by_layer.items():
        assert measured.response.share_by_layer[name] == pytest.approx(share, rel=1e-3, abs=1e-6), name


def test_both_weights_make_its_identity(folder: Path, tmp_path: Path) -> None:
    adapter = resolve_checkpoint(str(folder))
    assert adapter.base is not None
    assert adapter.model_path == BASE.path
    first = weights_sha256(adapter)
    assert first != weights_sha256(BASE)
    other_base = Path(shutil.copytree(BASE.path, tmp_path / "base"))
    config = json.loads((other_base / "generation_config.json").read_text())
    (other_base / "generation_config.json").write_text(json.dumps(config | {"changed": 1}))
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": str(other_base)}))
    second = weights_sha256(resolve_checkpoint(str(folder)))
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes() + b"0")
    assert len({first, second, weights_sha256(resolve_checkpoint(str(folder)))}) == 3


def test_a_tower_that_was_not_trained_stays_as_it_is(folder: Path) -> None:
    """`up_proj` is in the vision tower, too: its tensors are there in whole, in part, or not at all."""
    whole = summary_of(TransformersBackend(resolve_checkpoint(str(folder)), "cpu", "float32"))
    path, settings = folder / "adapter_model.safetensors", folder / "adapter_config.json"
    weights = load_file(path)
    save_file({name: tensor for name, tensor in weights.items() if ".visual." not in name}, path)
    with pytest.raises(BackendError, match=r"4 of the \d+ tensors .*visual\.blocks\.0\.mlp\.up_proj\.lora_A"):
        TransformersBackend(resolve_checkpoint(str(folder)), "cpu").load()  # its configuration fills it with noise
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"init_lora_weights": True}))
    frozen = summary_of(TransformersBackend(resolve_checkpoint(str(folder)), "cpu", "float32"))
    assert frozen.user.vas != pytest.approx(whole.user.vas, rel=1e-4)
    some = {name: tensor for name, tensor in weights.items() if ".visual.blocks.1." not in name}
    assert len(some) == len(weights) - 2
    save_file(some, path)
    with pytest.raises(BackendError, match=r"2 of the \d+ tensors .*visual\.blocks\.1"):
        TransformersBackend(resolve_checkpoint(str(folder)), "cpu").load()


@pytest.mark.parametrize(
    ("renamed", "message"),
    [
        (lambda name: name.replace(".model.language_model.", ".language_model.model."), "have no place in it"),
        (lambda name: name.replace(".weight", ".default.weight"), "tensors that it asks for are missing"),
        (lambda name: None if ".layers.0." in name else name, r"are missing \(base_model.*layers\.0\."),
        (lambda name: None if "k_proj.lora_B" in name else name, r"are missing \(base_model.*k_proj\.lora_B"),
        (lambda name: name.replace("layers.1.", "layers.91."), r"layers\.91\."),
    ],
)
def test_tensors_that_do_not_fit_are_named(renamed: Any, message: str, folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    save_file({renamed(name): tensor for name, tensor in load_file(path).items() if renamed(name)}, path)
    with pytest.raises(BackendError, match=rf"adapter .* does not fit .*{message}"):
        TransformersBackend(resolve_checkpoint(str(folder)), "cpu").load()


def test_an_adapter_that_is_no_part_of_the_layers_is_refused(folder: Path) -> None:
    prefix = {"peft_type": "PREFIX_TUNING", "base_model_name_or_path": "avar-tiny", "num_virtual_tokens": 4}
    (folder / "adapter_config.json").write_text(json.dumps(prefix))
    with pytest.raises(BackendError, match="of kind PREFIX_TUNING"):
        TransformersBackend(resolve_checkpoint(str(folder)), "cpu").load()


def test_what_cannot_be_loaded_says_why(folder: Path, tmp_path: Path) -> None:
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    for base, message in (
        (str(tmp_path / "gone"), "its base is not to be had: there is no model folder"),
        (None, "names no base model"),
        (str(folder), "its base is not to be had: .* it has no config.json"),
    ):
        path.write_text(json.dumps(config | {"base_model_name_or_path": base}))
        with pytest.raises(CheckpointError, match=message):
            resolve_checkpoint(str(folder))
    path.write_text(json.dumps(config))
    with pytest.raises(UsageError, match="vllm runs no adapters"):
        open_backend(find_source(str(folder)), VllmOptions())
    (folder / "adapter_model.safetensors").write_bytes(b"torn")
    with pytest.raises(BackendError, match="cannot be loaded"):
        TransformersBackend(resolve_checkpoint(str(folder)), "cpu").load()
