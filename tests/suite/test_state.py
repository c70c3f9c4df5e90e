"""suite.json: what a suite takes from it, and what is said where it cannot be read."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from avar_eval.suite.loaded_tasks import LoadedTasks
from avar_eval.suite.read import read_suite
from avar_eval.suite.state import SuiteState


def state_of(folder: Path) -> SuiteState:
    (folder / "suite.yaml").write_text("tasks: [shapes]\nmodels: [avar-tiny]\n", encoding="utf-8")
    return SuiteState.of(read_suite(folder / "suite.yaml", folder, {}).runs, folder, LoadedTasks())


@pytest.mark.parametrize(
    ("spoil", "problem"),
    {
        "another form": (lambda path: path.write_text('{"runs": 3}'), "runs is 3, not a list"),
        "torn": (lambda path: path.write_text('{"runs": ['), "it is no JSON: it breaks off"),
        "empty": (lambda path: path.touch(), "it is empty"),
        "a field too few": (lambda path: path.write_text('{"runs": [{"model": "m"}]}'), "runs.0 has no tasks"),
        "no text": (lambda path: path.write_bytes(b'{"\xff": 1}'), "it is no text in UTF-8: byte 3 is 0xff"),
        "a folder": (lambda path: path.mkdir(), "it is a folder"),
        "a pipe": (os.mkfifo, "it is a pipe or a device, no file"),
    }.values(),
)
def test_a_state_that_cannot_be_read_is_named_with_what_follows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], spoil: Callable[[Path], object], problem: str
) -> None:
    spoil(tmp_path / "suite.json")
    assert [run.status for run in state_of(tmp_path).runs] == ["waiting"]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"note: {tmp_path / 'suite.json'} cannot be read: {problem}; it does not say which runs are")


def test_a_suite_that_has_not_begun_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert [run.status for run in state_of(tmp_path).runs] == ["waiting"]
    assert capsys.readouterr().err == ""


def test_a_finished_run_without_results_says_why_it_is_done_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = state_of(tmp_path)
    state.set(0, "finished", tmp_path)
    assert [run.status for run in state_of(tmp_path).runs] == ["waiting"]
    assert capsys.readouterr().err == "again: avar-tiny: its results.json is gone\n"
