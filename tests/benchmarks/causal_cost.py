"""What the causal passes of `--causal fast` add to a whole run of `shapes`, 100 of its 500 rows.

    python tests/benchmarks/causal_cost.py [--pairs 4] [--limit 500]

Runs the command with `--causal fast` and `off`, the one and the other first in turn; the last line is the median of the
pairs' ratios. Beside the wall time stands the CPU time, which other work on the machine disturbs less. Everything goes
into a temporary folder, the leaderboard, too.
"""

import argparse

from measuring_cost import COMMAND, table

BAR = 1.20

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--limit", type=int, default=500)
    given = parser.parse_args()
    command = (*COMMAND, "--limit", str(given.limit), "--causal-samples", str(max(1, given.limit // 5)))
    table(given.pairs, "--causal", "fast", command, BAR)
