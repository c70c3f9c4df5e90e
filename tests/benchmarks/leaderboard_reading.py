"""How long the leaderboard takes to read all of its runs, and how much memory: there is no index beside the files.

    python tests/benchmarks/leaderboard_reading.py

Runs are of one task (as of a training that is watched), of two, and of the paper's eight, each task with 20 metrics of
its own under two verdicts. Each line: seconds of `Store.read`, with the files in the system's cache, the size of the
files and the memory that the rows and the reading took.
"""

import hashlib
import json
import resource
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from avar_eval.leaderboard.history import HISTORY_NAME, HistoryLine, now
from avar_eval.leaderboard.store import Store
from avar_eval.results.schema import Headline, Metric, Results, TaskResult

RUNS = (1_000, 10_000)
OWN_METRICS = 20


def results(run_id: str, tasks: int) -> Results:
    """A run as `avar-eval` writes it."""
    metric = Metric(value=0.43210987654, ci95=(0.401234567, 0.461234567), n=1000)
    shares = ("accuracy", "official", "vas", "vas_response", "ratio_of_sums", "truncated", "unparsed", "timeout")
    own = {f"category {number}": metric for number in range(OWN_METRICS)}
    result = TaskResult(
        metrics=dict.fromkeys(shares, metric),
        benchmark={"strict": own, "official": own},
        headline=Headline(name="accuracy", values={"strict": metric, "official": metric}),
        vas_band="wide",
    )
    names = [f"task-{number}" for number in range(tasks)]
    protocol = {
        "model": f"model-{run_id[-2:]}",
        "revision": "0123456789" * 4,
        "weights_sha256": "ab" * 32,
        "system_prompt": "You solve problems about images. " * 10,
        "decoding": {"temperature": 0.0, "top_p": 1.0, "max_new_tokens": 4096, "samples": 1},
        "steering": None,
        "tasks": {name: {"version": 1, "dataset": "hub/name", "revision": "0" * 40, "split": "test"} for name in names},
        "limit": None,
        "prompt_sha256": dict.fromkeys(names, "12" * 32),
        "trained_on": [],
        "command": "avar-eval --model model --tasks tasks",
    }
    return Results(run_id=run_id, tasks=dict.fromkeys(names, result), protocol=protocol)


def fill(store: Store, count: int, tasks: int) -> None:
    """Put runs into the store as `Store.add` does, without the fsync that it waits for."""
    store.runs.mkdir(parents=True)
    history = []
    text = results("f" * 16, tasks).to_json()
    for number in range(count):
        run_id = f"{number:016x}"
        content = text.replace("f" * 16, run_id)
        (store.runs / f"{run_id}.json").write_text(content, encoding="utf-8")
        sha256 = hashlib.sha256(content.encode()).hexdigest()
        names = [f"task-{number}" for number in range(tasks)]
        history.append(HistoryLine(now(), "added", run_id, sha256, names, "model", names, f"avar-runs/{run_id}"))
    lines = (json.dumps(asdict(line)) + "\n" for line in history)
    (store.path / HISTORY_NAME).write_text("".join(lines), encoding="utf-8")


def measure(count: int, tasks: int) -> None:
    """Print one line. In a process of its own, so that memory is this measurement's."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        fill(store, count, tasks)
        size = sum(path.stat().st_size for path in store.runs.iterdir())
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.perf_counter()
        rows, skipped = store.read()
        seconds = time.perf_counter() - start
        memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    if len(rows) != count * tasks or skipped:
        raise SystemExit(f"{len(rows)} rows were read and {len(skipped)} files skipped")
    print(
        json.dumps(
            {"runs": count, "tasks": tasks, "seconds": round(seconds, 2), "files_mb": size // 2**20, "mb": int(memory)}
        ),
        flush=True,
    )


if __name__ == "__main__":
    if sys.argv[1:]:
        measure(int(sys.argv[1]), int(sys.argv[2]))
    else:
        import subprocess

        for tasks in (1, 2, 8):
            for count in RUNS:
                subprocess.run([sys.executable, __file__, str(count), str(tasks)], check=True)
