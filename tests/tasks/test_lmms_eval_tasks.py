"""Tasks in lmms-eval's own form: asked in its words, measured by its metrics, no strict verdict unless judged."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from runs import MODEL, Finished, records_of

from avar_eval.errors import UsageError
from avar_eval.tasks.catalog import find_avar_tasks, find_tasks
from avar_eval.tasks.lmms_eval_names import lmms_eval_files

COLOURS = ("red", "green", "blue")
YAML = """\
task: dots
dataset_path: json
dataset_kwargs:
  data_files:
    test: rows.jsonl
  token: True
test_split: test
output_type: generate_until
doc_to_visual: !function utils.visual
doc_to_text: !function utils.text
doc_to_target: answer
process_results: !function utils.results
metric_list:
  - metric: letters
    aggregation: mean
    higher_is_better: true
  - metric: longest
    aggregation: !function utils.longest
    higher_is_better: true
lmms_eval_specific_kwargs:
  default:
    post_prompt: "\\nAnswer with a single word."
metadata:
  - version: 0.5
"""
UTILS = """
from PIL import Image


def visual(doc):
    return [Image.new("RGB", (56, 56), doc["answer"])]


def text(doc, lmms_eval_specific_kwargs=None):
    return doc["question"] + lmms_eval_specific_kwargs["post_prompt"]


def results(doc, results):
    return {"letters": len(results[0]), "longest": results[0]}


def longest(answers):
    return max(map(len, answers))
"""
JUDGE = """
from avar_eval.answers import judge_answer


def judge(row, response, finish_reason=None):
    return judge_answer(response, answer=row["answer"], kind="text", finish_reason=finish_reason)
"""


@pytest.fixture
def dots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "theirs" / "dots"
    folder.mkdir(parents=True)
    rows = [json.dumps({"question": "Which colour is this?", "answer": colour}) + "\n" for colour in COLOURS]
    for name, text in (("dots.yaml", YAML), ("utils.py", UTILS), ("rows.jsonl", "".join(rows))):
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_lmms_eval_s_metrics_stand_beside_vas_and_accuracy_is_absent(
    avar_eval: Callable[..., Finished], dots: Path, tmp_path: Path
) -> None:
    run = ("--model", MODEL, "--tasks", "dots", "--include-path", str(dots), "--max-new-tokens", "12")
    done = avar_eval(*run, "--output", str(tmp_path / "run"))
    assert done.code == 0, done.stderr
    text = (tmp_path / "run" / "results.json").read_text()
    task = json.loads(text)["tasks"]["dots"]
    lengths = [len(record["response"].strip()) for record in records_of(tmp_path / "run")]
    assert len(lengths) == 3
    assert task["benchmark"]["official"]["letters"]["value"] == pytest.approx(sum(lengths) / 3)
    assert task["benchmark"]["official"]["longest"]["value"] == max(lengths)
    assert task["metrics"]["accuracy"] == {"value": None, "ci95": None, "n": 0}
    assert task["metrics"]["vas"]["n"] == task["metrics"]["truncated"]["n"] == 3
    assert "no accuracy" in done.stdout
    assert all("single word." in record["prompt"] for record in records_of(tmp_path / "run"))
    assert {record["row_id"]: record["reference"] for record in records_of(tmp_path / "run")} == dict(
        zip("012", COLOURS, strict=True)
    )
    assert avar_eval(*run, "--output", str(tmp_path / "run")).code == 0
    assert (tmp_path / "run" / "results.json").read_text() == text
    shown = avar_eval(
        "view",
        str(tmp_path / "run"),
        "--include-path",
        str(dots),
        "--output",
        str(tmp_path / "page"),
        "--overlays",
        "1",
    )
    assert (shown.code, "note:" in shown.stderr) == (0, False), shown.stderr
    assert len(list((tmp_path / "page" / "pictures").iterdir())) == 3

    command = [sys.executable, "-m", "lmms_eval", "--model", "avar", "--tasks", "dots", "--include_path", str(dots)]
    command += ["--model_args", f"pretrained={MODEL},output={tmp_path / 'run'},max_new_tokens=12", "--batch_size", "16"]
    subprocess.run([*command, "--output_path", str(tmp_path / "theirs")], check=True, capture_output=True, cwd=tmp_path)
    (path,) = (tmp_path / "theirs").glob("**/*_results.json")
    theirs = json.loads(path.read_text())["results"]["dots"]
    for name, metric in task["benchmark"]["official"].items():
        assert theirs[f"{name},none"] == pytest.approx(metric["value"])


def test_a_judge_beside_it_gives_the_strict_verdict(
    avar_eval: Callable[..., Finished], dots: Path, tmp_path: Path
) -> None:
    (dots / "task.py").write_text(JUDGE, encoding="utf-8")
    run = ("--model", MODEL, "--tasks", "dots", "--include-path", str(dots), "--max-new-tokens", "12")
    done = avar_eval(*run, "--attention", "off", "--output", str(tmp_path / "run"))
    assert done.code == 0, done.stderr
    task = json.loads((tmp_path / "run" / "results.json").read_text())["tasks"]["dots"]
    right = [record["judgement"]["correct"] for record in records_of(tmp_path / "run")]
    assert task["metrics"]["accuracy"]["value"] == sum(right) / 3
    assert set(task["benchmark"]["official"]) == {"letters", "longest"}


def test_lmms_eval_s_own_tasks_are_found_and_listed_apart(avar_eval: Callable[..., Finished]) -> None:
    assert {"chartqa", "ocrbench", "ai2d"} <= lmms_eval_files().keys()
    found = find_tasks(["chartqa", "ocrbench"])
    assert [(entry.form, entry.headline) for entry in found] == [
        ("lmms-eval", "relaxed_overall"),
        ("lmms-eval", "ocrbench_accuracy"),
    ]
    with pytest.raises(UsageError, match=r"did you mean .*chartqa"):
        find_tasks(["chartqaa"])
    with pytest.raises(UsageError, match="in lmms-eval's form"):
        find_avar_tasks(["chartqa"])
    listed = json.loads(avar_eval("tasks", "--all", "--json").stdout)
    forms = {task["name"]: task["form"] for task in listed}
    assert forms["chartqa"] == "lmms-eval"
    assert forms["shapes"] == "avar-eval"
    assert "chartqa" not in avar_eval("tasks").stdout
