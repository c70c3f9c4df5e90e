"""What measuring attention adds to a whole run of `shapes`, from the command to its table.

    python tests/benchmarks/measuring_cost.py [--pairs 4] [--busy 1]

Runs the command with `--attention on` and `off`, the one and the other first in turn; the last line is the median of
the pairs' ratios. Beside the wall time stands the CPU time, which other work on the machine disturbs less. Everything
goes into a temporary folder, the leaderboard, too. With --busy so many processes do nothing but keep a core each.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

COMMAND = ("avar-eval", "--model", "avar-tiny", "--tasks", "shapes")
BAR = 1.10


def seconds(*command: str) -> tuple[float, float]:
    """Wall time and CPU time of a command that runs into an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"AVAR_LEADERBOARD": str(Path(folder, "leaderboard"))}
        start, worked = time.perf_counter(), _cpu_seconds()
        subprocess.run(
            [*command, "--output", str(Path(folder, "run"))], check=True, capture_output=True, env=environment
        )
        return time.perf_counter() - start, _cpu_seconds() - worked


def _cpu_seconds() -> float:
    """What all processes that have ended used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def table(pairs: int, option: str, on: str, command: Sequence[str], bar: float) -> None:
    """Measure the command with the option `on` and `off`, in turn, and print."""
    print(f"| pair | {on}, seconds | off, seconds | {on} / off | CPU time, {on} / off |\n|---|---|---|---|---|")
    ratios: list[tuple[float, float]] = []
    for pair in range(1, pairs + 1):
        order = (on, "off") if pair % 2 else ("off", on)
        took = {value: seconds(*command, option, value) for value in order}
        wall, cpu = (with_it / without for with_it, without in zip(took[on], took["off"], strict=True))
        ratios.append((wall, cpu))
        print(f"| {pair} | {took[on][0]:.1f} | {took['off'][0]:.1f} | {wall:.3f} | {cpu:.3f} |", flush=True)
    wall, cpu = map(median, zip(*ratios, strict=True))
    print(f"\nmedian {wall:.3f} × (must be ≤ {bar:.2f}), of CPU time {cpu:.3f} ×")


@contextmanager
def kept_busy(cores: int) -> Iterator[None]:
    """So many processes that never rest."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(cores)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--busy", type=int, default=0)
    asked = parser.parse_args()
    with kept_busy(asked.busy):
        table(asked.pairs, "--attention", "on", (*COMMAND, "--causal", "off"), BAR)
