"""Rows through the whole synthesis against the actors of the embedded world: rows a second, and memory.

    python tests/benchmarks/synthesis_speed.py --rows 10000

The endpoint runs in a process of its own and answers at once. Rows a second are of this process' own time on the CPU,
which is what remains when the endpoint takes none. Memory is the peak of each stage: it must not grow with the rows.
"""

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "synthesis"))

from actors import Actors, playing, recipe

from avar_eval.recipes.synthesis.pipeline import synthesize
from avar_eval.recipes.synthesis.recipe import parse_recipe
from avar_eval.recipes.synthesis.rows import ALL_STAGES


def serve(count: int, pipe: Connection) -> None:
    with playing(Actors(count=count, keep=False)) as actors:
        pipe.send(actors.url)
        pipe.recv()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--samples", type=int, default=4)
    given = parser.parse_args()
    ours, theirs = multiprocessing.Pipe()
    endpoint = multiprocessing.get_context("spawn").Process(target=serve, args=(given.rows, theirs), daemon=True)
    endpoint.start()
    content = recipe(ours.recv(), given.rows)
    content["stages"]["reason"]["samples"] = given.samples
    made = parse_recipe(content, "the benchmark")
    total = 0.0
    with tempfile.TemporaryDirectory() as folder:
        print("stage      wall s   own CPU s   rows/s of own CPU   peak MB")
        for stage in ALL_STAGES:
            wall, cpu = time.monotonic(), time.process_time()
            report = synthesize(made, Path(folder), stage=stage, shown=False)
            spent = time.process_time() - cpu
            total += spent
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(
                f"{stage:8} {time.monotonic() - wall:8.1f} {spent:11.1f} {given.rows / spent:19.0f} {peak:9.0f}",
                flush=True,
            )
        kept = sum(counts["kept"] for counts in report["sources"].values())
    print(f"{kept} rows finished, {kept / total:.0f} a second of own CPU time")
    ours.send(None)
    endpoint.join()


if __name__ == "__main__":
    main()
