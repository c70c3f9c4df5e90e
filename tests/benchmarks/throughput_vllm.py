"""Questions a second on the whole `shapes` test split through vLLM: our wrapper against lmms-eval's own.

    VLLM_CPU_KVCACHE_SPACE=1 python tests/benchmarks/throughput_vllm.py [--rounds 1] [--limit 500]

in the environment of `.ci/vllm`. Both run avar-tiny in float32 on the same questions with the same token limit; apart
from these two settings, which make greedy answers comparable, lmms-eval's `vllm_chat` has its defaults: a batch size
of 1. The column "same answers" counts equal texts. Engines start before the clock does, one after the other, and answer
a few questions first. Ours runs without measuring attention, which happens after the engine has ended.
"""

import argparse
import gc
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

from lmms_eval.models.chat.vllm import VLLM
from shapes_requests import ENTRY, requests

from avar_eval.run.lmms_model import Avar

WARM_UP = 8

Answer = Callable[[list[Any]], list[str]]


def theirs(dataset: Any, batch_size: int) -> tuple[Answer, Callable[[], None]]:
    """lmms-eval's wrapper, and what ends its engine."""
    settings = {"dtype": "float32", "max_new_tokens": ENTRY.max_new_tokens}
    wrapper = VLLM(model=str(ENTRY.path), batch_size=batch_size, **settings)
    wrapper.task_dict = {"shapes": dataset}
    return (
        lambda instances: [result.text for result in wrapper.generate_until(instances)],
        wrapper.client.llm_engine.engine_core.shutdown,
    )


def ours(dataset: Any) -> tuple[Answer, Callable[[], None]]:
    """Our wrapper, with a record book of its own each time and one engine for all of them."""
    settings = {"backend": "vllm", "dtype": "float32", "attention_samples": 0}
    engine: Any = Avar("avar-tiny", output=tempfile.mkdtemp(), **settings).session.backend
    engine.load()
    end, engine.release = engine.release, lambda: None

    def answer(instances: list[Any]) -> list[str]:
        with tempfile.TemporaryDirectory() as folder:
            wrapper = Avar("avar-tiny", output=folder, **settings)
            wrapper.session.backend, wrapper.task_dict = engine, {"shapes": dataset}
            responses = wrapper.generate_until(instances)
            wrapper.session.close()
        return [str(response) for response in responses]

    return answer, end


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--limit", type=int, default=500)
    options = parser.parse_args()
    instances, dataset = requests(options.limit)
    ways: dict[str, Callable[[], tuple[Answer, Callable[[], None]]]] = {
        "avar-eval `--backend vllm`": lambda: ours(dataset),
        f"lmms-eval `vllm_chat`, batch {options.limit}": lambda: theirs(dataset, options.limit),
        "lmms-eval `vllm_chat`, batch 1 (its default)": lambda: theirs(dataset, 1),
    }
    seconds: dict[str, float] = {}
    texts: dict[str, list[str]] = {}
    for name, make in ways.items():
        answer, end = make()
        answer(instances[:WARM_UP])
        taken = []
        for _ in range(options.rounds):
            start = time.perf_counter()
            texts[name] = answer(instances)
            taken.append(time.perf_counter() - start)
        seconds[name] = statistics.median(taken)
        print(f"{name}: {taken} s", flush=True)
        end()
        gc.collect()
    base = list(ways)[-1]
    print(f"\n{len(instances)} questions, median of {options.rounds} rounds\n")
    print("| wrapper | questions/s | ratio | same answers |")
    print("|---|---|---|---|")
    for name in reversed(ways):
        same = sum(a.strip() == b.strip() for a, b in zip(texts[base], texts[name], strict=True))
        speed, ratio = len(instances) / seconds[name], seconds[base] / seconds[name]
        print(f"| {name} | {speed:.1f} | {ratio:.2f} × | {same}/{len(instances)} |")


if __name__ == "__main__":
    main()
