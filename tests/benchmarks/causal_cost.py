"""What the causal passes of `--causal fast` add to a whole run of `shapes`, 100 of its 500 rows.

    python tests/benchmarks/causal_cost.py [--pairs 4] [--limit 500]

Runs the command with `--causal fast` and `off`, the one and the other first in turn; the last line is the median of the
pairs' ratios. Beside the wall time stands the CPU time, which other work on the machine disturbs less. Everything goes
into a temporary folder, the leaderboard, too.
"""

import argparse
from statistics import median

from measuring_cost import COMMAND, seconds

BAR = 1.20


def table(pairs: int, limit: int) -> None:
    """Measure and print."""
    print("| pair | fast, seconds | off, seconds | fast / off | CPU time, fast / off |\n|---|---|---|---|---|")
    ratios: list[tuple[float, float]] = []
    for pair in range(1, pairs + 1):
        order = ("fast", "off") if pair % 2 else ("off", "fast")
        command = (*COMMAND, "--limit", str(limit), "--causal-samples", str(max(1, limit // 5)))
        took = {causal: seconds(*command, "--causal", causal) for causal in order}
        wall, cpu = (fast / off for fast, off in zip(took["fast"], took["off"], strict=True))
        ratios.append((wall, cpu))
        print(f"| {pair} | {took['fast'][0]:.1f} | {took['off'][0]:.1f} | {wall:.3f} | {cpu:.3f} |", flush=True)
    wall, cpu = map(median, zip(*ratios, strict=True))
    print(f"\nmedian {wall:.3f} × (must be ≤ {BAR:.2f}), of CPU time {cpu:.3f} ×")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--limit", type=int, default=500)
    given = parser.parse_args()
    table(given.pairs, given.limit)
