"""Adapters that were trained under transformers 4 fit the models of today, in every family whose names have changed."""

from pathlib import Path
from typing import Any

import pytest
import torch
from family_models import FAMILIES, lively_model
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from avar_eval.models.adapter import with_adapter
from avar_eval.models.backend import BackendError
from avar_eval.models.checkpoint import Checkpoint

# how transformers 4.51 named what has now these names
QWEN = {"model.language_model.": "model.", "model.visual.": "visual."}
LLAVA = {"model.language_model.": "language_model.model.", "model.vision_tower.": "vision_tower."}
MLLAMA = {"model.language_model.": "language_model.model.", "model.vision_model.": "vision_model."}
OLDER = {"qwen2_vl": QWEN, "qwen2_5_vl": QWEN, "llava_onevision": LLAVA, "gemma3": LLAVA, "mllama": MLLAMA}


def base_of(family: str) -> Any:
    chosen = next(one for one in FAMILIES.values() if one.model_type == family)
    return lively_model(chosen.config(chosen.processor().tokenizer))


def lora_tensors(model: Any) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in model.state_dict().items() if "lora_" in name}


@pytest.mark.parametrize("family", OLDER)
def test_older_names_find_their_place(family: str, tmp_path: Path) -> None:
    settings = LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
    trained = get_peft_model(base_of(family), settings)
    trained.save_pretrained(tmp_path)
    checkpoint = Checkpoint("adapter", tmp_path, None, Checkpoint("base", tmp_path, None))
    expected = lora_tensors(trained.get_base_model())
    assert expected
    weights = load_file(tmp_path / "adapter_model.safetensors")
    renamed = {older(family, name): tensor for name, tensor in weights.items()}
    assert set(renamed).isdisjoint(weights)
    for tensors in (weights, renamed):
        save_file(tensors, tmp_path / "adapter_model.safetensors")
        found = lora_tensors(with_adapter(base_of(family), checkpoint))
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    save_file(
        {name: tensor for name, tensor in renamed.items() if ".0." in name}, tmp_path / "adapter_model.safetensors"
    )
    with pytest.raises(BackendError, match="tensors that it asks for are missing"):
        with_adapter(base_of(family), checkpoint)


def older(family: str, name: str) -> str:
    for now, then in OLDER[family].items():
        if f"base_model.model.{now}" in name:
            return name.replace(f"base_model.model.{now}", f"base_model.model.{then}", 1)
    return name.replace("base_model.model.model.", "base_model.model.", 1)  # multi_modal_projector
