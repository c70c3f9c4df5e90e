"""What steering costs inside vLLM: decoding of a steered engine over the stock one; a Markdown table.

    PYTHONPATH=tests:tests/in_vllm python tests/benchmarks/steering_cost_vllm.py [--compiled] [--steps 64] [--rounds 15]

in the environment of `.ci/vllm`. A Qwen2.5-VL of 8 layers, hidden size 512, 8 heads and 2 key heads answers four
prompts of 2,000 tokens at a time; they come from the prefix cache after the first round, which is not counted. Engines
take turns in one process; a ratio is the median of the rounds' ratios, so that a busy moment hits all of a round.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_LOGGING_LEVEL": "WARNING", "HF_HUB_OFFLINE": "1"}

from engines import conversations, save_model, start, start_steered
from transformers import AutoProcessor

from avar_eval.models.vllm_plugin import VllmSteering

BAR = 1.03
TEXT = {"hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 8, "num_attention_heads": 8, "head_dim": 64}
ROPE = [8, 12, 12]
TOKENS = 2000
STRENGTHS = {"image": 0.15, "system": 0.4}
ENGINE = {"max_model_len": 4096, "max_num_batched_tokens": 2048, "kv_cache_memory_bytes": 512 << 20}


def long_prompts(folder: Path) -> list[dict[str, Any]]:
    """The tests' prompts, each with text after its question up to the length."""
    prompts = conversations(AutoProcessor.from_pretrained(folder))
    for prompt in prompts:
        ids = prompt["prompt_token_ids"]
        ids += [100 + number % 150 for number in range(TOKENS - len(ids))]
    return prompts


def seconds(llm: Any, prompts: list[dict[str, Any]], steps: int) -> float:
    """Wall time of one decoding step of all prompts together."""
    from vllm import SamplingParams

    # Plain tokens only: a placeholder would stand for an image that is not there.
    sampling = SamplingParams(temperature=0, max_tokens=steps, ignore_eos=True, allowed_token_ids=list(range(300)))
    begin = time.perf_counter()
    llm.generate(prompts, sampling, use_tqdm=False)
    return (time.perf_counter() - begin) / steps


def table(steps: int, rounds: int, compiled: bool) -> None:
    """Measure and print."""
    settings = ENGINE | {"enforce_eager": not compiled}
    with tempfile.TemporaryDirectory() as parent:
        folder = save_model("qwen2_5_vl", Path(parent) / "model", ROPE, **TEXT)
        prompts = long_prompts(folder)
        ways = {"unsteered": start(folder, **settings)}
        for mode in ("logit", "prob"):
            steering = VllmSteering.model_validate(STRENGTHS | {"mode": mode})
            ways[mode] = start_steered(folder, steering, **settings)
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(rounds + 1):
            for name, llm in ways.items():
                measured = seconds(llm, prompts, steps)
                if number:
                    taken[name].append(measured)
    how = "torch.compile" if compiled else "eager"
    print(f"\nvLLM, {how}, {len(prompts)} prompts of {TOKENS:,} tokens, {steps} steps, float32, {rounds} rounds\n")
    print("| mode | step, ms | decoding × unsteered | must be |")
    print("|---|---|---|---|")
    for name, times in taken.items():
        ratio = median(of / plain for of, plain in zip(times, taken["unsteered"], strict=True))
        bar = f"≤ {BAR:.2f}" if name != "unsteered" else ""
        print(f"| {name} | {1000 * median(times):.2f} | {ratio:.3f} | {bar} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--compiled", action="store_true")
    arguments = parser.parse_args()
    table(arguments.steps, arguments.rounds, arguments.compiled)
