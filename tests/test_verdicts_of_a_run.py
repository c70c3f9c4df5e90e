"""A run of `avar-eval` with several samples, a judge and a prompt style; judged again and compared."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from judge_server import JudgeServer, serving
from runs import MODEL, Finished, records_of

from avar_eval.run.asking import Asking
from avar_eval.run.model import resolve
from avar_eval.tasks.prompts import BOXED, THINKING

Run = Callable[..., Finished]
OPTIONS = ("--model", MODEL, "--tasks", "shapes", "--limit", "3", "--max-new-tokens", "8", "--attention", "off")


@pytest.fixture(scope="module")
def judge() -> Iterator[JudgeServer]:
    with serving(lambda prompt, count: "Final answer: 7" if "Final answer: " in prompt else "SAME") as server:
        yield server


@pytest.fixture(scope="module")
def folder(avar_eval: Run, judge: JudgeServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three questions, two samples each, judged by a model, too, that finds all answers right."""
    folder = tmp_path_factory.mktemp("judged")
    done = avar_eval(*OPTIONS, *SAMPLED, "--judge", "m", "--judge-url", judge.url, "--output", str(folder))
    assert done.code == 0, done.stderr
    assert "judge %" in done.stdout
    assert "pass@2" in done.stdout
    return folder


SAMPLED = ("--temperature", "0.8", "--samples", "2")


def test_results_hold_samples_and_judge(folder: Path) -> None:
    results = json.loads((folder / "results.json").read_text())
    metrics = results["tasks"]["shapes"]["metrics"]
    assert {"accuracy", "official", "judge", "judge_error", "pass@2", "majority", "timeout"} <= set(metrics)
    assert metrics["judge"]["n"] == 6
    assert metrics["judge_error"]["value"] == 0
    assert results["protocol"]["judge"] == {"model": "m", "prompts": "judge-2"}
    assert all(record["judge"]["model"] == "m" for record in records_of(folder))


def test_again_it_asks_neither_model_nor_judge(avar_eval: Run, judge: JudgeServer, folder: Path) -> None:
    before = {name: (folder / name).read_bytes() for name in ("records.jsonl", "results.json", "judge.jsonl")}
    asked = judge.asked.total()
    done = avar_eval(*OPTIONS, *SAMPLED, "--judge", "m", "--judge-url", judge.url, "--output", str(folder))
    assert done.code == 0, done.stderr
    assert judge.asked.total() == asked
    assert {name: (folder / name).read_bytes() for name in before} == before


def test_scored_again_it_is_the_same(avar_eval: Run, folder: Path) -> None:
    before = {name: (folder / name).read_bytes() for name in ("records.jsonl", "results.json")}
    done = avar_eval("score", str(folder))
    assert done.code == 0, done.stderr
    assert {name: (folder / name).read_bytes() for name in before} == before


@pytest.mark.parametrize(("style", "instruction"), [("boxed", BOXED), ("thinking", THINKING)])
def test_the_prompt_style_is_asked_for_and_written_down(
    avar_eval: Run, tmp_path: Path, style: str, instruction: str
) -> None:
    done = avar_eval(*OPTIONS, "--prompt-style", style, "--output", str(tmp_path), "--json")
    assert done.code == 0, done.stderr
    assert json.loads(done.stdout)["protocol"]["prompt_style"] == style
    assert all(instruction in record["prompt"] for record in records_of(tmp_path))


def test_the_prompt_style_is_the_models_by_default() -> None:
    assert resolve(Asking(model="avar-tiny")).prompt_style == "thinking"
    assert resolve(Asking(model="owner/unregistered")).prompt_style == "thinking"
