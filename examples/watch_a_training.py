"""A training of a few steps whose checkpoints are scored, VAS beside accuracy, as rows of the leaderboard.

python examples/watch_a_training.py OUTPUT_DIR
"""

import subprocess
import sys


def main(output: str) -> None:
    train = [
        "sft",
        "tiny_agto_sft",
        "--output_dir",
        output,
        "--max_steps",
        "4",
        "--save_steps",
        "2",
        "--train_rows",
        "16",
    ]
    for command in (
        ["avar_eval.recipes.cli", *train],
        ["avar_eval.cli", "watch", output, "--tasks", "shapes", "--limit", "10", "--once"],  # may run beside it
        ["avar_eval.leaderboard.cli", "show"],
    ):
        subprocess.run([sys.executable, "-m", *command], check=True)


if __name__ == "__main__":
    main(sys.argv[1])
