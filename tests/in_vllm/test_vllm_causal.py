"""Causal columns of a run whose answers vLLM gave, killed in its passes: those of a run by transformers alone."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from runs import MODEL, records_of

if importlib.util.find_spec("vllm") is None:
    pytest.skip("vLLM is not installed: .ci/vllm makes an environment with it", allow_module_level=True)

RUN = ("--model", MODEL, "--tasks", "shapes", "--limit", "6", "--max-new-tokens", "128")
FULL = (*RUN, "--causal", "full", "--knockout-windows", "2", "--batch-size", "3", "--dtype", "float32")
PROGRAM = "import sys, dying; from avar_eval.cli import main\nsys.argv = ['avar-eval', *sys.argv[1:]]\nmain()"


def run(output: Path, *options: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    own = {"VLLM_CPU_CI_ENV": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
    own["PYTHONPATH"] += os.pathsep + os.environ.get("PYTHONPATH", "")
    command = [sys.executable, "-c", PROGRAM, *FULL, *options, "--output", str(output)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | own | variables)


def lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines()


def metrics(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "results.json").read_text())["tasks"]["shapes"]
    return found


def test_columns_are_those_of_transformers_also_when_killed_in_a_pass(tmp_path: Path) -> None:
    folder, reference, calls = tmp_path / "vllm", tmp_path / "transformers", tmp_path / "calls"
    by_vllm = ("--backend", "vllm", "--max-model-len", "1024", "--gpu-memory", "0.1", "--eager")
    killed = run(folder, *by_vllm, CALLS=str(calls), DIE_AT="2")
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-3000:]
    asked, altered = records_of(folder), lines(folder / "altered.jsonl")  # measured ones are there twice, until the end
    assert len({record["key"] for record in asked}) == 6
    assert all(record["causal"] is None for record in asked)
    done = run(folder, *by_vllm, CALLS=str(calls))
    assert done.returncode == 0, done.stderr[-3000:]
    found = {record["key"]: record for record in records_of(folder)}
    assert len(found) == len(records_of(folder)) == 6
    assert {key: record["response"] for key, record in found.items()} == {of["key"]: of["response"] for of in asked}
    assert lines(folder / "altered.jsonl") == altered, "nothing is asked twice"
    assert not calls.exists(), "transformers generated nothing"

    plain = run(reference, "--backend", "transformers", CALLS=str(calls))
    assert plain.returncode == 0, plain.stderr[-3000:]
    by_row = {record["row_id"]: record for record in records_of(reference)}
    for record in found.values():
        other = by_row[record["row_id"]]
        assert record["response_token_ids"] == other["response_token_ids"]
        own, theirs = record["causal"], other["causal"]
        for name, value in theirs.items():
            if isinstance(value, float):
                assert own[name] == pytest.approx(value, rel=1e-3, abs=1e-3), name
        assert own["tokens"] == theirs["tokens"] == len(record["response_token_ids"])
        for one, another in zip(own["knockout_windows"], theirs["knockout_windows"], strict=True):
            assert one["layers"] == another["layers"]
            assert one["answer"] == pytest.approx(another["answer"], rel=1e-3, abs=1e-3)
            assert one["response"] == pytest.approx(another["response"], rel=1e-3, abs=1e-3)
        for name in ("blind", "swap"):
            if theirs[name]:
                differing = {"key": ""}  # a key holds the backend
                assert own[name] | differing == theirs[name] | differing
    told, wanted = metrics(folder), metrics(reference)
    assert told["metrics"].keys() == wanted["metrics"].keys()
    for name, metric in wanted["metrics"].items():
        assert told["metrics"][name]["n"] == metric["n"], name
        assert told["metrics"][name]["value"] == (metric["value"] and pytest.approx(metric["value"], rel=1e-3)), name
    assert [of["layers"] for of in told["knockout_windows"]] == [of["layers"] for of in wanted["knockout_windows"]]
