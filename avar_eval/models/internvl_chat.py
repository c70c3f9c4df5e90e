"""InternVL checkpoints of OpenGVLab's own code (`internvl_chat`) as transformers' InternVL: configuration and weights.

The correspondence is that of transformers' convert_internvl_weights_to_hf.py. OpenGVLab's code is not run.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from avar_eval.models.backend import BackendError
from avar_eval.user_files import parse_json, read_text

DECODERS: Final = {"InternLM2ForCausalLM": "llama", "Qwen2ForCausalLM": "qwen2"}
"""The decoders that the checkpoints have, and transformers' name of the same computation."""

_RENAMED: Final = (
    (r"^vision_model\.", "model.vision_tower."),
    (r"\.encoder\.layers\.", ".encoder.layer."),
    (r"\.class_embedding$", ".cls_token"),
    (r"\.position_embedding$", ".position_embeddings"),
    (r"\.patch_embedding\.", ".patch_embeddings.projection."),
    (r"\.ls(\d)$", r".lambda_\1"),
    (r"\.attn\.proj\.", ".attention.projection_layer."),
    (r"\.attn\.", ".attention."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"^mlp1\.0\.", "model.multi_modal_projector.layer_norm."),
    (r"^mlp1\.1\.", "model.multi_modal_projector.linear_1."),
    (r"^mlp1\.3\.", "model.multi_modal_projector.linear_2."),
    (r"^language_model\.(output|lm_head)\.", "lm_head."),
    (r"^language_model\.model\.", "model.language_model."),
    (r"\.tok_embeddings\.", ".embed_tokens."),
    (r"\.attention\.wo\.", ".self_attn.o_proj."),
    (r"\.feed_forward\.w1\.", ".mlp.gate_proj."),
    (r"\.feed_forward\.w2\.", ".mlp.down_proj."),
    (r"\.feed_forward\.w3\.", ".mlp.up_proj."),
    (r"\.attention_norm\.", ".input_layernorm."),
    (r"\.ffn_norm\.", ".post_attention_layernorm."),
)
_TEXT: Final = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "max_position_embeddings", "rms_norm_eps", "hidden_act", "bos_token_id", "eos_token_id",
    "pad_token_id", "tie_word_embeddings",
)  # fmt: skip
_VISION: Final = {
    **{name: name for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")},
    **{name: name for name in ("hidden_act", "norm_type", "layer_norm_eps", "image_size", "patch_size")},
    "qkv_bias": "attention_bias",
    "qk_normalization": "use_qk_norm",
}


def load(path: Path, image_token_id: int, how: Mapping[str, Any]) -> tuple[Any, Mapping[str, Any]]:
    """The model of a folder, and what transformers says of its tensors' names.

    image_token_id: of the token that holds an image's features. how: arguments of `from_pretrained`. Raises
    BackendError for a decoder other than `DECODERS`, and for tensors that have no place in transformers' class.
    """
    from safetensors.torch import load_file
    from transformers import GenerationConfig, InternVLForConditionalGeneration

    config = transformers_config(parse_json(read_text(path / "config.json")), image_token_id)
    old = {name: tensor for file in sorted(path.glob("*.safetensors")) for name, tensor in load_file(file).items()}
    tensors = dict(transformers_tensors(old, config.text_config))
    model, info = InternVLForConditionalGeneration.from_pretrained(None, config=config, state_dict=tensors, **how)
    if strange := sorted(info["unexpected_keys"]):
        raise BackendError(f"{len(strange)} tensors have no place in transformers' InternVL, such as {strange[0]}")
    if (path / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(path)
    return model, info


def decoder_class(config: Mapping[str, Any]) -> str:
    """The decoder's class of an `internvl_chat` config.json. Raises BackendError if it is none of `DECODERS`."""
    named = (config.get("llm_config") or {}).get("architectures") or ["not named"]
    if named[0] not in DECODERS:
        known = " or ".join(DECODERS)
        raise BackendError(f"its decoder is {named[0]}: of internvl_chat checkpoints, those with {known} can be run")
    return str(named[0])


def transformers_config(config: Mapping[str, Any], image_token_id: int) -> Any:
    """transformers' InternVLConfig of an `internvl_chat` config.json. Raises BackendError for another decoder."""
    from transformers import InternVLConfig

    text, vision = config["llm_config"], config["vision_config"]
    architecture = decoder_class(config)
    if config.get("select_layer", -1) != -1 or config.get("ps_version", "v2") != "v2":
        raise BackendError("it takes another layer of the vision tower, or shuffles pixels otherwise than transformers")
    scaling = dict(text.get("rope_scaling") or {})
    rope = {"rope_type": scaling.pop("type", scaling.pop("rope_type", "default")), **scaling}
    ratio = config.get("downsample_ratio", 0.5)
    return InternVLConfig(
        text_config={
            "model_type": DECODERS[architecture],
            "rope_parameters": rope | {"rope_theta": text.get("rope_theta", 10000.0)},
            **{name: text[name] for name in _TEXT if name in text},
            **({"attention_bias": text.get("bias", False)} if architecture == "InternLM2ForCausalLM" else {}),
        },
        vision_config={new: vision[old] for old, new in _VISION.items() if old in vision},
        image_token_id=image_token_id,
        image_seq_length=int((vision["image_size"] // vision["patch_size"]) ** 2 * ratio**2),
        downsample_ratio=ratio,
        tie_word_embeddings=bool(text.get("tie_word_embeddings", False)),
    )


def transformers_tensors(old: Mapping[str, Tensor], text_config: Any) -> Iterator[tuple[str, Tensor]]:
    """The tensors under transformers' names; those that hold queries, keys and values in one are taken apart."""
    heads, shared = text_config.num_attention_heads, text_config.num_key_value_heads
    for name, tensor in old.items():
        new = name
        for pattern, replacement in _RENAMED:
            new = re.sub(pattern, replacement, new)
        if ".attn.qkv." in name:
            for letter, part in zip("qkv", tensor.chunk(3), strict=True):
                yield new.replace(".qkv.", f".{letter}_proj."), part.contiguous()
        elif ".attention.wqkv." in name:
            # groups of queries, each followed by the key and the value that they share
            grouped = tensor.reshape(shared, heads // shared + 2, -1, *tensor.shape[1:])
            parts = (grouped[:, :-2], grouped[:, -2:-1], grouped[:, -1:])
            for letter, part in zip("qkv", parts, strict=True):
                yield new.replace(".attention.wqkv.", f".self_attn.{letter}_proj."), part.flatten(0, 2).contiguous()
        else:
            yield new, tensor
