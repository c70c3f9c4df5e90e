"""Times of several ways to do one thing, which take turns in one process: a busy moment hits all of a round."""

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median

import torch


def interleaved(
    ways: Mapping[str, Callable[[], object]],
    fewest: int,
    most: int | None = None,
    within: float = 0.0,
    device: str = "cpu",
    warm_up: bool = True,
) -> dict[str, list[float]]:
    """Seconds of each way, one run of each a round, after one round of warm-up. Every other round turns the order.

    fewest: rounds (beside the warm-up); up to `most` while no more than `within` seconds have passed.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    start = time.perf_counter()
    for number in range(0 if warm_up else 1, (most or fewest) + 1):
        if number > fewest and time.perf_counter() - start > within:
            break
        for name in list(ways) if number % 2 else reversed(list(ways)):
            took = time_run(ways[name], device)
            if number:
                seconds[name].append(took)
    return seconds


def time_run(run: Callable[[], object], device: str = "cpu") -> float:
    """Wall time of one run, all that it gave a GPU to do included."""
    _wait(device)
    start = time.perf_counter()
    run()
    _wait(device)
    return time.perf_counter() - start


def ratio(seconds: Mapping[str, Sequence[float]], name: str, base: str = "plain") -> float:
    """The median of the rounds' ratios."""
    return median(a / b for a, b in zip(seconds[name], seconds[base], strict=True))


def _wait(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
