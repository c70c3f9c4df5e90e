"""Small vLLM engines in this process, and what they say of prompts. The models are random and lively."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from attention.family_models import FAMILIES, lively_model
from PIL import Image

from avar_eval.models.request_steering import REQUEST_KEY
from avar_eval.models.vllm_backend import steered_arguments
from avar_eval.models.vllm_plugin import STEERED, VllmSteering

Scored = list[tuple[list[int], torch.Tensor]]
"""Of each prompt: its token ids as vLLM has expanded it, and the log-probability of each after the first."""


SIZES = {"hidden_size": 128, "intermediate_size": 160, "head_dim": 32}


def save_model(family: str, folder: Path, rope: Sequence[int] = (6, 4, 6), **sizes: int) -> Path:
    """A family's small model in float32, with heads of a size that vLLM's CPU kernels take.

    rope: the sections of M-RoPE, half a head's size in all. sizes: of its decoder.
    """
    processor = FAMILIES[family].processor()
    config = FAMILIES[family].config(processor.tokenizer)
    text, vision = config.text_config, config.vision_config
    for name, size in (SIZES | sizes).items():
        setattr(text, name, size)
    if "num_hidden_layers" in sizes:
        text.layer_types = ["full_attention"] * sizes["num_hidden_layers"]
    text.rope_parameters["mrope_section"] = list(rope)
    setattr(vision, "hidden_size" if family == "qwen2_vl" else "out_hidden_size", text.hidden_size)
    folder.mkdir(parents=True)
    lively_model(config).float().save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@cache
def _register() -> None:
    """Name the classes of both kinds: vLLM would import each in a process of its own to look at it."""
    from vllm import ModelRegistry

    from avar_eval.models import vllm_steering

    for name in STEERED.values():
        steered = getattr(vllm_steering, name)
        stock = steered.__mro__[2]
        ModelRegistry.register_model(name, steered)
        ModelRegistry.register_model(stock.__name__, stock)


def start(model: Path, **arguments: Any) -> Any:
    """A vLLM that prefills in chunks of 80 tokens."""
    from vllm import LLM

    _register()

    return LLM(
        model=str(model),
        **{
            "dtype": "float32",
            "max_model_len": 1024,
            "max_num_batched_tokens": 80,
            "max_num_seqs": 4,
            "block_size": 32,
            "kv_cache_memory_bytes": 64 << 20,
            "enforce_eager": True,
            "enable_prefix_caching": True,
            "distributed_executor_backend": "uni",
            "limit_mm_per_prompt": {"image": 2, "video": 0},
            "generation_config": "vllm",
        }
        | arguments,
    )


def start_steered(model: Path, steering: VllmSteering, **arguments: Any) -> Any:
    """The same, steered."""
    return start(model, **steered_arguments(model, steering), **arguments)


def set_strengths(llm: Any, steering: VllmSteering) -> None:
    """Steer otherwise from now on."""
    llm.apply_model(lambda model: model.steer(steering))
    assert llm.reset_prefix_cache()


def runner_of(llm: Any) -> Any:
    """The model runner of an engine in this process."""
    return llm.llm_engine.engine_core.engine_core.model_executor.driver_worker.worker.model_runner


def decode(llm: Any, prompts: Sequence[dict[str, Any]], strengths: Sequence[str | None], **sampling: Any) -> list[Any]:
    """What the engine makes of prompts that bring these strengths, with the log-probability of each token."""
    from vllm import SamplingParams

    # Plain tokens only, unless said otherwise: a placeholder would stand for an image that is not there.
    how = {"temperature": 0, "max_tokens": 24, "ignore_eos": True, "allowed_token_ids": list(range(300))} | sampling
    asked = [
        SamplingParams(logprobs=0, extra_args=None if text is None else {REQUEST_KEY: text}, **how)
        for text in strengths
    ]
    return list(llm.generate(prompts, asked, use_tqdm=False))


def stop(llm: Any) -> None:
    """End an engine that has processes of its own."""
    llm.llm_engine.engine_core.shutdown()


def conversations(processor: Any) -> list[dict[str, Any]]:
    """Prompts in vLLM's words: system turns of several lengths, no image, one, two, an earlier answer."""
    random = np.random.default_rng(0)

    def picture(width: int, height: int) -> Image.Image:
        pixels = (random.random((height // 14, width // 14, 3)) * 255).astype("uint8")
        return Image.fromarray(pixels).resize((width, height), Image.Resampling.NEAREST)

    def ask(system: str, images: Sequence[Image.Image], *turns: str) -> dict[str, Any]:
        content = [{"type": "image"}] * len(images) + [{"type": "text", "text": turns[0]}]
        messages = [
            {"role": "system", "content": [{"type": "text", "text": system}]},
            {"role": "user", "content": content},
        ]
        for number, turn in enumerate(turns[1:]):
            role = ("assistant", "user")[number % 2]
            messages.append({"role": role, "content": [{"type": "text", "text": turn}]})
        text = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        ids = processor.tokenizer.encode(text + "one, two and three", add_special_tokens=False)
        return {"prompt_token_ids": ids} | ({"multi_modal_data": {"image": list(images)}} if images else {})

    helpful = "You are a helpful assistant."
    return [
        ask(helpful, [picture(112, 84)], "What is this?"),
        ask(helpful + " Look closely, and think before you answer." * 2, [picture(84, 112)], "How many are there?"),
        ask("Be brief.", [], "What is one and two?"),
        ask(helpful, [picture(56, 84), picture(112, 112)], "Compare these two.", "They differ.", "In what?"),
    ]


def images_of(prompt: dict[str, Any]) -> list[Image.Image]:
    """The images of a prompt."""
    return list(prompt.get("multi_modal_data", {}).get("image", []))


def score(llm: Any, prompts: Sequence[dict[str, Any]]) -> Scored:
    """What the engine thinks of all tokens of its prompts."""
    from vllm import SamplingParams

    outputs = llm.generate(prompts, SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=0), use_tqdm=False)
    found = []
    for output in outputs:
        ids = list(output.prompt_token_ids)
        chosen = zip(ids[1:], output.prompt_logprobs[1:], strict=True)
        found.append((ids, torch.tensor([choices[token].logprob for token, choices in chosen], dtype=torch.float64)))
    return found


def furthest(one: Scored, other: Sequence[torch.Tensor]) -> float:
    """The greatest difference between log-probabilities."""
    return max(float((ours - theirs).abs().max()) for (_, ours), theirs in zip(one, other, strict=True))
