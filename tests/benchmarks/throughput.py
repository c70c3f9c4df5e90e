"""Questions a second on the whole `shapes` test split: our wrapper against lmms-eval's own; what measuring adds.

    pip install decord qwen-vl-utils
    python tests/benchmarks/throughput.py [--rounds 3] [--limit 500]

Both run avar-tiny in float32 on the same questions with the same token limit. lmms-eval's `qwen2_5_vl` chat wrapper
gets what it needs for the same greedy answers: the checkpoint's own limits of an image's size by its options (its
default of at least 256 × 28 × 28 pixels blows a picture of 112 × 112 up to sixteen times as many tokens), and float32
in place of the bfloat16 that it always loads. The column "same answers" says whether they are the same. (Its
`huggingface` chat wrapper passes its processor an empty list of audios, which transformers 5 refuses.) It is measured
with its default batch size of 1 and with ours. Models are loaded before the clock starts. Ours runs with and without
measuring attention. All take turns in one process; ratios are medians of the rounds' ratios.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch
from lmms_eval.models.chat.qwen2_5_vl import Qwen2_5_VL
from shapes_requests import ENTRY, requests
from transformers import AutoProcessor

from avar_eval.run.lmms_model import Avar

THREADS = 2

Timed = Callable[[list[Any]], tuple[float, list[str]]]
"""requests -> seconds, responses"""


def theirs(dataset: Any, batch_size: int) -> Timed:
    """lmms-eval's wrapper."""
    path = str(ENTRY.path)
    size = AutoProcessor.from_pretrained(path).image_processor.size
    wrapper = Qwen2_5_VL(
        path,
        device="cpu",
        device_map="cpu",
        batch_size=batch_size,
        min_pixels=size["shortest_edge"],
        max_pixels=size["longest_edge"],
    )
    wrapper._model = type(wrapper.model).from_pretrained(path, dtype=torch.float32).eval()
    wrapper.task_dict = {"shapes": dataset}

    def answer(instances: list[Any]) -> tuple[float, list[str]]:
        start = time.perf_counter()
        results = wrapper.generate_until(instances)
        return time.perf_counter() - start, [result.text for result in results]

    return answer


def ours(dataset: Any, attention_samples: int) -> Timed:
    """Our wrapper, with a record book of its own each time."""

    def answer(instances: list[Any]) -> tuple[float, list[str]]:
        with tempfile.TemporaryDirectory() as folder:
            wrapper = Avar("avar-tiny", device="cpu", output=folder, attention_samples=attention_samples)
            wrapper.task_dict = {"shapes": dataset}
            wrapper.session.backend.load()
            start = time.perf_counter()
            responses = wrapper.generate_until(instances)
            seconds = time.perf_counter() - start
            wrapper.session.close()
        return seconds, [str(response) for response in responses]

    return answer


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=int, default=500)
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    instances, dataset = requests(options.limit)
    measured, unmeasured = (
        f"avar-eval, batch {ENTRY.batch_size}, attention {what}" for what in ("of 200 rows measured", "off")
    )
    ways = {
        "lmms-eval `qwen2_5_vl`, batch 1 (its default)": theirs(dataset, 1),
        f"lmms-eval `qwen2_5_vl`, batch {ENTRY.batch_size}": theirs(dataset, ENTRY.batch_size),
        measured: ours(dataset, 200),
        unmeasured: ours(dataset, 0),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    texts: dict[str, list[str]] = {}
    for _ in range(options.rounds):
        for name, answer in ways.items():
            elapsed, texts[name] = answer(instances)
            seconds[name].append(elapsed)
    first = next(iter(ways))
    print(f"\n{len(instances)} questions, {THREADS} threads, median of {options.rounds} rounds\n")
    print("| wrapper | questions/s | ratio | same answers |")
    print("|---|---|---|---|")
    for name in ways:
        ratio = statistics.median(a / b for a, b in zip(seconds[first], seconds[name], strict=True))
        same = sum(a.strip() == b.strip() for a, b in zip(texts[first], texts[name], strict=True))
        speed = len(instances) / statistics.median(seconds[name])
        print(f"| {name} | {speed:.1f} | {ratio:.2f} × | {same}/{len(instances)} |")
    added = statistics.median(a / b for a, b in zip(seconds[measured], seconds[unmeasured], strict=True)) - 1
    print(f"\nMeasuring adds {added:.1%} to the time of a run (must be at most 10 %).")


if __name__ == "__main__":
    main()
