"""examples/: each is short, and runs as it says."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "examples"
LONGEST = 60
RUNS: dict[str, tuple[list[str], str]] = {
    # file -> what follows it on its command line, and a part of what it prints
    "measure_one_answer.py": ([], "image over system"),
    "steer.py": ([], "steered    image"),
    "own_loss.py": ([], "step 7"),
    "table_of_models.py": (["avar-tiny", "avar-tiny:steer=avar", "avar-tiny:steer=image=0.5"], "image=0.5"),
    "read_attention.py": (["avar-runs/avar-tiny"], "40 responses"),
    "watch_a_training.py": (["trained"], "curve trained"),
    "dots_benchmark/draw.py": (["data"], ""),
    "causal_columns.py": (["avar-tiny", "8"], "visual_gain"),
    "notebooks/look_and_steer.py": ([], "image + 15%"),
    "notebooks/results_to_figure.py": ([], "steered:"),
}


def run(folder: Path, *words: str) -> str:
    own = {"AVAR_LEADERBOARD": str(folder / "leaderboard"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=os.environ | own, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_every_example_is_short_and_run() -> None:
    scripts = {str(path.relative_to(FOLDER)): path for path in FOLDER.rglob("*.py")}
    assert all(len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST for path in scripts.values())
    parts_of_benchmarks = {"dots_benchmark/__init__.py", "dots_benchmark/task.py"}
    assert set(RUNS) == set(scripts) - parts_of_benchmarks


@pytest.mark.parametrize(
    "names",
    [["table_of_models.py", "read_attention.py"], *([name] for name in RUNS if name[:4] not in ("tabl", "read"))],
)
def test_it_runs(names: list[str], tmp_path: Path) -> None:
    for name in names:
        words, said = RUNS[name]
        assert said in run(tmp_path, str(FOLDER / name), *words)


def test_a_benchmark_outside_of_the_package(tmp_path: Path) -> None:
    run(tmp_path, str(FOLDER / "dots_benchmark" / "draw.py"), "data")
    asked = ["--include-path", str(FOLDER / "dots_benchmark"), "--data-dir", "data", "--tasks", "dots"]
    assert "dots" in run(tmp_path, "-m", "avar_eval.cli", "--model", "avar-tiny", *asked)
