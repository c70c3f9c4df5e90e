"""InternVL checkpoints in the layout of OpenGVLab's own code: the same model as in transformers' layout."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from family_models import FAMILIES, lively_model
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import InternVLForConditionalGeneration

from avar_eval.models.backend import BackendError
from avar_eval.models.checkpoint import Checkpoint, CheckpointError, ModelSource, locate, weights_sha256
from avar_eval.models.decoding import Decoding
from avar_eval.models.internvl_chat import transformers_config
from avar_eval.models.transformers_backend import TransformersBackend

# transformers' name -> OpenGVLab's, of what is not taken apart: the mapping of convert_internvl_weights_to_hf.py read
# backwards, written down anew
VISION = {
    r"^model\.vision_tower": "vision_model",
    r"cls_token": "class_embedding",
    r"position_embeddings": "position_embedding",
    r"patch_embeddings\.projection": "patch_embedding",
    r"encoder\.layer\.": "encoder.layers.",
    r"lambda_": "ls",
    r"attention\.projection_layer": "attn.proj",
    r"layernorm_before": "norm1",
    r"layernorm_after": "norm2",
}
OTHERS = {
    r"^model\.multi_modal_projector\.layer_norm": "mlp1.0",
    r"^model\.multi_modal_projector\.linear_1": "mlp1.1",
    r"^model\.multi_modal_projector\.linear_2": "mlp1.3",
    r"^model\.language_model": "language_model.model",
    r"^lm_head": "language_model.lm_head",
}
INTERNLM2 = {
    r"lm_head": "output",
    r"embed_tokens": "tok_embeddings",
    r"self_attn\.o_proj": "attention.wo",
    r"mlp\.gate_proj": "feed_forward.w1",
    r"mlp\.down_proj": "feed_forward.w2",
    r"mlp\.up_proj": "feed_forward.w3",
    r"input_layernorm": "attention_norm",
    r"post_attention_layernorm": "ffn_norm",
}


def renamed(name: str, names: Mapping[str, str]) -> str:
    for pattern, old in names.items():
        name = re.sub(pattern, old, name)
    return name


def old_layout(new: Mapping[str, Tensor], heads: int, shared: int, internlm2: bool) -> dict[str, Tensor]:
    """A state dict of transformers' InternVL as OpenGVLab's code names and joins its tensors."""
    old: dict[str, Tensor] = {}
    for name, tensor in new.items():
        if ".vision_tower." in name:
            if re.search(r"attention\.[kv]_proj", name):
                continue
            if "attention.q_proj" in name:
                parts = [new[name.replace("q_proj", f"{letter}_proj")] for letter in "qkv"]
                old[renamed(name.replace("attention.q_proj", "attn.qkv"), VISION)] = torch.cat(parts)
                continue
            old[renamed(name, VISION)] = tensor
        elif (internlm2 and "language_model" in name) or name.startswith("lm_head"):
            if re.search(r"self_attn\.[kv]_proj", name):
                continue
            if "self_attn.q_proj" in name:
                q, k, v = (new[name.replace("q_proj", f"{letter}_proj")] for letter in "qkv")
                rows = []
                size = len(q) // heads
                for group in range(shared):
                    of = heads // shared
                    rows += [q[size * of * group : size * of * (group + 1)]]
                    rows += [one[size * group : size * (group + 1)] for one in (k, v)]
                wqkv = name.replace("self_attn.q_proj", "attention.wqkv")
                old[renamed(renamed(wqkv, OTHERS), INTERNLM2)] = torch.cat(rows)
                continue
            old[renamed(renamed(name, OTHERS), INTERNLM2 if internlm2 else {})] = tensor
        else:
            old[renamed(name, OTHERS)] = tensor
    return {name: tensor.contiguous() for name, tensor in old.items()}


def old_config(config: Any, internlm2: bool) -> dict[str, Any]:
    text, vision = config.text_config, config.vision_config
    names = "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads"
    kept = [*names.split(), "max_position_embeddings", "rms_norm_eps", "hidden_act", "bos_token_id", "eos_token_id"]
    seen = "hidden_size num_hidden_layers num_attention_heads intermediate_size hidden_act norm_type layer_norm_eps"
    return {
        "model_type": "internvl_chat",
        "architectures": ["InternVLChatModel"],
        "downsample_ratio": config.downsample_ratio,
        "select_layer": -1,
        "ps_version": "v2",
        "llm_config": {
            "architectures": ["InternLM2ForCausalLM" if internlm2 else "Qwen2ForCausalLM"],
            **{name: getattr(text, name) for name in kept},
            "rope_theta": text.rope_parameters["rope_theta"],
            "rope_scaling": None,
            "bias": False,
            "tie_word_embeddings": False,
        },
        "vision_config": {
            **{name: getattr(vision, name) for name in seen.split()},
            "image_size": vision.image_size[0],
            "patch_size": vision.patch_size[0],
            "qkv_bias": vision.attention_bias,
            "qk_normalization": vision.use_qk_norm,
        },
    }


def write_both(folder: Path, kind: str) -> tuple[Path, Path]:
    """A small model of a family in both layouts, each with the processor in transformers' form."""
    family = FAMILIES[kind]
    processor = family.processor()
    config = family.config(processor.tokenizer)
    model = lively_model(config)
    new, old = folder / "new", folder / "old"
    model.save_pretrained(new)
    processor.save_pretrained(new)
    processor.save_pretrained(old)
    text = config.text_config
    internlm2 = text.model_type == "llama"
    tensors = old_layout(model.state_dict(), text.num_attention_heads, text.num_key_value_heads, internlm2)
    save_file(tensors, old / "model.safetensors")
    (old / "config.json").write_text(json.dumps(old_config(config, internlm2)))
    (old / "generation_config.json").write_text(json.dumps({"eos_token_id": text.eos_token_id}))
    return new, old


@pytest.mark.parametrize("kind", ["internvl", "internvl_llama"])
def test_both_layouts_are_the_same_model(tmp_path: Path, kind: str) -> None:
    new, old = write_both(tmp_path, kind)
    checkpoint = locate(ModelSource("old", None, folder=old))
    backends = [TransformersBackend(one, "cpu", "float32") for one in (Checkpoint("new", new, None), checkpoint)]
    assert weights_sha256(checkpoint) != weights_sha256(Checkpoint("new", new, None))
    question = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is this?"}]}]
    picture = Image.effect_noise((60, 40), 80).convert("RGB")
    inputs = [one.encode([one.render(question)], [[picture]]) for one in backends]
    with torch.inference_mode():
        first, second = (one.model(**of).logits for one, of in zip(backends, inputs, strict=True))
    assert torch.equal(first, second)
    generations = [
        one.generate(of, Decoding(max_new_tokens=6), ["0"]) for one, of in zip(backends, inputs, strict=True)
    ]
    assert generations[0] == generations[1]
    (record,) = backends[1].measure(inputs[1], [generations[1][0].token_ids])
    assert record.mass["image"].shape[0] == 3, "layers whose attention is measured"


def test_what_cannot_be_mapped_is_named(tmp_path: Path) -> None:
    _, old = write_both(tmp_path, "internvl_llama")
    config = json.loads((old / "config.json").read_text())
    tensors = load_file(old / "model.safetensors")
    save_file({name: of for name, of in tensors.items() if "layers.1.ls2" not in name}, old / "model.safetensors")
    missing = r"1 tensors are missing, such as model\.vision_tower\.encoder\.layer\.1\.lambda_2"
    with pytest.raises(BackendError, match=missing):
        TransformersBackend(Checkpoint("old", old, None), "cpu", "float32").load()
    config["llm_config"]["architectures"] = ["Phi3ForCausalLM"]
    (old / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"its decoder is Phi3ForCausalLM: .* InternLM2ForCausalLM or Qwen2"):
        locate(ModelSource("old", None, folder=old))


def test_a_folder_without_a_processor_of_transformers_says_where_one_is(tmp_path: Path) -> None:
    _, old = write_both(tmp_path, "internvl_llama")
    (old / "processor_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"no processor of transformers \(processor_config\.json\): .* -hf"):
        locate(ModelSource("old", None, folder=old))


def test_the_published_shape_of_internvl2_5_8b() -> None:
    """Numbers of OpenGVLab/InternVL2_5-8B's config.json; 92546 is its tokenizer's <IMG_CONTEXT>."""
    text = {
        "architectures": ["InternLM2ForCausalLM"],
        "vocab_size": 92553,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 32768,
        "rope_theta": 1000000,
        "rope_scaling": {"factor": 2.0, "type": "dynamic"},
        "bias": False,
    }
    vision = {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
        "image_size": 448,
        "patch_size": 14,
        "qkv_bias": True,
        "qk_normalization": False,
        "norm_type": "layer_norm",
    }
    published = {"llm_config": text, "vision_config": vision, "downsample_ratio": 0.5, "select_layer": -1}
    config = transformers_config(published, 92546)
    assert (config.image_seq_length, config.image_token_id) == (256, 92546)
    assert (config.text_config.model_type, config.text_config.num_key_value_heads) == ("llama", 8)
    rope = config.text_config.rope_parameters
    assert (rope["rope_type"], rope["factor"], rope["rope_theta"]) == ("dynamic", 2.0, 1000000)
    assert config.vision_config.attention_bias
    with torch.device("meta"):
        model = InternVLForConditionalGeneration(config)
    shapes = {name: tuple(of.shape) for name, of in model.state_dict().items()}
    assert shapes["model.language_model.layers.0.self_attn.k_proj.weight"] == (8 * 128, 4096)
    assert shapes["model.vision_tower.embeddings.position_embeddings"] == (1, 1025, 1024)
    assert shapes["model.multi_modal_projector.linear_1.weight"] == (4096, 4096)
