"""`avar-eval score` and `avar-eval compare`: judging without generating, and what two runs differ in."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from judge_server import serving
from runs import mathvista_row
from scipy.stats import binomtest, permutation_test
from typer.testing import CliRunner

from avar_eval.cli import app
from avar_eval.errors import AvarError
from avar_eval.judge.model import JudgeModel
from avar_eval.leaderboard.store import Store, default_store
from avar_eval.records.book import RecordBookError
from avar_eval.records.record import JudgementRecord, Record
from avar_eval.results.compare import CompareError, compare
from avar_eval.results.metrics import Benchmark
from avar_eval.results.schema import Results, ResultsError, TaskRecords, read_results, run_id, write_task_records
from avar_eval.results.summary import attention_means, left_out_rows, task_result
from avar_eval.score.rescore import score_run
from avar_eval.score.response_file import ResponsesError, score_responses, scores_to_json
from avar_eval.statistics import holm
from avar_eval.tasks.catalog import catalog, task_hooks
from avar_eval.tasks.files import DataError, rows_by_id

HEAVY = ("torch", "transformers", "lmms_eval", "datasets", "trl", "httpx")
ROWS = 40
Lines = list[dict[str, Any]]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """MathVista rows without pictures; every answer is 7."""
    folder = tmp_path / "data" / "mathvista"
    folder.mkdir(parents=True)
    (folder / "rows.jsonl").write_text("".join(json.dumps(mathvista_row(str(n))) + "\n" for n in range(ROWS)))
    return folder.parent


@pytest.fixture
def score(tmp_path: Path, data: Path) -> Callable[..., Any]:
    """Scores lines (or a file's bytes) as MathVista responses; gives the models' results and the output lines."""

    def score(lines: Lines | bytes, judge: JudgeModel | None = None) -> Any:
        file, output = tmp_path / "responses.jsonl", tmp_path / "judged.jsonl"
        file.write_bytes(lines if isinstance(lines, bytes) else "".join(json.dumps(x) + "\n" for x in lines).encode())
        scored = score_responses(catalog()["mathvista"], file, data, output, judge)
        return list(scored), [json.loads(line) for line in output.read_text().splitlines()]

    return score


def answers(n: int, right: int, **more: Any) -> Lines:
    """n responses, the first of them right."""
    return [{"id": str(i), "response": f"<answer>{7 if i < right else 8}</answer>", **more} for i in range(n)]


def test_lines_keep_what_they_had_and_gain_judgements(score: Callable[..., Any]) -> None:
    lines = [
        {"id": "3", "response": "<answer>7</answer>", "note": "né"},
        {"id": "1", "response": "<think> it is 7", "finish_reason": "length"},
        {"id": "2", "response": "I do not \ud800 know."},
        {"id": 4, "response": "The answer is 9.", "finish_reason": "stop"},
    ]
    _, judged = score(lines)
    assert [line | {"extracted": 0, "state": 0, "correct": 0, "official": 0} for line in lines] == [
        line | {"extracted": 0, "state": 0, "correct": 0, "official": 0} for line in judged
    ]
    assert [(line["state"], line["extracted"], line["correct"]) for line in judged] == [
        ("scored", "7", True),
        ("truncated", None, False),
        ("unparsed", None, False),
        ("scored", "9", False),
    ]


def test_what_is_no_text_is_left_out_and_named(score: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    lines = answers(20, 10)
    found: dict[str, Any] = {"2": None, "5": 7, "11": ["7"], "12": {"text": "7"}, "13": True}
    for line in lines:
        line["response"] = found.get(line["id"], line["response"])
    (one,), judged = score(lines)
    accuracy = one.result.metrics["accuracy"]
    assert (accuracy.n, accuracy.value) == (15, 8 / 15)
    assert {"2", "5", "11", "12", "13"} <= set(one.result.left_out.ids)
    assert [line["id"] for line in judged] == [line["id"] for line in lines]
    for line in judged:
        left_out = line["id"] in found
        assert (line["state"] == "no_text") is (line["correct"] is None) is left_out
    said = capsys.readouterr().err
    assert "5 of 20 lines" in said
    for number, kind in ((3, "null"), (6, "a number"), (12, "a list"), (13, "an object"), (14, "true or false")):
        assert f"line {number} (id '{number - 1}') has no text `response` but {kind}" in said


def test_numbers_are_by_model(score: Callable[..., Any]) -> None:
    scored, _ = score(answers(ROWS, 30, model="a") + answers(20, 5, model="b"))
    assert [one.model for one in scored] == ["a", "b"]
    wilson = binomtest(30, ROWS).proportion_ci(method="wilson")
    accuracy = scored[0].result.metrics["accuracy"]
    assert (accuracy.value, accuracy.n) == (0.75, ROWS)
    assert accuracy.ci95 == pytest.approx((wilson.low, wilson.high))
    assert scored[1].result.metrics["accuracy"].value == 0.25
    assert scored[0].result.left_out.n == 0
    assert scored[1].result.left_out.ids == [str(n) for n in range(20, ROWS)]
    assert scored[0].result.headline is not None
    assert scored[0].result.headline.values["strict"] == accuracy


def test_missing_rows_count_where_the_benchmark_says_so(data: Path, tmp_path: Path) -> None:
    entry = catalog()["mathvista"].model_copy(update={"missing_is_wrong": True})
    file = tmp_path / "responses.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in answers(10, 10)))
    (one,) = score_responses(entry, file, data, None)
    assert (one.result.metrics["accuracy"].value, one.result.metrics["accuracy"].n) == (0.25, ROWS)
    assert (one.result.metrics["unparsed"].value, one.result.metrics["unparsed"].n) == (0.0, 10)
    assert one.result.left_out.reason == "no response, counted as not right"


def test_thousands_of_models_share_what_does_not_depend_on_them(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = catalog()["mathvista"].model_copy(update={"missing_is_wrong": True})
    hooks, asked = task_hooks("mathvista"), []
    monkeypatch.setattr(hooks, "parts", lambda rows, parts=hooks.parts: asked.append(len(rows)) or parts(rows))
    lines = [{"id": str(n % ROWS), "response": "<answer>7</answer>", "model": f"m{n}"} for n in range(300)]
    file = tmp_path / "responses.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    scored = list(score_responses(entry, file, data, None))
    assert asked == [ROWS]
    assert {one.result.metrics["accuracy"].value for one in scored} == {1 / ROWS}
    assert json.loads("".join(scores_to_json(scored))) == {
        one.model: one.result.model_dump(mode="json") for one in scored
    }
    assert json.loads("".join(scores_to_json([]))) == {}


def test_the_order_of_the_lines_changes_no_interval(data: Path, tmp_path: Path) -> None:
    file, lines = tmp_path / "responses.jsonl", answers(ROWS, 13)
    results = []
    for order in (lines, lines[::-1]):
        file.write_text("".join(json.dumps(line) + "\n" for line in order))
        results += [one.result for one in score_responses(catalog()["mathvista"], file, data, None)]
    assert results[0] == results[1]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (b"", "is empty"),
        (b'{"id": "1", "response": "7"}\n{"id": "2", "resp', "line 2 breaks off"),
        (b'{"id": "1", "response": }\n', "line 1 cannot be read"),
        (b"[" * 100_000 + b"\n", "line 1 cannot be read"),
        (b"\xff\xfe\n", "line 1 cannot be read"),
        (b"[1]\n", "line 1 has no `id`"),
        (b'{"response": "7"}\n', "line 1 has no `id`"),
        (b'{"id": true, "response": "7"}\n', "line 1 has no `id`"),
        (b'{"id": "1"}\n', "line 1 .id '1'. has no text `response`"),
        (b'{"id": "1", "response": null}\n', "line 1 .id '1'. has no text `response`"),
        (b'{"id": "1", "response": "7", "model": 3}\n', "`model` is no text"),
        (
            b'{"id": "1", "response": "7", "finish_reason": "eos"}\n',
            "is stop, length or null, not 'eos'",
        ),
        ([{"id": "x", "response": "7"}], "1 of 1 ids are no row of mathvista: 'x'; its rows' ids look like '0'"),
        ([{"id": "1", "response": "7"}, {"id": 1, "response": "8"}], "lines 1 and 2 both answer row '1'"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(
    score: Callable[..., Any], tmp_path: Path, lines: Lines | bytes, expected: str
) -> None:
    with pytest.raises(ResponsesError, match=expected):
        score(lines)
    assert not (tmp_path / "judged.jsonl").exists()


def workbook(path: Path, lines: Lines) -> Path:
    from openpyxl import Workbook

    book = Workbook()
    book.active.append(list(lines[0]))
    for line in lines:
        book.active.append(list(line.values()))
    book.save(path)
    return path


def test_other_harnesses_files_are_read(data: Path, tmp_path: Path) -> None:
    sample = {"target": "7", "resp_hash": "x", "filtered_resps": "7"}
    lmms_eval = tmp_path / "20260101_samples_mathvista.jsonl"
    lines = [sample | {"doc_id": n, "resps": [f"<answer>{7 if n < 30 else 8}</answer>"]} for n in range(ROWS - 1)]
    lines.append(sample | {"doc_id": ROWS - 1, "filtered_resps": "<answer>7</answer>"})
    lmms_eval.write_text("".join(json.dumps(line) + "\n" for line in lines))
    table = [{"index": n, "question": "?", "prediction": f"<answer>{7 if n < 31 else 8}</answer>"} for n in range(ROWS)]
    tsv = tmp_path / "model_MathVista.tsv"
    tsv.write_text("index\tquestion\tprediction\n" + "".join("\t".join(map(str, x.values())) + "\n" for x in table))
    for file in (lmms_eval, workbook(tmp_path / "model_MathVista.xlsx", table), tsv):
        (one,) = score_responses(catalog()["mathvista"], file, data, None, model="elsewhere")
        accuracy = one.result.metrics["accuracy"]
        assert (one.model, accuracy.value, accuracy.n) == ("elsewhere", 31 / ROWS, ROWS), file


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.xlsx", b"no workbook", "line 1: it is no workbook"),
        ("a.tsv", b"id\tanswer\n1\t7\n", "the columns `index` and `prediction`"),
        ("a.tsv", b"index\tprediction\n999\t7\n", "1 of 1 ids are no row of mathvista"),
        ("a.jsonl", b'{"doc_id": 40, "resps": ["7"]}\n', "mathvista has 40 rows, and no row 40"),
        ("a.jsonl", b'{"doc_id": -1, "resps": ["7"]}\n', "no row -1"),
        ("a.jsonl", b'{"doc_id": 1, "resps": []}\n', "has no text `response` but a list"),
    ],
)
def test_what_is_wrong_with_another_harnesses_file_is_said(
    data: Path, tmp_path: Path, name: str, content: bytes, expected: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ResponsesError, match=expected):
        score_responses(catalog()["mathvista"], tmp_path / name, data, None)


def test_rows_in_another_order_are_noticed_by_their_answers(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "samples.jsonl"
    file.write_text("".join(json.dumps({"doc_id": n, "resps": ["7"], "target": "5"}) + "\n" for n in range(4)))
    list(score_responses(catalog()["mathvista"], file, data, None))
    assert "only 0 of 4 targets are the answers of the rows in these places" in capsys.readouterr().err


def test_responses_of_elsewhere_become_rows_as_reported(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "responses.jsonl"
    lines = answers(ROWS, 30, model="a") + answers(20, 5, model="b")
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    command = ["score", "--task", "mathvista", "--responses", str(file), "--data-dir", str(data), "--add"]
    for _ in range(2):
        done = CliRunner().invoke(app, command, catch_exceptions=False)
        assert done.exit_code == 0
    rows = {row.model: row for row in Store(default_store()).rows()}
    assert {name: (row.score, row.n, row.left_out, row.backend, row.mark, row.vas) for name, row in rows.items()} == {
        "a": (0.75, ROWS, 0, "external", "as reported", None),
        "b": (0.25, 20, 20, "external", "as reported", None),
    }
    assert {row.temperature for row in rows.values()} == {None}
    assert rows["a"].grader is not None
    file.write_text("".join(json.dumps(line) + "\n" for line in answers(ROWS, 31, model="a")))
    CliRunner().invoke(app, command, catch_exceptions=False)
    assert len(Store(default_store()).rows(model="a")) == 2, "other responses are another run"


def test_a_row_needs_a_model(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "responses.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in answers(3, 3)))
    command = ["score", "--task", "mathvista", "--responses", str(file), "--data-dir", str(data), "--add"]
    assert "give --model NAME with --add" in str(CliRunner().invoke(app, command).exception)
    assert CliRunner().invoke(app, [*command, "--model", "mine"]).exit_code == 0
    assert [row.model for row in Store(default_store()).rows()] == ["mine"]


def test_a_judge_stands_beside_the_rules(score: Callable[..., Any], tmp_path: Path) -> None:
    lines = [{"id": "0", "response": "I count them: 7"}, {"id": "1", "response": "<answer>8</answer> 8"}]
    with serving() as server:
        (one,), judged = score(lines, JudgeModel("judge", server.url, rate=1000))
    assert [(line["judge_state"], line["judge_extracted"], line["judge_correct"]) for line in judged] == [
        ("scored", "7", True),
        ("scored", "8", False),
    ]
    assert one.result.metrics["judge"].value == 0.5
    assert one.result.metrics["judge_error"].value == 0.0
    assert (tmp_path / "judged.judge.jsonl").read_text().count("\n") == 3, "the gold answer itself needs no comparison"
    (one,), judged = score(lines, JudgeModel("judge", server.url))  # the server is gone, and nobody is asked
    assert one.result.metrics["judge"].value == 0.5


def test_many_are_judged_as_fast_as_promised_on_all_cores(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "mathvista"
    folder.mkdir(parents=True)
    (folder / "rows.jsonl").write_text("".join(json.dumps(mathvista_row(str(n))) + "\n" for n in range(2000)))
    file = tmp_path / "responses.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in answers(2000, 1500)))
    start = time.perf_counter()
    (one,) = score_responses(catalog()["mathvista"], file, folder.parent, tmp_path / "out.jsonl")
    print(f"{2000 / (time.perf_counter() - start):.0f} responses a second")
    assert one.result.metrics["accuracy"].value == 0.75
    assert [json.loads(line)["id"] for line in (tmp_path / "out.jsonl").read_text().splitlines()] == [
        str(n) for n in range(2000)
    ]


def test_the_command_imports_nothing_heavy(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "responses.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in answers(3, 2)))
    program = "import sys; from avar_eval.cli import main\nsys.argv = ['avar-eval', *sys.argv[1:]]\n"
    program += f"try: main()\nfinally: print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    options = ["score", "--task", "mathvista", "--responses", str(file), "--data-dir", str(data)]
    done = subprocess.run(
        [sys.executable, "-c", program, *options], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stderr.strip() == "[]"
    assert "66.7 [" in done.stdout
    assert "37 rows with no response: '3', '4', '5', '6', '7' and 32 more" in done.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_or_closed_pipe_behind_standard_output(data: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; sys.argv[0] = 'avar-eval'; from avar_eval.cli import main; main()"]
    command += ["tasks", "--json"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (
        1,
        "avar-eval: cannot write to standard output: No space left on device\n",
    )
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False, cwd=tmp_path)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "give the folder of a finished run, or --task NAME and --responses FILE"),
        (["--task", "mathvista"], "give the folder of a finished run, or --task"),
        (["folder", "--task", "mathvista"], "give either RUN_DIR or --task"),
        (["--task", "mathvista,shapes", "--responses", "x"], "--task takes one task"),
        (["--task", "mathvsta", "--responses", "x"], "did you mean"),
        (["--task", "mathvista", "--responses", "x", "--judge", "m"], "both --judge MODEL and --judge-url"),
        (["--task", "mathvista", "--responses", "/no/file", "--data-dir", "DATA"], "/no/file cannot be read"),
        (["--task", "mathvista", "--responses", "/no/file"], "/no/file cannot be read"),
        (["/no/folder"], "/no/folder holds no finished run"),
    ],
)
def test_a_wrong_call_is_explained(
    data: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected: str
) -> None:
    monkeypatch.delenv("AVAR_DATA_DIR", raising=False)
    arguments = [str(data) if argument == "DATA" else argument for argument in arguments]
    result = CliRunner().invoke(app, ["score", *arguments])
    assert isinstance(result.exception, AvarError)
    assert expected in str(result.exception)


def test_rows_have_to_be_somewhere() -> None:
    with pytest.raises(DataError, match="give --data-dir a folder with mathvista/"):
        rows_by_id(catalog()["mathvista"], None)


def finished_run(folder: Path, data: Path, right: list[str], rows: int = ROWS, samples: int = 1) -> Path:
    """A run's folder, as a run leaves it: `right` rows answered 7, the others 8; judged by an older grader."""
    folder.mkdir()
    benchmark = Benchmark(catalog()["mathvista"], rows_by_id(catalog()["mathvista"], data))
    records = [
        Record(
            key=f"{n}-{sample}",
            task="mathvista",
            row_id=str(n),
            sample=sample,
            prompt="Grüße",
            prompt_token_ids=[1],
            response_token_ids=[2],
            response=f"<answer>{7 if str(n) in right else 8}</answer>",
            finish_reason="stop",
            judgement=JudgementRecord(state="scored", extracted="8", correct=False, grader="old"),
        )
        for n in range(rows)
        for sample in range(samples)
    ]
    other = records[0].model_copy(update={"key": "another run's"})
    lines = [record.model_dump_json() + "\n" for record in [other, *records]]
    (folder / "records.jsonl").write_text("".join(lines), encoding="utf-8")
    protocol = {
        "model": "m",
        "revision": None,
        "system_prompt": None,
        "steering": None,
        "prompt_sha256": {},
        "limit": None,
        "grader": {"mathvista": ["old"]},
    }
    task = task_result(benchmark, [record.outcome() for record in records], attention_means([]), left_out_rows({}))
    Results(run_id=run_id(protocol), tasks={"mathvista": task}, protocol=protocol).write(folder)
    keys = [record.key for record in records]
    clusters = [f"figure {record.row_id[-1]}" for record in records]
    write_task_records(folder, {"mathvista": TaskRecords(keys=keys, clusters=clusters)})
    return folder


def test_a_run_is_judged_anew(tmp_path: Path, data: Path) -> None:
    run = finished_run(tmp_path / "run", data, [str(n) for n in range(30)])
    before = (run / "records.jsonl").read_text(encoding="utf-8").splitlines()
    assert read_results(run).tasks["mathvista"].metrics["accuracy"].value == 0
    results = score_run(run, data)
    assert results.tasks["mathvista"].metrics["accuracy"].value == 0.75
    assert read_results(run) == results
    assert results.protocol["grader"]["mathvista"] != ["old"]
    after = (run / "records.jsonl").read_text(encoding="utf-8").splitlines()
    assert after[0] == before[0], "records of other runs stay as they are"
    for old, new in zip(map(json.loads, before[1:]), map(json.loads, after[1:]), strict=True):
        assert old | {"judgement": None} == new | {"judgement": None}
        assert Record.model_validate(new).judgement is not None
    state = (run / "records.jsonl").stat().st_mtime_ns, (run / "results.json").read_bytes()
    score_run(run, data)
    assert ((run / "records.jsonl").stat().st_mtime_ns, (run / "results.json").read_bytes()) == state


def test_a_run_keeps_its_judges_verdicts(tmp_path: Path, data: Path) -> None:
    run = finished_run(tmp_path / "run", data, ["1"])
    with serving(lambda prompt, count: "Final answer: 7") as server:
        judged = score_run(run, data, JudgeModel("judge", server.url, rate=1000))
    metrics = judged.tasks["mathvista"].metrics
    assert (metrics["accuracy"].value, metrics["judge"].value) == (1 / ROWS, 1.0)
    assert judged.protocol["judge"] == {"model": "judge", "prompts": "judge-2"}
    assert score_run(run, data) == judged


def test_a_run_that_is_not_whole_is_named(tmp_path: Path, data: Path) -> None:
    run = finished_run(tmp_path / "run", data, [])
    lines = (run / "records.jsonl").read_bytes().splitlines(keepends=True)
    (run / "records.jsonl").write_bytes(b"".join(lines[:-1]))
    with pytest.raises(RecordBookError, match="lacks 1 of the run's records"):
        score_run(run, data)
    (run / "records.jsonl").write_bytes(b"".join(lines)[:-9])
    with pytest.raises(RecordBookError, match=rf"line {ROWS + 1} is not a record"):
        score_run(run, data)
    (run / "asked.json").unlink()
    (run / "records.jsonl").write_bytes(b"".join(lines))
    with pytest.raises(ResultsError, match="run the evaluation again"):
        score_run(run, data)


def test_two_runs_are_compared_row_by_row(tmp_path: Path, data: Path) -> None:
    a = finished_run(tmp_path / "a", data, [str(n) for n in range(20)])
    b = finished_run(tmp_path / "b", data, [str(n) for n in range(5, 35)])
    for run in (a, b):
        score_run(run, data)
    one, official = compare(a, b)
    assert (one.verdict, official.verdict) == ("strict", "official")
    assert (one.a, one.b, one.difference.value) == (0.5, 0.75, 0.25)
    assert (one.metric, one.test, one.clusters) == ("accuracy", "permutation", 10)
    assert one.gained == [str(n) for n in range(20, 35)]
    assert one.lost == [str(n) for n in range(5)]
    # ten clusters of four rows each: equal sizes, so that the paired t test of their means is the reference
    in_a = np.array([sum(n < 20 for n in range(c, ROWS, 10)) / 4 for c in range(10)])
    in_b = np.array([sum(5 <= n < 35 for n in range(c, ROWS, 10)) / 4 for c in range(10)])
    exact = permutation_test((in_b - in_a,), np.mean, permutation_type="samples", vectorized=False)
    assert one.p == pytest.approx(exact.pvalue)
    assert one.difference.ci95 is not None
    assert (one.p < 0.05) == (one.difference.ci95[0] > 0)
    shown = CliRunner().invoke(app, ["compare", str(a), str(b)])
    assert "+25.0 [" in shown.stdout
    assert "B is worse on 5 rows: 0, 1, 2, 3, 4" in shown.stdout
    printed = json.loads(CliRunner().invoke(app, ["compare", str(a), str(b), "--json"]).stdout)
    assert printed[0]["gained"] == one.gained
    assert printed[0]["difference"]["value"] == 0.25


def test_several_samples_are_compared_by_their_share(tmp_path: Path, data: Path) -> None:
    a = finished_run(tmp_path / "a", data, ["1", "2"], samples=2)
    b = finished_run(tmp_path / "b", data, ["2"])
    for run in (a, b):
        score_run(run, data)
    one, official = compare(a, b)
    assert (one.verdict, official.verdict) == ("strict", "official")
    assert (one.gained, one.lost) == ([], ["1"])


def test_rows_that_one_run_lacks_are_left_out_and_counted(tmp_path: Path, data: Path) -> None:
    a = finished_run(tmp_path / "a", data, ["1", "30"])
    b = finished_run(tmp_path / "b", data, [], rows=10)
    for run in (a, b):
        score_run(run, data)
    one = compare(a, b)[0]
    assert (one.difference.n, one.only_a, one.only_b, one.lost) == (10, 30, 0, ["1"])
    shown = CliRunner().invoke(app, ["compare", str(a), str(b)])
    assert "mathvista: 30 rows of the first run alone and 0 of the other alone are left out" in shown.stdout


def test_several_runs_are_each_compared_with_the_first(tmp_path: Path, data: Path) -> None:
    folders = [finished_run(tmp_path / name, data, [str(n) for n in range(right)]) for name, right in
               (("a", 5), ("b", 25), ("c", 6))]  # fmt: skip
    for run in folders:
        score_run(run, data)
    found = [one for one in compare(*folders) if one.metric == "accuracy"]
    assert [(one.run, one.difference.value) for one in found] == [(str(folders[1]), 0.5), (str(folders[2]), 0.025)]
    every = compare(*folders)
    assert [one.p_holm for one in every] == pytest.approx(holm([one.p for one in every if one.p is not None]))
    shown = CliRunner().invoke(app, ["compare", *map(str, folders), "--show", "1"])
    assert shown.exit_code == 0, shown.output
    assert "B is better on 20 rows" in shown.stdout
    assert "C is better on 1 rows: 5" in shown.stdout
    assert "reference:" in shown.stdout
    assert "<answer>7</answer>" in shown.stdout
    alone = CliRunner().invoke(app, ["compare", str(folders[0])])
    assert alone.exit_code != 0


def test_runs_without_a_row_in_common_are_not_compared(tmp_path: Path, data: Path) -> None:
    a, b = finished_run(tmp_path / "a", data, [], rows=10), finished_run(tmp_path / "b", data, [])
    asked = json.loads((b / "asked.json").read_text())["mathvista"]
    kept = {name: values[10:] for name, values in asked.items() if values}
    (b / "asked.json").write_text(json.dumps({"mathvista": kept}))
    with pytest.raises(CompareError, match="answered no row of mathvista in common"):
        compare(a, b)
