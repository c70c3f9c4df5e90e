"""Lessons of the English world a second, of one core's own time and of several processes together.

python tests/benchmarks/lessons_speed.py --lessons 2000 --processes 2
"""

import argparse
import time
from multiprocessing import Pool

from avar_eval.recipes.world import SHARES, lesson


def seconds_of(numbers: range, source: str | None = None) -> float:
    """Seconds of this process on the CPU for these lessons, of one source or of all."""
    shares = SHARES if source is None else {source: 1.0}
    start = time.process_time()
    for number in numbers:
        lesson(number, shares=shares)
    return time.process_time() - start


def main() -> None:
    """Print lessons a second by source, of all, and of processes side by side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lessons", type=int, default=2_000)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    seconds_of(range(50))  # tiles are drawn once
    for source in (*SHARES, None):
        seconds = seconds_of(range(options.lessons), source)
        print(f"{source or 'all':>16}: {options.lessons / seconds:6.0f} lessons a second of one core")
    step = options.lessons // options.processes
    parts = [range(first, first + step) for first in range(0, step * options.processes, step)]
    start = time.perf_counter()
    with Pool(options.processes) as pool:
        spent = sum(pool.map(seconds_of, parts))
    count = step * options.processes
    print(f"{options.processes} processes: {count / (time.perf_counter() - start):.0f} a second of the clock, ", end="")
    print(f"{count / spent:.0f} a second of each core's own time")


if __name__ == "__main__":
    main()
