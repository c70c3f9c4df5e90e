"""What intervals and a comparison of two runs take, files read, by the number of rows.

    python tests/benchmarks/statistics_speed.py [--rows 100000]

Processor seconds of one process on one core. Rows have what the benchmarks' numbers depend on, many times over:
MathVision's 96 sub-scores, MMMU's 30 strata and guesses of its published rule, HallusionBench's sets of questions and
DynaMath's variants as units.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from invented_rows import hallusion_row, mmmu_pro_row, mmmu_row, mmstar_row
from large_runs import mathvision_rows, write_large_run

from avar_eval.results.compare import compare
from avar_eval.results.metrics import Benchmark
from avar_eval.tasks.catalog import catalog
from avar_eval.tasks.mmstar.task import CATEGORIES


def mmmu_rows(count: int) -> dict[str, Mapping[str, Any]]:
    """Rows of 30 subjects."""
    return {name: mmmu_row(name) for name in (f"validation_S{n % 30}_{n // 30}" for n in range(count))}


def mmmu_pro_rows(count: int) -> dict[str, Mapping[str, Any]]:
    """Rows of 30 subjects."""
    return {f"test_S{n % 30}_{n // 30}": mmmu_pro_row(f"{n}", subject=f"S{n % 30}") for n in range(count)}


def mmstar_rows(count: int) -> dict[str, Mapping[str, Any]]:
    """Rows of the six categories."""
    return {f"{n}": mmstar_row(n, "Which?\nOptions: A: oak, B: fir", "A", CATEGORIES[n % 6]) for n in range(count)}


def hallusion_rows(count: int) -> dict[str, Mapping[str, Any]]:
    """Sets of four questions about two figures."""
    rows = {}
    for n in range(count):
        row = hallusion_row(str(n % 2), str(n % 4 // 2), set_id=str(n // 4))
        rows[f"VS_chart_{n // 4}_{n % 2}_{n % 4 // 2}"] = row
    return rows


def mathvista_rows(count: int) -> dict[str, Mapping[str, Any]]:
    """Rows of five tasks and two of seven skills each."""
    skills = [f"skill {n}" for n in range(7)]
    return {
        f"{n}": {"metadata": {"task": f"task {n % 5}", "skills": [skills[n % 7], skills[(n + 3) % 7]]}}
        for n in range(count)
    }


def mathverse_rows(count: int) -> dict[str, Mapping[str, Any]]:
    """Rows of three subjects and fifteen subfields."""
    labels = [{"subject": f"subject {n % 3}", "subfield": f"subfield {n}"} for n in range(15)]
    return {f"{n}": {"problem_index": f"{n}", "metadata": labels[n % 15]} for n in range(count)}


def dynamath_rows(count: int) -> dict[str, Mapping[str, Any]]:
    """Questions of ten variants, nine subjects, three levels."""
    return {
        f"{n // 10}_{n % 10 + 1}": {
            "id": f"{n // 10}",
            "variant": n % 10 + 1,
            "subject": f"subject {n // 10 % 9}",
            "knowledge_level": f"level {n // 10 % 3}",
        }
        for n in range(count)
    }


ROWS = {
    "mathvista": mathvista_rows,
    "mathvision": mathvision_rows,
    "mathverse_vo": mathverse_rows,
    "mmmu": mmmu_rows,
    "mmmu_pro_standard10": mmmu_pro_rows,
    "mmstar": mmstar_rows,
    "hallusion": hallusion_rows,
    "dynamath": dynamath_rows,
}


def main() -> None:
    """One line a benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    count = parser.parse_args().rows
    print(f"{'benchmark':<22} {'rows':>8} {'intervals s':>12} {'compare s':>10}")
    for task, rows_of in ROWS.items():
        benchmark = Benchmark(catalog()[task], rows_of(count))
        with tempfile.TemporaryDirectory() as folder:
            runs = Path(folder) / "a", Path(folder) / "b"
            intervals = max(write_large_run(runs[0], benchmark), write_large_run(runs[1], benchmark, more=50))
            before = time.process_time()
            compare(*runs)
            took = time.process_time() - before
        print(f"{task:<22} {count:>8} {intervals:>12.2f} {took:>10.2f}", flush=True)


if __name__ == "__main__":
    main()
