"""A benchmark of one's own, in a folder outside of this repository: run, judged again, compared; its faults."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from runs import MODEL, Finished, records_of

from avar_eval import evaluate
from avar_eval.errors import UsageError
from avar_eval.tasks.catalog import catalog, find_tasks
from avar_eval.tasks.files import DataError, read_rows
from avar_eval.tasks.folders import ENTRY_POINTS, INCLUDE_VARIABLE

CASES = json.loads((Path(__file__).parent / "broken_folders.json").read_text(encoding="utf-8"))
YAML = """\
task: squares
dataset_path: embedded
dataset_kwargs:
  embedded: !function rows.all_rows
test_split: test
doc_to_visual: !function task.doc_to_visual
doc_to_text: !function task.doc_to_text
doc_to_target: answer
metadata:
  version: 1.0
  description: which colour a square has
  id: number
  images: [picture]
  aliases: [my_squares]
"""
ROWS = """
from PIL import Image

COLOURS = ("red", "green", "blue", "white")


def all_rows(split):
    for number, colour in enumerate(COLOURS):
        yield {"number": str(number), "answer": colour, "picture": Image.new("RGB", (56, 56), colour)}
"""
TASK = """
from avar_eval.answers import judge_answer
from avar_eval.tasks.prompts import instruction, style_of
from .rows import COLOURS


def doc_to_visual(row):
    return [row["picture"]]


def doc_to_text(row, settings=None):
    return f"Which colour is the square: {', '.join(COLOURS)}?\\n" + instruction(style_of(settings), "One word.")


def judge(row, response, finish_reason=None):
    return judge_answer(response, answer=row["answer"], kind="text", finish_reason=finish_reason)


def cluster(row):
    return "dark" if row["answer"] in ("red", "blue") else "light"
"""


def write_benchmark(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name, text in (("squares.yaml", YAML), ("rows.py", ROWS), ("task.py", TASK)):
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def benchmarks(tmp_path: Path) -> Path:
    return write_benchmark(tmp_path / "mine" / "squares").parent


def test_it_runs_resumes_is_judged_again_and_compared(
    avar_eval: Callable[..., Finished], benchmarks: Path, tmp_path: Path
) -> None:
    run = ("--model", MODEL, "--tasks", "my_squares,shapes", "--limit", "3", "--include-path", str(benchmarks))
    done = avar_eval(*run, "--output", str(tmp_path / "a"))
    assert done.code == 0, done.stderr
    results = json.loads((tmp_path / "a" / "results.json").read_text())
    squares = results["tasks"]["squares"]
    assert squares["metrics"]["accuracy"]["n"] == squares["metrics"]["vas"]["n"] == 3
    assert results["protocol"]["tasks"]["squares"]["dataset"] == "embedded"
    records = [record for record in records_of(tmp_path / "a") if record["task"] == "squares"]
    assert {record["row_id"] for record in records} == {"0", "1", "2"}
    right = sum(record["judgement"]["correct"] for record in records)
    assert squares["metrics"]["accuracy"]["value"] == pytest.approx(right / 3)
    asked = json.loads((tmp_path / "a" / "asked.json").read_text())
    assert asked["squares"]["clusters"] == ["dark", "light", "dark"]

    whole = (tmp_path / "a" / "records.jsonl").read_bytes()
    (tmp_path / "a" / "records.jsonl").write_bytes(b"".join(whole.splitlines(keepends=True)[:2]))
    before = (tmp_path / "a" / "results.json").read_bytes()
    assert avar_eval(*run, "--output", str(tmp_path / "a")).code == 0
    assert (tmp_path / "a" / "results.json").read_bytes() == before
    assert (tmp_path / "a" / "records.jsonl").read_bytes() == whole

    assert avar_eval(*run, "--output", str(tmp_path / "b"), "--steer", "avar").code == 0
    scored = avar_eval("score", str(tmp_path / "a"), "--json", **{INCLUDE_VARIABLE: str(benchmarks)})
    assert scored.code == 0, scored.stderr
    assert json.loads(scored.stdout)["tasks"] == results["tasks"]
    compared = avar_eval("compare", str(tmp_path / "a"), str(tmp_path / "b"), "--json")
    assert {one["task"] for one in json.loads(compared.stdout)} == {"squares", "shapes"}, compared.stderr


def test_it_is_listed_and_its_name_is_offered(avar_eval: Callable[..., Finished], benchmarks: Path) -> None:
    listed = avar_eval("tasks", "--json", "--include-path", str(benchmarks))
    assert "squares" in [task["name"] for task in json.loads(listed.stdout)]
    assert "squares" not in avar_eval("tasks").stdout
    refused = avar_eval("--model", MODEL, "--tasks", "sqares", "--include-path", str(benchmarks))
    assert refused.code == 2
    assert "did you mean squares" in refused.stderr


def test_a_task_folder_itself_may_be_included(benchmarks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(INCLUDE_VARIABLE, str(benchmarks / "squares"))
    assert [entry.name for entry in find_tasks(["squares"])] == ["squares"]


def test_a_folder_is_included_from_python_and_one_that_holds_no_task_leaves_nothing_behind(
    benchmarks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(INCLUDE_VARIABLE, "")
    for wrong, says in ((tmp_path / "none", "is no folder"), (tmp_path / "empty", "holds no task")):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(UsageError, match=says):
            evaluate(MODEL, "squares", include_path=[benchmarks, wrong], output=tmp_path / "out")
        assert "squares" not in catalog()
    found = evaluate(MODEL, "squares", include_path=str(benchmarks), limit=2, max_new_tokens=4, output=tmp_path / "out")
    assert found.tasks["squares"].metrics["accuracy"].n == 2
    assert f"include_path={str(benchmarks)!r}" in found.protocol["command"]


@pytest.mark.parametrize("name", CASES)
def test_a_broken_folder_is_one_message_that_names_the_file(
    name: str, benchmarks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`file`: which file is changed; `old`, `new`: its change; `says`: what the message holds, beside the file."""
    case: dict[str, Any] = CASES[name]
    path = benchmarks / "squares" / case["file"]
    text = path.read_text(encoding="utf-8")
    assert case["old"] in text
    path.write_text(text.replace(case["old"], case["new"]), encoding="utf-8")
    monkeypatch.setenv(INCLUDE_VARIABLE, str(benchmarks))
    with pytest.raises(UsageError) as raised:
        find_tasks(["squares"])
    assert str(path) in str(raised.value)
    assert case["says"] in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_judge_that_fails_is_one_message_and_mended_the_run_goes_on(
    avar_eval: Callable[..., Finished], benchmarks: Path, tmp_path: Path
) -> None:
    path = benchmarks / "squares" / "task.py"
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole.replace('answer=row["answer"]', 'answer=row["gold"] if row["answer"] == "blue" else "red"'))
    run = ("--model", MODEL, "--tasks", "squares", "--include-path", str(benchmarks), "--max-new-tokens", "6")
    run += ("--batch-size", "1", "--attention", "off", "--output", str(tmp_path / "run"))
    failed = avar_eval(*run)
    assert failed.code == 1
    assert "Traceback" not in failed.stderr
    line = 1 + whole[: whole.index("    return judge_answer")].count("\n")
    said = " ".join(failed.stderr.split())
    assert f"row 2 of squares cannot be judged: KeyError('gold') in {path}, line {line};" in said
    kept = records_of(tmp_path / "run")
    path.write_text(whole, encoding="utf-8")
    done = avar_eval(*run)
    assert done.code == 0, done.stderr
    records = records_of(tmp_path / "run")
    assert records[: len(kept)] == kept, "what was judged stays"
    assert {record["row_id"] for record in records} == {"0", "1", "2", "3"}


def test_code_that_fails_at_a_row_costs_that_row(
    avar_eval: Callable[..., Finished], benchmarks: Path, tmp_path: Path
) -> None:
    path = benchmarks / "squares" / "task.py"
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole.replace('[row["picture"]]', '[row["picture"]] if row["number"] != "1" else 1 / 0'))
    run = ("--model", MODEL, "--tasks", "squares", "--include-path", str(benchmarks), "--max-new-tokens", "6")
    done = avar_eval(*run, "--attention", "off", "--causal", "off", "--output", str(tmp_path / "run"))
    assert done.code == 0, done.stderr
    assert {record["row_id"] for record in records_of(tmp_path / "run")} == {"0", "2", "3"}
    assert "ZeroDivisionError('division by zero') in" in " ".join((done.stderr + done.stdout).split())
    assert "Traceback" not in done.stderr


ROW = {"number": "1", "answer": "red", "picture": None}


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("return f", "return 1 / 0, f", "line 1 cannot be asked or judged: ZeroDivisionError('division by zero') in "),
        ("return f", "return None and f", "line 1: doc_to_text of squares gives null, not a text"),
        ("return judge_answer", "raise RuntimeError  # ", "line 1 cannot be asked or judged: RuntimeError() in "),
        ("return judge_answer", "return 5 or judge_answer", "line 1: judge of squares gives 5, not what judge_answer"),
    ],
)
def test_code_that_fails_at_a_row_of_a_file_is_told_with_its_line(
    old: str, new: str, says: str, benchmarks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = benchmarks / "squares" / "task.py"
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    monkeypatch.setenv(INCLUDE_VARIABLE, str(benchmarks))
    entry = catalog()["squares"]
    rows = tmp_path / "data" / entry.data / "rows.jsonl"
    rows.parent.mkdir(parents=True)
    rows.write_text(json.dumps(ROW) + "\n", encoding="utf-8")
    with pytest.raises(DataError) as raised:
        read_rows(entry, tmp_path / "data")
    assert says in str(raised.value)


def test_nothing_of_a_folder_is_imported_by_a_list(benchmarks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (benchmarks / "squares" / "task.py").write_text("raise SystemExit('imported')\n", encoding="utf-8")
    monkeypatch.setenv(INCLUDE_VARIABLE, str(benchmarks))
    assert "squares" in catalog()


@pytest.mark.parametrize("folder", ["missing", "empty"])
def test_a_folder_without_tasks_is_refused(folder: str, avar_eval: Callable[..., Finished], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused = avar_eval("tasks", "--include-path", str(tmp_path / folder))
    assert refused.code == 2
    assert str(tmp_path / folder) in refused.stderr


def test_an_installed_distribution_brings_tasks(tmp_path: Path) -> None:
    write_benchmark(tmp_path / "site" / "their_benchmarks" / "squares")
    (tmp_path / "site" / "their_benchmarks" / "__init__.py").touch()
    info = tmp_path / "site" / "their_benchmarks-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-benchmarks\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{ENTRY_POINTS}]\nall = their_benchmarks\n")
    code = f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r})\n"
    code += "from avar_eval.tasks.catalog import find_tasks, get_judge\n"
    code += "assert find_tasks(['squares'])[0].folder == 'squares'\n"
    code += "print(get_judge('squares')({'answer': 'red'}, '<answer>red</answer>', 'stop').correct)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "True\n", done.stderr

    (info / "entry_points.txt").write_text(f"[{ENTRY_POINTS}]\nall = gone_benchmarks\n")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "their-benchmarks names 'gone_benchmarks' as tasks" in done.stderr
