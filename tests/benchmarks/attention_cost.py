"""What measuring and training on attention cost, beside plain SDPA and beside whole eager maps; a Markdown table.

    python tests/benchmarks/attention_cost.py forward [--tokens 4096] [--rounds 7] [--eager-rounds 2]
    python tests/benchmarks/attention_cost.py training
    python tests/benchmarks/attention_cost.py forward --shape qwen2.5-vl-3b --layers 2 [--tokens 4096] [--rounds 3]

The model is small: attention is most of its pass, and so of what measuring adds to. With --shape the first layers of a
published model are run, of random weights, each of which costs what any other does; time alone.

Times are medians of runs that take turns in one process; ratios are medians of the turns' ratios. Memory is the peak
resident memory of a process that makes one step (a second run is no different), all of it, the interpreter included.
"""

import argparse
from dataclasses import replace
from functools import partial
from statistics import median

import torch
from attention_workload import THREADS, Kind, Mode, Workload, peak_megabytes

from avar_eval.attention.observe import RECORDED
from avar_eval.doctor import workload as of_shape
from avar_eval.doctor.shapes import find_shape
from avar_eval.doctor.timing import interleaved, ratio

NAMES: dict[Mode, str] = {
    "plain": "plain SDPA",
    "user": "64 user queries on image and system",
    "response": "second half on image and system",
    "record": "user and response queries on all seven groups",
    "eager user": "eager maps, 64 user queries",
    "eager response": "eager maps, second half",
}
BARS: dict[Kind, dict[Mode, tuple[float, float]]] = {
    "forward": {"user": (1.03, 1.05), "response": (1.10, 1.05), "record": (1.10, 1.05)},
    "training": {"user": (1.05, 1.10), "response": (1.35, 1.10)},
}
EAGER_BARS: dict[Kind, tuple[float, float]] = {"forward": (3, 4), "training": (5, 1)}


def table(kind: Kind, tokens: int, rounds: int, eager_rounds: int) -> None:
    """Measure and print. eager_rounds: 0 leaves eager maps out, which take most of the time."""
    ours: list[Mode] = ["plain", "user", "response", *(["record"] if kind == "forward" else [])]
    workloads = {mode: Workload(kind, mode, tokens) for mode in ours}
    seconds = interleaved({mode: workload.run for mode, workload in workloads.items()}, rounds)
    values = {mode: workload.value for mode, workload in workloads.items()}
    if eager_rounds:
        for mode in ("eager user", "eager response"):
            workload = Workload(kind, mode, tokens)
            eager = interleaved({"plain": workloads["plain"].run, mode: workload.run}, eager_rounds)
            seconds[mode], seconds[f"plain beside {mode}"] = eager[mode], eager["plain"]
            values[mode] = workload.value
            del workload
    memory = {mode: peak_megabytes(kind, mode, tokens) for mode in values}
    what = "forward pass with VAS" if kind == "forward" else "training step with both AGTO losses"
    print(f"\n{what}, {tokens:,} tokens, float32, {THREADS} threads, {rounds} rounds (eager: {eager_rounds})\n")
    print("| | seconds | time × plain | must be | peak memory, MB | memory × plain | must be | value |")
    print("|---|---|---|---|---|---|---|---|")
    for mode in values:
        base = f"plain beside {mode}" if mode.startswith("eager") else "plain"
        bar = BARS[kind].get(mode)
        print(
            f"| {NAMES[mode]} | {median(seconds[mode]):.2f} | {ratio(seconds, mode, base):.3f} "
            f"| {f'≤ {bar[0]:.2f}' if bar else ''} | {memory[mode][0]:,.0f} "
            f"| {memory[mode][0] / memory['plain'][0]:.3f} | {f'≤ {bar[1]:.2f}' if bar else ''} | {values[mode]:.7g} |"
        )
    if eager_rounds:
        _print_against_eager(kind, seconds, memory)


def shape_table(name: str, layers: int, tokens: int, rounds: int) -> None:
    """Measure a pass through the first layers of a published shape, and print."""
    workload = of_shape.Workload(of_shape.make_model(replace(find_shape(name), layers=layers)), tokens)
    two = of_shape.AGTO_GROUPS
    ways = {
        "plain": partial(workload.forward, None),
        NAMES["user"]: partial(workload.forward, "user", two),
        NAMES["response"]: partial(workload.forward, "response", two),
        NAMES["record"]: partial(workload.forward, "both", RECORDED),
    }
    seconds = interleaved(ways, rounds)
    print(f"\nforward pass with VAS, {layers} layers of {name}, {tokens:,} tokens, float32, {THREADS} threads")
    print(f"{rounds} rounds\n\n| | seconds | time × plain |\n|---|---|---|")
    for way, taken in seconds.items():
        print(f"| {way} | {median(taken):.2f} | {ratio(seconds, way):.3f} |")


def _print_against_eager(kind: Kind, seconds: dict[str, list[float]], memory: dict[Mode, tuple[float, float]]) -> None:
    faster, less = EAGER_BARS[kind]
    print("\n| against eager maps | faster | must be | less memory | must be | less memory beyond the model |")
    print("|---|---|---|---|---|---|")
    modes: list[tuple[Mode, Mode]] = [("user", "eager user"), ("response", "eager response")]
    for mode, eager in modes:
        speed = ratio(seconds, eager, f"plain beside {eager}") / ratio(seconds, mode)
        print(
            f"| {NAMES[mode]} | {speed:.1f} × | ≥ {faster} × | {memory[eager][0] / memory[mode][0]:.1f} × | ≥ {less} × "
            f"| {memory[eager][1] / memory[mode][1]:.1f} × |"
        )


if __name__ == "__main__":
    torch.set_num_threads(THREADS)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["forward", "training"])
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--eager-rounds", type=int, default=2)
    parser.add_argument("--shape")
    parser.add_argument("--layers", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.shape:
        shape_table(arguments.shape, arguments.layers, arguments.tokens, arguments.rounds)
    else:
        table(arguments.kind, arguments.tokens, arguments.rounds, arguments.eager_rounds)
