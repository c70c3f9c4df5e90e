"""`avar_eval.evaluate` and `avar_eval.load_results`: the command line's results, as Python and pandas have them."""

import contextlib
import inspect
import io
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from runs import MODEL, Finished, records_of

import avar_eval as package
from avar_eval.errors import UsageError
from avar_eval.judge.model import JudgeModel
from avar_eval.records.book import RecordBookError
from avar_eval.results.schema import ResultsError
from avar_eval.run.asking import Asking, asking_fields
from avar_eval.run.evaluate import RunConfig
from avar_eval.run.folder import run_folder
from avar_eval.run.model import resolve

ASKED: dict[str, Any] = {"limit": 4, "max_new_tokens": 24}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[package.Results]:
    """A run of `evaluate`; its folder is never to be changed."""
    folder, printed = tmp_path_factory.mktemp("api"), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setenv("AVAR_LEADERBOARD", str(folder / "leaderboard"))
        yield package.evaluate(MODEL, "shapes", output=str(folder / "run"), **ASKED)
    assert printed.getvalue() == ""


@pytest.fixture
def copied(results: package.Results, tmp_path: Path) -> Path:
    """The run's folder, to be changed."""
    return Path(shutil.copytree(results.folder, tmp_path / "copied"))


def test_results_are_those_of_the_command_line(
    results: package.Results, avar_eval: Callable[..., Finished], tmp_path: Path
) -> None:
    options = ("--limit", "4", "--max-new-tokens", "24", "--output", str(tmp_path / "cli"))
    done = avar_eval("--model", MODEL, "--tasks", "shapes", *options)
    assert done.code == 0, done.stderr
    ours, theirs = (json.loads((folder / "results.json").read_text()) for folder in (results.folder, tmp_path / "cli"))
    assert ours["protocol"].pop("command") == "avar_eval.evaluate('avar-tiny', ['shapes'], limit=4, max_new_tokens=24)"
    del theirs["protocol"]["command"]
    assert ours == theirs
    assert (results.folder / "results.json").read_text() == results.to_json()
    assert str(results) in "\n".join(line.rstrip() for line in done.stdout.splitlines()).replace(
        str(tmp_path / "cli"), str(results.folder)
    ).replace("in brackets: 95 % intervals; accuracy is strict, official the published rule's\n", "")


@pytest.mark.parametrize("path", ["", "results.json"])
def test_a_finished_run_is_read_from_its_folder_or_file(results: package.Results, path: str) -> None:
    assert package.load_results(str(results.folder / path)) == results


def test_calling_again_asks_nothing_again(copied: Path) -> None:
    before = (copied / "records.jsonl").read_bytes()
    again = package.evaluate(MODEL, ["shapes"], output=copied, **ASKED)
    assert (copied / "records.jsonl").read_bytes() == before
    assert again.run_id == package.load_results(copied).run_id


def test_scores_have_a_row_a_task_and_metric(results: package.Results) -> None:
    scores = results.to_dataframe()
    assert list(scores.columns) == ["task", "metric", "verdict", "value", "low", "high", "n"]
    expected = json.loads((results.folder / "results.json").read_text())["tasks"]["shapes"]
    plain = scores[scores.verdict.isna()].set_index("metric")
    assert list(plain.index) == list(expected["metrics"])
    for name, metric in expected["metrics"].items():
        row = plain.loc[name]
        assert row.n == metric["n"]
        assert [row.value, row.low, row.high] == pytest.approx(
            [float("nan") if end is None else end for end in (metric["value"], *(metric["ci95"] or (None, None)))],
            nan_ok=True,
        )


def test_scores_hold_a_benchmarks_own_metrics_and_the_means_of_groups(copied: Path) -> None:
    content = json.loads((copied / "results.json").read_text())
    metric = {"value": 0.5, "ci95": None, "n": 4}
    content["tasks"]["shapes"]["benchmark"] = {"strict": {"counting": metric}, "official": {"counting": metric}}
    content["groups"] = {"both": {"columns": {}, "mean": {"strict": metric | {"ci95": [0.25, 0.75]}}}}
    (copied / "results.json").write_text(json.dumps(content))
    results = package.load_results(copied)
    rows = results.to_dataframe().dropna(subset="verdict").astype(object)
    assert [tuple(None if pd.isna(value) else value for value in row) for row in rows.itertuples(index=False)] == [
        ("shapes", "counting", "strict", 0.5, None, None, 4),
        ("shapes", "counting", "official", 0.5, None, None, 4),
        ("both", "mean", "strict", 0.5, 0.25, 0.75, 4),
    ]
    assert "both: mean of 0" in repr(results)
    assert "<td>both: mean of 0</td><td>4</td><td>50.0<br>[25.0–75.0]</td>" in results._repr_html_()


def test_rows_are_the_records(results: package.Results) -> None:
    rows, by_key = results.to_dataframe("rows"), {record["key"]: record for record in records_of(results.folder)}
    records = [by_key[key] for key in json.loads((results.folder / "asked.json").read_text())["shapes"]["keys"]]
    assert [tuple(row) for row in rows[["task", "row_id", "sample", "prompt", "response", "finish_reason"]].values] == [
        tuple(record[name] for name in ("task", "row_id", "sample", "prompt", "response", "finish_reason"))
        for record in records
    ]
    assert list(rows.state) == [record["judgement"]["state"] for record in records]
    for name in ("reference", "image_sha256", "protocol_id"):
        assert list(rows[name]) == [record[name] for record in records]
    assert set(rows.protocol_id) == {results.protocol_id}
    wrong = rows[rows.strict == (rows.extracted != rows.reference)]
    assert wrong.empty, "of shapes, an answer is right that is the gold one"
    assert list(rows.strict) == [record["judgement"]["correct"] for record in records]
    assert rows[["official", "judge"]].isna().all(axis=None)
    for name, queries in (("vas", "user"), ("vas_response", "response")):
        assert list(rows[name]) == [record["attention"][queries]["vas"] for record in records]
        assert rows[name].mean() == pytest.approx(results.tasks["shapes"].metrics[name].value)
    assert rows.strict.mean() == pytest.approx(results.tasks["shapes"].metrics["accuracy"].value)


def test_rows_of_a_folder_with_several_runs_are_the_last_ones(copied: Path) -> None:
    first = package.load_results(copied).to_dataframe("rows")
    steered = package.evaluate(
        MODEL,
        "shapes",
        output=copied,
        limit=2,
        max_new_tokens=24,
        steering="image=0.15,system=0.4",
        attention_samples=0,
    )
    assert len(records_of(copied)) == 6
    rows = steered.to_dataframe("rows")
    assert list(rows.row_id) == list(first.row_id[:2])
    assert rows.vas.isna().all()
    assert steered.protocol["steering"]["system"] == 0.4
    assert "steered: image=0.15,system=0.4" in repr(steered)


def test_a_judge_models_verdict_is_the_runs_own(copied: Path) -> None:
    records = records_of(copied)
    for record, model in zip(records, ["ours", "ours", "another", "another"], strict=True):
        record["judge"] = {"model": model, "state": "scored", "extracted": None, "correct": True}
    (copied / "records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    assert package.load_results(copied).to_dataframe("rows").judge.isna().all()
    content = json.loads((copied / "results.json").read_text())
    content["protocol"]["judge"] = {"model": "ours"}
    (copied / "results.json").write_text(json.dumps(content))
    judge = package.load_results(copied).to_dataframe("rows").set_index("row_id").judge
    assert set(judge.dropna().index) == {record["row_id"] for record in records[:2]}
    assert judge.dropna().all()


def test_names_are_shown_and_not_obeyed(results: package.Results, tmp_path: Path) -> None:
    folder = tmp_path / "<img src=x onerror=alert(1)>\x1b[2J"
    shutil.copytree(results.folder, folder)
    content = json.loads((folder / "results.json").read_text())
    content["protocol"]["model"] = "<b>[red]loud</b>\x1b[31m"
    (folder / "results.json").write_text(json.dumps(content))
    hostile = package.load_results(folder)
    assert "<b>[red]loud</b>\\u001b[31m" in repr(hostile)
    assert "\x1b" not in repr(hostile) + hostile._repr_html_()
    assert "&lt;b&gt;[red]loud&lt;/b&gt;" in hostile._repr_html_()
    tags = set(re.findall(r"</?(\w+)[^>]*>", hostile._repr_html_()))
    assert tags == {"table", "caption", "thead", "tbody", "tr", "th", "td", "br", "p"}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"model": ""}, r"name a model; `avar-eval models` lists"),
        ({"model": "avar-tinny"}, r"unknown model 'avar-tinny': did you mean avar-tiny"),
        ({"tasks": "shapes,shape"}, r"unknown task 'shape': did you mean shapes"),
        ({"tasks": ["shapes", "nothing like it"]}, r"unknown task 'nothing like it': `avar-eval tasks --all` lists"),
        ({"tasks": ""}, r"name at least one task"),
        ({"tasks": []}, r"name at least one task"),
        ({"temprature": 1}, r"unknown argument 'temprature': did you mean temperature"),
        ({"steer": "avar"}, r"unknown argument 'steer': did you mean steering"),
        ({"steering": "image=much"}, r"image takes a number, such as 0.15, not 'much'"),
        ({"limit": 0}, r"limit is 0, not 1 or more"),
        ({"batch_size": 0}, r"batch_size is 0, not 1 or more"),
        ({"seed": -1}, r"--seed is -1, not 0 or more"),
        ({"attention_samples": -1}, r"attention_samples is -1, not 0 or more"),
        ({"max_new_tokens": 0}, r"--max-new-tokens is 0, not 1 or more"),
        ({"temperature": -1}, r"--temperature takes 0 \(greedy\) or a number"),
        ({"temperature": float("nan")}, r"--temperature takes 0 \(greedy\) or a number"),
        ({"top_p": 0}, r"--top-p is 0, not above 0"),
        ({"top_p": 1.5}, r"--top-p is 1.5, not 1 or less"),
        ({"samples": 2}, r"--samples above 1 needs --temperature above 0"),
        ({"dtype": "int4"}, r"--dtype takes float32, bfloat16, float16, not 'int4'"),
        ({"device": "nonsense"}, r"--device 'nonsense' cannot be used here"),
        ({"backend": "onnx"}, r"backend is \"onnx\", not 'transformers', 'vllm' or 'api'"),
        ({"prompt_style": "loud"}, r"prompt_style is \"loud\", not 'thinking', 'direct', 'boxed' or 'none'"),
        ({"judge": "gpt-4o"}, r"judge: .*instance of JudgeModel, not 'gpt-4o'"),
        ({"backend_options": {"threads": 2}}, r"--backend transformers takes no option threads"),
    ],
)
def test_what_is_wrong_is_an_exception_with_the_command_lines_message(
    asked: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        package.evaluate(**{"model": MODEL, "tasks": "shapes", "output": tmp_path / "out"} | asked)
    assert not (tmp_path / "out" / "results.json").exists()


def test_folders_without_a_whole_run_say_so(copied: Path, tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="holds no finished run itself: give a folder in it, such as 'copied'"):
        package.load_results(tmp_path)
    with pytest.raises(ResultsError, match=r"records\.jsonl is a file: give the folder of a finished run"):
        package.load_results(copied / "records.jsonl")
    results = package.load_results(copied)
    with pytest.raises(UsageError, match="of takes scores, rows, not 'records'"):
        results.to_dataframe("records")  # type: ignore[arg-type]
    (copied / "records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records_of(copied)[:3]))
    with pytest.raises(RecordBookError, match="lacks 1 of the run's records"):
        results.to_dataframe("rows")
    (copied / "asked.json").unlink()
    with pytest.raises(ResultsError, match="run the evaluation again, it asks nothing twice"):
        results.to_dataframe("rows")


def test_home_and_the_default_folder_are_the_command_lines(
    results: package.Results, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    folder = run_folder(resolve(Asking.of(model=MODEL, **ASKED)))
    shutil.copytree(results.folder, tmp_path / folder)
    assert package.evaluate(MODEL, "shapes", **ASKED).folder == tmp_path / folder
    assert package.evaluate(MODEL, "shapes", output=f"~/{folder}", **ASKED).run_id == results.run_id
    assert package.load_results(f"~/{folder}").folder == tmp_path / folder


def test_no_key_stands_in_the_protocol(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    configs: list[RunConfig] = []

    def keep(config: RunConfig) -> None:
        configs.append(config)
        raise UsageError("enough")

    monkeypatch.setattr("avar_eval.api.run", keep)
    with pytest.raises(UsageError, match="enough"):
        package.evaluate(MODEL, "shapes", output=tmp_path, judge=JudgeModel("m", "http://localhost/v1", "sk-secret"))
    assert "http://localhost/v1" in configs[0].command
    assert "sk-secret" not in configs[0].command


def test_notebooks_complete_every_argument_and_every_public_name() -> None:
    names = list(inspect.signature(package.evaluate).parameters)
    of_a_run = {field.name for field in fields(RunConfig)} - {"resume"}  # what goes on with a call is the call
    assert set(names) == set(asking_fields()) | of_a_run | {"backend_options", "name", "include_path"}
    assert {"temperature", "max_new_tokens", "limit", "steering", "api_url", "attn_implementation"} <= set(names)
    assert names[:2] == ["model", "tasks"]
    assert set(package.__all__) <= set(dir(package))
