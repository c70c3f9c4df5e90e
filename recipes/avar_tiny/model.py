"""The architecture of `avar-tiny`: transformers' own Qwen2.5-VL, small enough for a CPU."""

from typing import Final

import torch
from transformers import (
    GenerationConfig,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

from avar_eval.recipes.avar_tiny.tokenizer import (
    IMAGE_TOKEN,
    PADDING_TOKEN,
    TURN_END_TOKEN,
    VIDEO_TOKEN,
    VISION_END_TOKEN,
    VISION_START_TOKEN,
)
from avar_eval.tasks.shapes.scene import CELL_PIXELS, IMAGE_PIXELS

MERGE: Final = 2
PATCH_PIXELS: Final = CELL_PIXELS // MERGE
# 32 is the smallest head that vLLM's CPU attention knows.
HEAD_DIMENSION: Final = 32
TEXT_HEADS: Final = 6
TEXT_HIDDEN: Final = TEXT_HEADS * HEAD_DIMENSION
# Qwen2.5-VL's own base and shares (time, rows, columns). A smaller base turns keys so fast that what is looked for in
# an image by its content, some ten tokens further on, has few dimensions left to be found by.
ROPE_THETA: Final = 1e6
MROPE_SECTION: Final = [4, 6, 6]
# 1 / sqrt(hidden size). With Qwen's 0.02 so narrow a model stays blind for hundreds of steps longer.
INITIALIZER_RANGE: Final = 0.08
VISION_HEADS: Final = 4
VISION_HIDDEN: Final = VISION_HEADS * HEAD_DIMENSION
VISION_LAYERS: Final = 2
# A picture has at most 64 visual tokens: any benchmark's pictures are accepted, none is expensive.
MAX_PIXELS: Final = 4 * IMAGE_PIXELS**2
MIN_PIXELS: Final = CELL_PIXELS**2


def build_config(tokenizer: PreTrainedTokenizerFast) -> Qwen2_5_VLConfig:
    """The configuration, about 2.6 million parameters."""
    token_id = tokenizer.convert_tokens_to_ids
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": TEXT_HIDDEN,
        "intermediate_size": 384,
        "num_hidden_layers": 5,
        "num_attention_heads": TEXT_HEADS,
        "num_key_value_heads": 3,
        "initializer_range": INITIALIZER_RANGE,
        "max_position_embeddings": 32_768,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "default", "rope_theta": ROPE_THETA, "mrope_section": MROPE_SECTION},
        "bos_token_id": None,
        "eos_token_id": token_id(TURN_END_TOKEN),
        "pad_token_id": token_id(PADDING_TOKEN),
    }
    vision = {
        "depth": VISION_LAYERS,
        "hidden_size": VISION_HIDDEN,
        "intermediate_size": 2 * VISION_HIDDEN,
        "out_hidden_size": TEXT_HIDDEN,
        "num_heads": VISION_HEADS,
        "initializer_range": INITIALIZER_RANGE,
        "patch_size": PATCH_PIXELS,
        "spatial_merge_size": MERGE,
        "window_size": IMAGE_PIXELS,
        "fullatt_block_indexes": [VISION_LAYERS - 1],
    }
    return Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=token_id(IMAGE_TOKEN),
        video_token_id=token_id(VIDEO_TOKEN),
        vision_start_token_id=token_id(VISION_START_TOKEN),
        vision_end_token_id=token_id(VISION_END_TOKEN),
        tie_word_embeddings=True,
    )


def build_model(tokenizer: PreTrainedTokenizerFast) -> Qwen2_5_VLForConditionalGeneration:
    """A randomly initialised model in float32 (torch's global generator) with its generation defaults.

    What attention and MLP of a decoder layer add starts at zero: a token first is its word, in every layer.
    """
    model = Qwen2_5_VLForConditionalGeneration(build_config(tokenizer)).to(torch.float32)
    for layer in model.model.language_model.layers:
        torch.nn.init.zeros_(layer.self_attn.o_proj.weight)
        torch.nn.init.zeros_(layer.mlp.down_proj.weight)
    model.generation_config = GenerationConfig(
        do_sample=False,
        eos_token_id=tokenizer.convert_tokens_to_ids(TURN_END_TOKEN),
        pad_token_id=tokenizer.convert_tokens_to_ids(PADDING_TOKEN),
    )
    return model


def build_processor(tokenizer: PreTrainedTokenizerFast) -> Qwen2_5_VLProcessor:
    """Qwen2.5-VL's processor with our tokenizer; a scene passes through it unscaled, as 16 visual tokens."""
    pixels = {"shortest_edge": MIN_PIXELS, "longest_edge": MAX_PIXELS}
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(patch_size=PATCH_PIXELS, merge_size=MERGE, size=pixels),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(patch_size=PATCH_PIXELS, merge_size=MERGE, size=pixels),
        chat_template=tokenizer.chat_template,
    )
