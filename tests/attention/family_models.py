"""A small random model and processor of the true class of every family, built offline.

Tokenizers are byte-level BPEs of a few hundred tokens with the family's special tokens. Chat templates are the
published ones where an installed package ships them (TRL, Apache-2.0), else `chat_templates/*.jinja`, which say what
they follow. Weights are lively: with the usual small ones attention is uniform, and that hides mistakes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
import transformers as tf
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from avar_eval.models import avar_smol
from avar_eval.models.checkpoint import Checkpoint, resolve_checkpoint
from avar_eval.models.transformers_backend import TransformersBackend

_OWN = Path(__file__).parent / "chat_templates"
_CHATML = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
_QWEN = [*_CHATML, "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
_HEADERS = ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|finetune_right_pad_id|>", "<|python_tag|>"]
_SPLIT = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_TEXT = [
    "system user assistant model You are a helpful assistant. What is this?",
    "one\ntwo \nthree\n\nfour\n\n\nfive",
] * 9


@dataclass(frozen=True)
class Family:
    """processor() and config(tokenizer) make a family's objects; system: whether its template has a system turn."""

    model_type: str
    processor: Callable[[], Any]
    config: Callable[[Any], Any]
    system: bool = True


def _tokenizer(specials: list[str], begin: str | None = None, padding: str = "<|endoftext|>", **named: str) -> Any:
    bpe = Tokenizer(models.BPE())
    pieces = [pre_tokenizers.Split(Regex(_SPLIT), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    bpe.pre_tokenizer = pre_tokenizers.Sequence(pieces)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(_TEXT, trainers.BpeTrainer(vocab_size=360, initial_alphabet=alphabet, show_progress=False))
    bpe.add_special_tokens([AddedToken(token, special=True) for token in specials])
    if begin is not None:  # as the published Gemma, Llama and InternLM2 tokenizers do
        from tokenizers.processors import TemplateProcessing

        bpe.post_processor = TemplateProcessing(
            single=f"{begin} $A", pair=f"{begin} $A $B", special_tokens=[(begin, bpe.token_to_id(begin))]
        )
    return tf.PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token=begin, pad_token=padding, eos_token=specials[2], extra_special_tokens=named
    )


def published(name: str) -> str:
    """A chat template that an installed package ships."""
    return (files("trl") / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")


def own(name: str) -> str:
    """A chat template of `chat_templates`."""
    return (_OWN / f"{name}.jinja").read_text(encoding="utf-8")


def _qwen_processor(kind: Any, video: Any, patch: int, template: str) -> Any:
    images = tf.Qwen2VLImageProcessor(patch_size=patch, min_pixels=(4 * patch) ** 2, max_pixels=(8 * patch) ** 2)
    named = {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"}
    return kind(images, _tokenizer(_QWEN, **named), video(), chat_template=template)


def _llava_processor(template: str) -> Any:
    size = {"height": 28, "width": 28}
    images = tf.LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=[[28, 28], [28, 56], [56, 28], [56, 56]])
    return tf.LlavaOnevisionProcessor(
        images,
        _tokenizer([*_CHATML, "<image>", "<video>"]),
        tf.LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=4,
        vision_feature_select_strategy="full",
        chat_template=template,
    )


def _internvl_processor(begin: str | None = None) -> Any:
    named = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    # The published tokenizers are made from Qwen2.5-VL's and keep its vision tokens.
    specials = [*_QWEN, *named.values()] if begin is None else [*_CHATML, begin, *named.values()]
    size = {"height": 28, "width": 28}
    images = tf.GotOcr2ImageProcessor(size=size, crop_to_patches=True, max_patches=3)
    video = tf.InternVLVideoProcessor(size=size)
    tokenizer = _tokenizer(specials, begin, **named)
    return tf.InternVLProcessor(images, tokenizer, video, image_seq_length=4, chat_template=own("internvl"))


def _smol_processor() -> Any:
    named = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    tokenizer = _tokenizer([*_CHATML, *named.values()], **named)
    tokenizer.bos_token = "<|im_start|>"  # as SmolLM2's: what begins a sequence opens every turn
    tokenizer.chat_template = avar_smol.CHAT_TEMPLATE
    processor = avar_smol.build_processor(tokenizer)
    processor.image_seq_length, processor.image_processor.size = 4, {"height": 28, "width": 28}
    return processor


def _smol(tokenizer: Any) -> Any:
    config = avar_smol.build_config(tf.LlamaConfig(**_text(tokenizer)), tokenizer)
    config.vision_config = _internvl(tokenizer).vision_config
    config.image_seq_length = 4
    return config


def _gemma_processor() -> Any:
    named = {"image_token": "<image_soft_token>", "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>"}
    specials = ["<pad>", "<start_of_turn>", "<end_of_turn>", "<bos>", *named.values()]
    tokenizer = _tokenizer(specials, "<bos>", "<pad>", **named)
    images = tf.Gemma3ImageProcessor(size={"height": 56, "width": 56})
    return tf.Gemma3Processor(images, tokenizer, chat_template=published("gemma3"), image_seq_length=4)


def _llama_processor() -> Any:
    specials = [*_HEADERS, "<|begin_of_text|>", "<|image|>"]
    tokenizer = _tokenizer(specials, "<|begin_of_text|>", "<|finetune_right_pad_id|>", image_token="<|image|>")
    images = tf.MllamaImageProcessor(size={"height": 28, "width": 28}, max_image_tiles=4)
    return tf.MllamaProcessor(images, tokenizer, chat_template=own("llama_vision"))


def _idefics_processor(kind: Any, begin: str, template: str, *video: Any) -> Any:
    tiles = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    markers = ["<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>", *tiles]
    # SmolVLM's tokenizers are SmolLM2's and keep its turn markers, of which one begins a sequence
    specials = [*_CHATML[:1], "<pad>", "<end_of_utterance>", *{begin, "<|im_start|>", "<|im_end|>"}, *markers]
    specials = list(dict.fromkeys(specials))
    tokenizer = _tokenizer(specials, begin, "<pad>")
    images = tf.Idefics3ImageProcessor if kind is tf.Idefics3Processor else tf.SmolVLMImageProcessor
    processed = images(size={"longest_edge": 168}, max_image_size={"longest_edge": 84})
    return kind(processed, tokenizer, *video, image_seq_len=4, chat_template=template)


def _text(tokenizer: Any, **more: Any) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    } | more


def _vision_ids(tokenizer: Any) -> dict[str, Any]:
    names = ("vision_start", "vision_end", "image", "video")
    tokens = tokenizer.convert_tokens_to_ids(_QWEN[3:])
    return dict(zip((f"{name}_token_id" for name in names), tokens, strict=True))


_MROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]}


def _qwen2_vl(tokenizer: Any) -> Any:
    vision = {"depth": 2, "embed_dim": 16, "hidden_size": 32, "num_heads": 2, "patch_size": 14}
    text = _text(tokenizer, rope_parameters=_MROPE)
    return tf.Qwen2VLConfig(text_config=text, vision_config=vision, **_vision_ids(tokenizer))


def _qwen2_5_vl(tokenizer: Any) -> Any:
    vision = {
        "depth": 2,
        "hidden_size": 16,
        "out_hidden_size": 32,
        "intermediate_size": 32,
        "num_heads": 2,
        "fullatt_block_indexes": [1],
    }
    text = _text(tokenizer, rope_parameters=_MROPE)
    return tf.Qwen2_5_VLConfig(text_config=text, vision_config=vision, **_vision_ids(tokenizer))


def _qwen3_vl(tokenizer: Any) -> Any:
    vision = {
        "depth": 2,
        "hidden_size": 16,
        "out_hidden_size": 32,
        "intermediate_size": 32,
        "num_heads": 2,
        "num_position_embeddings": 64,
        "deepstack_visual_indexes": [0, 1],
    }
    text = _text(tokenizer, head_dim=8, rope_parameters=_MROPE | {"mrope_interleaved": True})
    return tf.Qwen3VLConfig(text_config=text, vision_config=vision, **_vision_ids(tokenizer))


_SIGLIP = {
    "model_type": "siglip_vision_model",
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "patch_size": 14,
    "vision_use_head": False,
}


def _llava(tokenizer: Any) -> Any:
    image, video = tokenizer.convert_tokens_to_ids(["<image>", "<video>"])
    return tf.LlavaOnevisionConfig(
        text_config=_text(tokenizer, model_type="qwen2"),
        vision_config=_SIGLIP | {"image_size": 28},
        image_token_index=image,
        video_token_index=video,
        image_grid_pinpoints=[[28, 28], [28, 56], [56, 28], [56, 56]],
    )


def _internvl(tokenizer: Any) -> Any:
    vision = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "image_size": [28, 28],
        "patch_size": [7, 7],
    }
    return tf.InternVLConfig(
        text_config=_text(tokenizer, model_type="qwen2" if tokenizer.bos_token is None else "llama"),
        vision_config=vision,
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
        tie_word_embeddings=False,
    )


def _gemma(tokenizer: Any) -> Any:
    boi, eoi, image = tokenizer.convert_tokens_to_ids(["<start_of_image>", "<end_of_image>", "<image_soft_token>"])
    kinds = ["sliding_attention", "sliding_attention", "full_attention"]
    text = _text(tokenizer, head_dim=8, sliding_window=24, layer_types=kinds, query_pre_attn_scalar=8)
    return tf.Gemma3Config(
        text_config=text,
        vision_config=_SIGLIP | {"image_size": 56},
        mm_tokens_per_image=4,
        boi_token_index=boi,
        eoi_token_index=eoi,
        image_token_index=image,
    )


def _idefics(kind: Any, tokenizer: Any) -> Any:
    vision = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 84,
        "patch_size": 21,
    }
    image = tokenizer.convert_tokens_to_ids("<image>")
    text = _text(tokenizer, model_type="llama")
    pad = tokenizer.pad_token_id  # older versions of transformers generate with the whole model's
    return kind(text_config=text, vision_config=vision, image_token_id=image, scale_factor=2, pad_token_id=pad)


def _llama(tokenizer: Any) -> Any:
    vision = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_global_layers": 1,
        "attention_heads": 2,
        "intermediate_size": 32,
        "vision_output_dim": 32,
        "image_size": 28,
        "intermediate_layers_indices": [0],
    }
    rope = {"rope_type": "default", "rope_theta": 10000.0}
    # The image token is the last of the vocabulary: the model's embedding has 8 rows more than its vocab_size.
    text = _text(tokenizer, num_hidden_layers=5, cross_attention_layers=[1, 3], rope_parameters=rope)
    text["vocab_size"] = len(tokenizer) - 1
    image = tokenizer.convert_tokens_to_ids("<|image|>")
    return tf.MllamaConfig(text_config=text, vision_config=vision, image_token_index=image)


FAMILIES = {
    "qwen2_vl": Family(
        "qwen2_vl",
        lambda: _qwen_processor(tf.Qwen2VLProcessor, tf.Qwen2VLVideoProcessor, 14, published("qwen2_5_vl")),
        _qwen2_vl,
    ),
    "qwen2_5_vl": Family(
        "qwen2_5_vl",
        lambda: _qwen_processor(tf.Qwen2_5_VLProcessor, tf.Qwen2VLVideoProcessor, 14, published("qwen2_5_vl")),
        _qwen2_5_vl,
    ),
    "qwen3_vl": Family(
        "qwen3_vl",
        lambda: _qwen_processor(tf.Qwen3VLProcessor, tf.Qwen3VLVideoProcessor, 16, published("qwen3_vl")),
        _qwen3_vl,
    ),
    "llava_onevision": Family("llava_onevision", lambda: _llava_processor(own("llava_onevision")), _llava),
    "internvl": Family("internvl", _internvl_processor, _internvl),
    "internvl_llama": Family("internvl", lambda: _internvl_processor("<s>"), _internvl),
    "avar_smol": Family("internvl", _smol_processor, _smol),
    "gemma3": Family("gemma3", _gemma_processor, _gemma, system=False),
    "mllama": Family("mllama", _llama_processor, _llama, system=False),
    "idefics3": Family(
        "idefics3",
        lambda: _idefics_processor(tf.Idefics3Processor, "<|begin_of_text|>", published("idefics3")),
        lambda tokenizer: _idefics(tf.Idefics3Config, tokenizer),
    ),
    "smolvlm": Family(
        "smolvlm",
        lambda: _idefics_processor(tf.SmolVLMProcessor, "<|im_start|>", own("smolvlm"), tf.SmolVLMVideoProcessor()),
        lambda tokenizer: _idefics(tf.SmolVLMConfig, tokenizer),
    ),
}


def lively_model(config: Any, seed: int = 0) -> Any:
    """A model of `config`'s class with weights large enough that attention is uneven and every gate is open."""
    torch.manual_seed(seed)
    model = tf.AutoModelForImageTextToText.from_config(config, attn_implementation="sdpa").eval()
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim >= 2:
            parameter.data = noise * 1.2 / parameter[0].numel() ** 0.5
        elif "gate" in name:  # Llama-3.2-Vision's cross-attention starts closed
            parameter.data = 0.5 + noise.abs()
    return model


def family_backend(name: str, folder: Path) -> TransformersBackend:
    """A family's model and processor, saved into the folder and loaded as a checkpoint is."""
    processor = FAMILIES[name].processor()
    lively_model(FAMILIES[name].config(processor.tokenizer)).save_pretrained(folder)
    processor.save_pretrained(folder)
    assert resolve_checkpoint(str(folder)).path == folder
    backend = TransformersBackend(Checkpoint(name, folder, None), "cpu")
    backend.load()
    return backend
