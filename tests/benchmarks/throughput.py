"""Questions a second on the whole `shapes` test split: our wrapper against lmms-eval's own, in one process run.

    python tests/benchmarks/throughput.py [--rounds 3] [--limit 500]

Both run avar-tiny in float32 on the same questions (lmms-eval's wrapper loads bfloat16, which is cast back here, so
that the greedy answers can be equal). lmms-eval's `huggingface` chat wrapper is measured with its default batch size
of 1 and with ours. The model is loaded before the clock starts. Ours runs with and without measuring attention.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch
from lmms_eval.models.chat.huggingface import Huggingface
from lmms_eval.tasks import TaskManager

from avar_eval.models.lmms_wrapper import Avar
from avar_eval.models.registry import get_model
from avar_eval.tasks.catalog import TASKS_FOLDER


def requests(limit: int) -> tuple[list[Any], Any]:
    manager = TaskManager(include_path=str(TASKS_FOLDER), include_defaults=False)
    task = manager.load_task_or_group(["shapes"], task_type="chat")["shapes"]
    task.build_all_requests(limit=limit)
    for instance in task.instances:
        instance.arguments[2]["max_new_tokens"] = get_model("avar-tiny").max_new_tokens
    return task.instances, task.dataset


def theirs(dataset: Any, batch_size: int) -> Callable[[list[Any]], list[str]]:
    system = get_model("avar-tiny").system_prompt
    path = str(get_model("avar-tiny").path)
    wrapper = Huggingface(path, device="cpu", device_map="cpu", batch_size=batch_size, system_prompt=system)
    wrapper.model.float()
    wrapper.processor.tokenizer.padding_side = "left"
    wrapper.task_dict = {"shapes": dataset}
    return lambda instances: [result.text for result in wrapper.generate_until(instances)]


def ours(dataset: Any, attention_samples: int) -> Callable[[list[Any]], list[str]]:
    def answer(instances: list[Any]) -> list[str]:
        with tempfile.TemporaryDirectory() as folder:
            wrapper = Avar("avar-tiny", device="cpu", output=folder, attention_samples=attention_samples)
            wrapper.task_dict = {"shapes": dataset}
            wrapper.backend.load()
            start = time.perf_counter()
            responses = wrapper.generate_until(instances)
            seconds.append(time.perf_counter() - start)
            wrapper.book.close()
        return [str(response) for response in responses]

    seconds: list[float] = []
    answer.seconds = seconds  # type: ignore[attr-defined]
    return answer


def timed(answer: Callable[[list[Any]], list[str]], instances: list[Any]) -> tuple[float, list[str]]:
    start = time.perf_counter()
    texts = answer(instances)
    elapsed = time.perf_counter() - start
    own_clock: list[float] = getattr(answer, "seconds", [])
    return (own_clock[-1] if own_clock else elapsed), texts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=int, default=500)
    options = parser.parse_args()
    torch.set_num_threads(2)
    instances, dataset = requests(options.limit)
    batch_size = get_model("avar-tiny").batch_size
    ways = {
        "lmms-eval huggingface, batch 1 (its default)": theirs(dataset, 1),
        f"lmms-eval huggingface, batch {batch_size}": theirs(dataset, batch_size),
        f"avar, batch {batch_size}, attention of 200 rows": ours(dataset, 200),
        f"avar, batch {batch_size}, attention off": ours(dataset, 0),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    texts: dict[str, list[str]] = {}
    for _ in range(options.rounds):
        for name, answer in ways.items():
            elapsed, texts[name] = timed(answer, instances)
            seconds[name].append(elapsed)
    first, *_ = ways
    print(f"\n{len(instances)} questions, median of {options.rounds} rounds")
    for name in ways:
        median = statistics.median(seconds[name])
        ratio = statistics.median(a / b for a, b in zip(seconds[first], seconds[name], strict=True))
        same = sum(a.strip() == b.strip() for a, b in zip(texts[first], texts[name], strict=True))
        speed = f"{len(instances) / median:7.1f} questions/s  {ratio:5.2f} x"
        print(f"{name:50} {speed}  same answers {same}/{len(instances)}")


if __name__ == "__main__":
    main()
