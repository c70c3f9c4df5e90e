"""What steering costs: decoding and prefill of a steered model over the unsteered one; a Markdown table.

    python tests/benchmarks/steering_cost.py [--tokens 2048] [--steps 32] [--rounds 15]

The model is that of the attention benchmarks. Ways take turns in one process; a ratio is the median of the rounds'
ratios, so that a busy moment of the machine hits both runs of a round.
"""

import argparse
import time
from contextlib import ExitStack
from statistics import median
from typing import Any

import torch
from attention_workload import THREADS, make_model, make_roles
from transformers import DynamicCache

from avar_eval.attention.steer import steer
from avar_eval.attention.steering import Mode, Steering

BARS = {"logit": 1.03, "prob": 1.03}
MODES: tuple[Mode, ...] = ("logit", "prob", "log", "abs")


def seconds(model: Any, ids: torch.Tensor, steering: Steering | None, steps: int) -> tuple[float, float]:
    """Wall time of the prefill and of one decoding step (median of the steps)."""
    cache = DynamicCache()
    with ExitStack() as stack, torch.inference_mode():
        if steering is not None:
            stack.enter_context(steer(model, steering, make_roles(ids.shape[1])))
        start = time.perf_counter()
        model(input_ids=ids, past_key_values=cache, logits_to_keep=1)
        prefill = time.perf_counter() - start
        times = []
        for _ in range(steps):
            start = time.perf_counter()
            model(input_ids=ids[:, :1], past_key_values=cache)
            times.append(time.perf_counter() - start)
    return prefill, median(times)


def table(tokens: int, steps: int, rounds: int) -> None:
    """Measure and print."""
    model = make_model("sdpa").eval()
    ids = torch.randint(0, 500, (1, tokens), generator=torch.Generator().manual_seed(1))
    ways = {None: None} | {mode: Steering(image=0.15, system=0.4, mode=mode) for mode in MODES}
    taken: dict[Mode | None, list[tuple[float, float]]] = {mode: [] for mode in ways}
    for number in range(rounds + 1):
        for mode, steering in ways.items():
            measured = seconds(model, ids, steering, steps)
            if number:
                taken[mode].append(measured)
    print(f"\n{tokens:,} tokens, {steps} steps, float32, {THREADS} threads, {rounds} rounds\n")
    print("| mode | step, ms | decoding × unsteered | must be | prefill × unsteered |")
    print("|---|---|---|---|---|")
    for mode in ways:
        prefill, step = (
            median(of[part] / plain[part] for of, plain in zip(taken[mode], taken[None], strict=True))
            for part in (0, 1)
        )
        bar = f"≤ {BARS[mode]:.2f}" if mode in BARS else ""
        step_time = 1000 * median(of[1] for of in taken[mode])
        print(f"| {mode or 'unsteered'} | {step_time:.2f} | {step:.3f} | {bar} | {prefill:.3f} |")


if __name__ == "__main__":
    torch.set_num_threads(THREADS)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--steps", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    table(arguments.tokens, arguments.steps, arguments.rounds)
