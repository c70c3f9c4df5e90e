"""Finished runs of mathvista that nobody made: as many rows, with whatever responses a test needs."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from runs import mathvista_row

from avar_eval.results.schema import Metric, Results, TaskRecords, TaskResult, write_task_records

PROMPT = "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>{question}<|im_end|>\n<|im_start|>assistant\n"


def invented_run(
    folder: Path,
    responses: Sequence[str],
    *,
    right: Sequence[bool] | None = None,
    model: str = "invented",
    changes: Mapping[int, Mapping[str, Any]] | None = None,
) -> Path:
    """A run folder with one row a response. right: verdicts, by default all. changes: fields of records, by row."""
    folder.mkdir(parents=True)
    records = []
    for number, response in enumerate(responses):
        correct = right is None or right[number]
        records.append(
            {
                "key": hashlib.sha256(f"{model}{number}".encode()).hexdigest(),
                "task": "mathvista",
                "row_id": str(number + 1),
                "sample": 0,
                "prompt": PROMPT.format(question=f"How many jars stand on shelf {number + 1}?"),
                "prompt_token_ids": [1, 2, 3],
                "response_token_ids": [4, 5],
                "response": response,
                "finish_reason": "stop",
                "judgement": {
                    "state": "scored",
                    "extracted": "7" if correct else "8",
                    "correct": correct,
                    "grader": "strict-5",
                    "official": correct,
                    "reason": None,
                },
                "reference": "7",
                "image_sha256": None,
                **(changes or {}).get(number, {}),
            }
        )
    (folder / "records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    keys = [str(record["key"]) for record in records]
    write_task_records(folder, {"mathvista": TaskRecords(keys=keys, clusters=keys)})
    share = sum(bool(record["judgement"]["correct"]) for record in records if record["judgement"]) / len(records)
    found = TaskResult(metrics={"accuracy": Metric(value=share, ci95=(0, 1), n=len(records))})
    Results(run_id="00aa11bb22cc33dd", tasks={"mathvista": found}, protocol={"model": model, "command": ""}).write(
        folder
    )
    return folder


def invented_data(folder: Path, rows: int) -> Path:
    """A data folder with so many rows, each with a picture of its own."""
    (folder / "mathvista" / "images").mkdir(parents=True)
    lines = [mathvista_row(str(number + 1)) for number in range(rows)]
    for number, row in enumerate(lines):
        colour = (number % 256, number // 256, 90)
        Image.new("RGB", (64, 48), colour).save(folder / "mathvista" / row["image"])
    (folder / "mathvista" / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    return folder
