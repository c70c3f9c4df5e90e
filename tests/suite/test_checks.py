"""What would keep runs of a suite from working is said once, together, before the first of them begins."""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from local_server import nobody
from runs import Server
from suites import Suites, state

from avar_eval.models.checkpoint import resolve_checkpoint
from avar_eval.suite import process
from avar_eval.suite.checks import SuiteError, check_runs
from avar_eval.suite.read import read_suite


@pytest.fixture
def closed() -> Iterator[str]:
    """An address of this machine at which nothing listens."""
    with nobody() as address:
        yield address


@pytest.fixture
def faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    """What is found wrong with the runs of a suite."""
    monkeypatch.setattr(process, "CONTEXT", process.multiprocessing.get_context("fork"))

    def found(text: str) -> list[str]:
        path, output = tmp_path / "suite.yaml", tmp_path / "runs"
        path.write_text(text, encoding="utf-8")
        planned = read_suite(path, output, {})
        with pytest.raises(SuiteError) as error:
            check_runs(planned.runs, output)
        heading, *lines = str(error.value).splitlines()
        assert heading == "no run has begun, as these cannot work:"
        return lines

    return found


@pytest.mark.parametrize(
    ("spoil", "said"),
    {
        "a file for the logs' folder": (
            lambda output: (output / "logs").touch(),
            "avar-tiny, b: {}/logs is a file, no folder: move it away",
        ),
        "a link to nothing": (
            lambda output: (output / "logs").symlink_to("gone"),
            "avar-tiny, b: {}/logs is a link to nothing, no folder: move it away",
        ),
        "a folder for one log": (
            lambda output: (output / "logs" / "b.log").mkdir(parents=True),
            "b: {}/logs/b.log is a folder, no file: move it away",
        ),
        "a pipe for one log": (
            lambda output: ((output / "logs").mkdir(), os.mkfifo(output / "logs" / "b.log")),
            "b: {}/logs/b.log is a pipe or a device, no file: move it away",
        ),
        "a folder for the timings": (
            lambda output: (output / "timings.jsonl").mkdir(),
            "avar-tiny, b: {}/timings.jsonl is a folder, no file: move it away",
        ),
    }.values(),
)
def test_what_runs_side_by_side_could_not_write_is_found_before_they_begin(
    tmp_path: Path, spoil: Callable[[Path], object], said: str
) -> None:
    path, output = tmp_path / "suite.yaml", tmp_path / "runs"
    path.write_text("tasks: [shapes]\nmodels: [avar-tiny, {model: avar-tiny, name: b}]\n")
    runs = read_suite(path, output, {}).runs
    output.mkdir()
    spoil(output)
    with pytest.raises(SuiteError) as error:
        check_runs(runs, output, parallel=2)
    assert str(error.value).splitlines()[1:] == [said.format(output)]


def test_messages_that_cannot_be_written_fail_a_run_in_words(tmp_path: Path) -> None:
    (tmp_path / "logs").touch()
    log = tmp_path / "logs" / "x.log"
    assert process.Apart(partial(print, "hi"), log).result() == process.Failed(f"cannot write {log}: File exists")


def suite_on(forking_server: Server, folder: Path, text: str) -> Suites:
    (folder / "suite.yaml").write_text(text, encoding="utf-8")
    return Suites(forking_server, folder / "suite.yaml", folder / "asked")


def test_a_wrong_cluster_is_found_once_and_nothing_begins(forking_server: Server, tmp_path: Path, closed: str) -> None:
    pytest.importorskip("ray", reason="needs Ray: pip install 'avar-eval[ray]'")
    suites = suite_on(
        forking_server, tmp_path, "tasks: [shapes]\nlimit: 1\nmodels: [avar-tiny, {model: avar-tiny, name: b}]\n"
    )
    done = suites.run(tmp_path / "runs", "--cluster", f"ray://{closed}")
    assert (done.code, done.stdout) == (1, "")
    heading, line = done.stderr.splitlines()
    assert heading == "avar-eval: no run has begun, as these cannot work:"
    assert line.startswith(f"avar-tiny, b: --cluster ray://{closed}: nothing answers there (")
    assert [run["status"] for run in state(tmp_path / "runs")] == ["waiting", "waiting"]
    assert not list((tmp_path / "runs").glob("*/"))


def test_all_that_is_wrong_is_said_together(forking_server: Server, tmp_path: Path, closed: str) -> None:
    """And once it is mended, the same command goes on."""
    bare, output = tmp_path / "bare", tmp_path / "runs"
    bare.mkdir()
    output.mkdir()
    (output / "taken").touch()
    suites = suite_on(
        forking_server,
        tmp_path,
        f"""
tasks: [shapes]
limit: 1
causal: off
attention: off
models:
- {{model: avar-tiny, name: fine}}
- {{model: avar-tiny, name: judged, judge: j, judge-url: 'http://{closed}/v1'}}
- {{model: served, backend: api, api-url: 'http://{closed}/v1'}}
- {{model: {bare}, name: bare}}
- {{model: avar-tiny, name: rows, tasks: [mathvista], data-dir: {bare}}}
- {{model: avar-tiny, name: taken}}
- {{model: avar-tiny, name: kernel, attn-implementation: flash_attention_2}}
""",
    )
    done = suites.run(output)
    assert done.code == 1
    lines = dict(line.split(": ", 1) for line in done.stderr.splitlines()[1:])
    names = {name.partition("-")[0].partition(",")[0]: said for name, said in lines.items()}
    assert {name: said.split("(")[0] for name, said in names.items()} == {
        "judged": f"nothing answers at http://{closed}/v1 ",
        "served": f"nothing answers at http://{closed}/v1 ",
        "bare": f"{bare} is not a model folder: it has no config.json",
        "rows": f"there is no {bare}/mathvista/rows.jsonl: --data-dir takes a folder with one sub-folder a benchmark",
        "taken": f"{output / 'taken'} is a file, no folder: move it away, or give the model another `name`",
        "kernel": names["kernel"].split("(")[0],
    }
    assert "--attn-implementation 'flash_attention_2' cannot be used here: " in names["kernel"]
    assert not suites.asked.exists()
    lines_kept = suites.file.read_text().splitlines()
    suites.file.write_text("\n".join(line for line in lines_kept if "- {" not in line or "fine" in line))
    assert suites.run(output).code == 0
    assert [run["status"] for run in state(output)] == ["finished"]


def test_what_is_finished_is_not_looked_at(forking_server: Server, tmp_path: Path) -> None:
    """Its endpoint may be gone by then, and its folder read-only."""
    model = Path(shutil.copytree(resolve_checkpoint("avar-tiny").path, tmp_path / "model"))
    text = f"tasks: [shapes]\nlimit: 1\ncausal: off\nattention: off\nmodels: [{{model: {model}, name: own}}]\n"
    suites = suite_on(forking_server, tmp_path, text)
    assert suites.run(tmp_path / "runs").code == 0
    (model / "config.json").rename(model / "other.json")
    done = suites.run(tmp_path / "runs")
    assert (done.code, state(tmp_path / "runs")[0]["status"]) == (1, "waiting"), "its weights are others now"
    assert "own: " in done.stderr
    (model / "other.json").rename(model / "config.json")
    assert suites.run(tmp_path / "runs").code == 0


@pytest.mark.parametrize(
    ("package", "options", "said"),
    [
        ("vllm", "backend: vllm", "--backend vllm needs vLLM, and it cannot be imported"),
        ("ray", "cluster: ray", "--cluster needs ray: "),
    ],
)
def test_an_extra_that_is_missing_is_named_once(
    faults: Callable[[str], list[str]], monkeypatch: pytest.MonkeyPatch, package: str, options: str, said: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    (line,) = faults(f"tasks: [shapes]\n{options}\nmodels: [avar-tiny, {{model: avar-tiny, name: b}}]\n")
    assert said in line
    assert f"pip install 'avar-eval[{package}]'" in line
    assert line.count("avar-tiny") == 1
    assert ", b" in line


def test_a_gpu_that_is_not_there_and_an_adapter_for_vllm(
    faults: Callable[[str], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = tmp_path / "lora"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "avar-tiny"}))
    monkeypatch.setitem(sys.modules, "peft", None)
    lines = faults(
        f"tasks: [shapes]\nmodels:\n- {{model: avar-tiny, name: gpu, device: 'cuda:99'}}\n"
        f"- {{model: {adapter}, name: a}}\n- {{model: {adapter}, name: b, backend: vllm}}\n"
    )
    found = {line.split("--")[0].split(":")[0]: line for line in lines if "pip install 'avar-eval[vllm]'" not in line}
    assert "cuda:99" in found["gpu"]
    assert "lora needs peft: pip install 'avar-eval[peft]'" in found["a"]
    assert "--backend vllm runs no adapters" in found["b"]


def test_behind_a_proxy_an_endpoint_is_not_looked_for(
    tmp_path: Path, closed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text(f"tasks: [shapes]\nmodels: [{{model: m, backend: api, api-url: 'http://{closed}/v1'}}]\n")
    runs = read_suite(path, tmp_path / "runs", {}).runs
    with pytest.raises(SuiteError, match="nothing answers at"):
        check_runs(runs, tmp_path / "runs")
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    check_runs(runs, tmp_path / "runs")
