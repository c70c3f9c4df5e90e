"""lmms-eval's own command line runs our model and our tasks, and finds the same numbers as our records hold."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from runs import MODEL, records_of

from avar_eval.records.record import Record
from avar_eval.results.metrics import Benchmark
from avar_eval.results.summary import attention_means, left_out_rows, task_result
from avar_eval.tasks.catalog import TASKS_FOLDER, catalog

LIMIT = 6


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str]:
    """The folder of our records, lmms-eval's results of the task and what it printed."""
    folder = tmp_path_factory.mktemp("lmms-eval")
    command = [sys.executable, "-m", "lmms_eval", "--model", "avar", "--tasks", "shapes", "--limit", str(LIMIT)]
    command += ["--model_args", f"pretrained={MODEL},output={folder / 'ours'},attention_samples=4", "--batch_size", "3"]
    command += ["--include_path", str(TASKS_FOLDER), "--output_path", str(folder / "theirs")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "cache")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder)
    assert "Error during evaluation" not in done.stderr, done.stderr  # its exit code is 0 all the same
    (path,) = (folder / "theirs").glob("**/*_results.json")
    results: dict[str, Any] = json.loads(path.read_text())["results"]["shapes"]
    return folder / "ours", results, done.stdout


def test_every_question_is_recorded_and_judged(run: tuple[Path, dict[str, Any], str]) -> None:
    records = records_of(run[0])
    assert len({record["key"] for record in records}) == len(records) == LIMIT
    assert all(record["judgement"] for record in records)
    assert sum(record["attention"] is not None for record in records) == 4


@pytest.mark.parametrize("metric", ["accuracy", "vas", "vas_response", "truncated", "unparsed"])
def test_its_numbers_are_ours(run: tuple[Path, dict[str, Any], str], metric: str) -> None:
    folder, theirs, printed = run
    records = [Record.model_validate(record) for record in records_of(folder)]
    attention = attention_means([record.attention for record in records if record.attention])
    benchmark = Benchmark(catalog()["shapes"], {})
    result = task_result(benchmark, [record.outcome() for record in records], attention, left_out_rows({}))
    ours = result.metrics[metric]
    assert ours.value is not None
    assert math.isclose(theirs[f"{metric},none"], ours.value, rel_tol=1e-9)
    assert f"|{metric}" in printed


def test_its_prompts_and_responses_are_those_of_avar_eval(
    avar_eval: Any, run: tuple[Path, dict[str, Any], str], tmp_path: Path
) -> None:
    options = ("--limit", str(LIMIT), "--batch-size", "3", "--attention-samples", "4", "--causal", "off")
    done = avar_eval("--model", MODEL, "--tasks", "shapes", *options, "--output", str(tmp_path))
    assert done.code == 0, done.stderr
    assert records_of(tmp_path) == records_of(run[0])
