"""What steering costs: decoding and prefill of a steered model over the unsteered one; a Markdown table.

    python tests/benchmarks/steering_cost.py [--tokens 2048] [--steps 4] [--rounds 40] [--modes logit prob]

The model is that of the attention benchmarks. Each way fills a cache of its own; then the ways take turns of a few
decoding steps, in another order each round, and a ratio is the median of the rounds' ratios: what else the machine does
for longer than a round (about 0.3 s) hits all of them.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from statistics import median
from typing import Any

import torch
from attention_workload import THREADS, make_model, make_roles
from transformers import DynamicCache

from avar_eval.attention.steer import steer
from avar_eval.attention.steering import Mode, Steering
from avar_eval.doctor.timing import ratio

BARS = {"logit": 1.03, "prob": 1.03}
MODES: tuple[Mode, ...] = ("logit", "prob", "log", "abs")
PREFILLS = 3
PLAIN, AGAIN = "unsteered", "unsteered again"
"""The second is a control: what its ratio is off 1, the machine did."""


class Way:
    """One way to run the model, with its cache. `steer` is not entered at all for the unsteered one."""

    def __init__(self, model: Any, ids: torch.Tensor, steering: Steering | None) -> None:
        self.model, self.ids, self.steering = model, ids, steering
        self.cache = DynamicCache()

    @contextmanager
    def _context(self) -> Iterator[None]:
        if self.steering is None:
            yield
            return
        with steer(self.model, self.steering, make_roles(self.ids.shape[1])):
            yield

    def prefill(self) -> float:
        """Seconds to fill a new cache."""
        self.cache = DynamicCache()
        with self._context(), torch.inference_mode():
            return self._seconds(self.ids)

    def decode(self, steps: int) -> float:
        """Seconds of one decoding step, the median of a few; the first one in the context is not counted."""
        with self._context(), torch.inference_mode():
            return median([self._seconds(self.ids[:, :1]) for _ in range(steps + 1)][1:])

    def _seconds(self, ids: torch.Tensor) -> float:
        start = time.perf_counter()
        self.model(input_ids=ids, past_key_values=self.cache, logits_to_keep=1)
        return time.perf_counter() - start


def taking_turns(ways: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """What each way's function gives, once a round, after one round of warm-up."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    names = list(ways)
    for number in range(rounds + 1):
        names = names[1:] + names[:1]
        for name in names if number % 2 else reversed(names):
            measured = ways[name]()
            if number:
                taken[name].append(measured)
    return taken


def table(tokens: int, steps: int, rounds: int, modes: list[Mode]) -> None:
    """Measure and print."""
    model = make_model("sdpa").eval()
    ids = torch.randint(0, 500, (1, tokens), generator=torch.Generator().manual_seed(1))
    steerings = {PLAIN: None} | {mode: Steering(image=0.15, system=0.4, mode=mode) for mode in modes}
    ways = {name: Way(model, ids, steering) for name, steering in steerings.items()}
    again = Way(model, ids, None)
    prefill = taking_turns({name: way.prefill for name, way in ways.items()}, PREFILLS)
    again.prefill()
    decoding = {name: partial(way.decode, steps) for name, way in (ways | {AGAIN: again}).items()}
    step = taking_turns(decoding, rounds)
    print(f"\n{tokens:,} tokens, {rounds} rounds of {steps} steps, float32, {THREADS} threads\n")
    print("| mode | step, ms | decoding × unsteered | must be | prefill × unsteered |")
    print("|---|---|---|---|---|")
    for name in decoding:
        bar = f"≤ {BARS[name]:.2f}" if name in BARS else ""
        of_prefill = f"{ratio(prefill, name, PLAIN):.3f}" if name in prefill else ""
        print(f"| {name} | {1000 * median(step[name]):.2f} | {ratio(step, name, PLAIN):.3f} | {bar} | {of_prefill} |")


if __name__ == "__main__":
    torch.set_num_threads(THREADS)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    arguments = parser.parse_args()
    table(arguments.tokens, arguments.steps, arguments.rounds, arguments.modes)
