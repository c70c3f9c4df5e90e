"""What `--causal full` finds on `shapes`: avar-tiny, which can see, beside what must hold of it.

    python tests/benchmarks/causal_columns.py [--samples 100]

Chance is what a guess among a question's options is worth, and nothing where it has none. Everything goes into a
temporary folder, the leaderboard, too.
"""

import argparse
import os
import tempfile
from pathlib import Path
from statistics import mean

from avar_eval import evaluate
from avar_eval.records.book import read_records
from avar_eval.tasks.shapes.dataset import rows

LEAST_GAIN = 0.80


def table(samples: int) -> None:
    """Measure and print."""
    options = {row["id"]: len(row["choices"] or ()) for row in rows("test")}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["AVAR_LEADERBOARD"] = str(Path(folder, "leaderboard"))
        run = Path(folder, "run")
        found = evaluate("avar-tiny", "shapes", causal="full", causal_samples=samples, output=run).tasks["shapes"]
        chosen = [record.row_id for record in read_records(run / "records.jsonl").values() if record.causal]
    print("| column | value | 95 % interval | n |\n|---|---|---|---|")
    for name, metric in found.metrics.items():
        value = "–" if metric.value is None else f"{metric.value:.3f}"
        interval = "–" if metric.ci95 is None else "{:.3f} to {:.3f}".format(*metric.ci95)
        print(f"| {name} | {value} | {interval} | {metric.n} |")
    gain, blind = found.metrics["visual_gain"].value or 0.0, found.metrics["blind"]
    chance = mean(1 / options[row] if options[row] else 0.0 for row in chosen)
    low, high = blind.ci95 or (0.0, 1.0)
    print(f"\ngain {100 * gain:.1f} points (must be ≥ {100 * LEAST_GAIN:.0f})")
    print(f"chance {chance:.3f}, blind {low:.3f} to {high:.3f} (must hold it, or lie below)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=100)
    table(parser.parse_args().samples)
