"""What measuring attention adds to a whole run of `shapes`, from the command to its table.

    python tests/benchmarks/measuring_cost.py [--pairs 4]

Runs the command with `--attention on` and `off`, the one and the other first in turn; the last line is the median of
the pairs' ratios. Everything goes into a temporary folder, the leaderboard, too.
"""

import argparse
import os
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import median

COMMAND = ("avar-eval", "--model", "avar-tiny", "--tasks", "shapes")
BAR = 1.10


def seconds(attention: str) -> float:
    """Wall time of one run in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"AVAR_LEADERBOARD": str(Path(folder, "leaderboard"))}
        command = [*COMMAND, "--attention", attention, "--output", str(Path(folder, "run"))]
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, env=environment)
        return time.perf_counter() - start


def table(pairs: int) -> None:
    """Measure and print."""
    print("| pair | on, seconds | off, seconds | on / off |\n|---|---|---|---|")
    ratios = []
    for pair in range(1, pairs + 1):
        order = ("on", "off") if pair % 2 else ("off", "on")
        took = {attention: seconds(attention) for attention in order}
        ratios.append(took["on"] / took["off"])
        print(f"| {pair} | {took['on']:.1f} | {took['off']:.1f} | {ratios[-1]:.3f} |", flush=True)
    print(f"\nmedian {median(ratios):.3f} × (must be ≤ {BAR:.2f})")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=4)
    table(parser.parse_args().pairs)
