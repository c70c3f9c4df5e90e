"""Finished runs of many rows, as their files, without a model."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from avar_eval.outcomes import Outcome
from avar_eval.results.metrics import Benchmark
from avar_eval.results.schema import Results, TaskRecords, write_task_records
from avar_eval.results.summary import left_out_rows, task_result


def write_large_run(folder: Path, benchmark: Benchmark, more: int = 0) -> float:
    """Every third row is right, with `more` every so many-th as well; processor seconds that the intervals took."""
    task, rows = benchmark.entry.name, benchmark.rows
    right = [number % 3 == 0 or bool(more and number % more == 0) for number in range(len(rows))]
    outcomes = [Outcome(row, 0, "scored", "", one) for row, one in zip(rows, right, strict=True)]
    before = time.thread_time()
    result = task_result(benchmark, outcomes, {}, left_out_rows({}))
    took = time.thread_time() - before
    lines = [
        {"key": row, "task": task, "row_id": row, "sample": 0, "response": "", "finish_reason": "stop",
         "judgement": {"state": "scored", "extracted": "", "correct": one}}
        for row, one in zip(rows, right, strict=True)
    ]  # fmt: skip
    folder.mkdir()
    (folder / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    Results(run_id="0", tasks={task: result}, protocol={"model": folder.name}).write(folder)
    strata = None if benchmark.stratum is None else [benchmark.stratum(row) for row in rows]
    worth = [benchmark.guess_chance(row) for row in rows]
    kept = TaskRecords(
        keys=list(rows),
        clusters=[benchmark.cluster(row) for row in rows],
        strata=strata,
        guess_chances=worth if any(of is not None for of in worth) else None,
    )
    write_task_records(folder, {task: kept})
    return took


def mathvision_rows(count: int) -> dict[str, Mapping[str, Any]]:
    """Rows of a benchmark with 96 sub-scores."""
    return {f"{n}": {"subject": f"s{n % 16}", "level": n % 5 + 1, "id": str(n)} for n in range(count)}
