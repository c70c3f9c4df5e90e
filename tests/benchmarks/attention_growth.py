"""How time and memory grow with the sequence, with VAS on and off: a Markdown table, and the picture of docs/cost.md.

    python tests/benchmarks/attention_growth.py [--tokens 2048 4096 8192 16384] [--rounds 3]

The memory that VAS adds is measured (peak resident memory beyond that of a plain pass, in processes of their own),
fitted by a line, and extrapolated to 30,000 tokens of Qwen2.5-VL-7B beside what whole attention maps take.
"""

import argparse
from pathlib import Path
from statistics import median

import numpy as np
import torch
from attention_workload import THREADS, Mode, Workload, peak_megabytes

from avar_eval.doctor.timing import interleaved, ratio
from avar_eval.figures.file import save_figure
from avar_eval.figures.style import COLUMN, drawing, new_figure, series_style

PLOT = Path(__file__).parents[2] / "docs" / "pictures" / "attention_growth.png"
MODES: dict[Mode, str] = {
    "plain": "VAS off",
    "user": "64 user queries, image and system keys",
    "response": "second half, image and system keys",
    "record": "both on all seven key groups, as records have them",
}
LAYERS, HEADS, KEY_HEADS, DIM, TARGET = 28, 28, 4, 128, 30_000
"""Qwen2.5-VL-7B, and the paper's cutoff length."""
OURS_LAYERS, OURS_HEADS = 8, 8


def measure(tokens: int, rounds: int) -> dict[Mode, tuple[float, float, float]]:
    """Of each mode: seconds, time over plain, peak memory in MB beyond the loaded model."""
    workloads = {mode: Workload("forward", mode, tokens) for mode in MODES}
    seconds = interleaved({mode: workload.run for mode, workload in workloads.items()}, rounds)
    return {
        mode: (median(seconds[mode]), ratio(seconds, mode), peak_megabytes("forward", mode, tokens)[1])
        for mode in MODES
    }


def extrapolation(lengths: list[int], found: list[dict[Mode, tuple[float, float, float]]]) -> str:
    """The masses themselves are linear in the length; what was measured is compared with that, and with maps."""
    gigabyte = 1e9
    # masses of the second half on two groups, one copy a layer and one when they are stacked
    masses = 2 * LAYERS * HEADS * (TARGET // 2) * 2 * 4 / gigabyte
    keys = KEY_HEADS * TARGET * (DIM + 1) * 4 / gigabyte
    one_map, all_maps = HEADS * TARGET**2 * 2 / gigabyte, LAYERS * HEADS * TARGET**2 * 2 / gigabyte
    added = [row["response"][2] - row["plain"][2] for row in found]
    slope, start = np.polyfit(lengths, added, 1)
    ours = OURS_LAYERS * OURS_HEADS
    fitted = max(0.0, slope) * TARGET * LAYERS * HEADS / ours / 1000
    return "\n".join(
        [
            f"Memory added by VAS of the second half: {', '.join(f'{value:.0f}' for value in added)} MB; "
            f"line: {slope * 1000:.2f} MB per 1,000 tokens, {start:+.0f} MB.",
            "",
            f"| Qwen2.5-VL-7B at {TARGET:,} tokens, VAS of 15,000 queries | GB |",
            "|---|---|",
            f"| what VAS holds: masses of {LAYERS} layers and {HEADS} heads, and one layer's image and system keys "
            f"(at most) | {masses + keys:.2f} |",
            f"| the line above, times {LAYERS} × {HEADS} / ({OURS_LAYERS} × {OURS_HEADS}) | {fitted:.2f} |",
            f"| eager maps in bfloat16, one layer alone (twice that for a moment: scores in float32) | {one_map:.0f} |",
            f"| eager maps in bfloat16, all layers, as output_attentions=True keeps them | {all_maps:,.0f} |",
        ]
    )


def draw(lengths: list[int], found: list[dict[Mode, tuple[float, float, float]]]) -> None:
    """Time and memory over the length, one line a mode."""
    with drawing():
        figure = new_figure(COLUMN, 2.4)
        axes = figure.subplots(1, 2)
        for column, (axis, label) in enumerate(zip(axes, ("seconds a forward pass", "peak memory, GB"), strict=True)):
            for index, (mode, name) in enumerate(MODES.items()):
                values = [row[mode][0] if column == 0 else row[mode][2] / 1000 for row in found]
                style = series_style(index) if index else {"color": "#b9bec7", "linewidth": 3.5}
                axis.plot(lengths, values, label=name, **style)
            axis.set(xlabel="tokens", title=label, ylim=(0, None), xticks=lengths)
            axis.set_xticklabels([f"{length // 1024}k" for length in lengths])
            axis.grid(axis="y")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower left")
        save_figure(figure, PLOT)


if __name__ == "__main__":
    torch.set_num_threads(THREADS)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", default=[2048, 4096, 8192, 16384])
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    found = []
    print("| tokens | seconds, VAS off | × user | × half | × both, all groups | memory off, MB | user | half | both |")
    print("|---|---|---|---|---|---|---|---|---|")
    for tokens in arguments.tokens:
        row = measure(tokens, arguments.rounds)
        found.append(row)
        memory = " | ".join(f"{row[mode][2]:,.0f}" for mode in MODES)
        ratios = " | ".join(f"{row[mode][1]:.3f}" for mode in MODES if mode != "plain")
        print(f"| {tokens:,} | {row['plain'][0]:.2f} | {ratios} | {memory} |", flush=True)
    print(f"\n{extrapolation(arguments.tokens, found)}")
    draw(arguments.tokens, found)
    print(f"\nplot: {PLOT}")
