"""`avar-leaderboard` as it is typed."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from invented_results import invented_results
from runs import Finished
from typer.testing import CliRunner

from avar_eval.leaderboard.cli import app, main
from avar_eval.leaderboard.store import Store
from avar_eval.score.rescore import score_run

WriteRun = Callable[..., Path]
EARLIER = Path(__file__).parent.parent / "results" / "run_of_an_earlier_version"
RUN = invented_results()["run_id"]
MAIN = [sys.executable, "-c", "from avar_eval.leaderboard.cli import main; main()"]


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AVAR_LEADERBOARD", str(tmp_path / "board"))
    return tmp_path / "board"


@pytest.fixture
def filled(board: Path, write_run: WriteRun) -> Path:
    store = Store(board)
    store.add(write_run(model="avar-thinker", accuracy=0.5))
    store.add(write_run())
    return board


@pytest.fixture
def mathvista_run(mathvista: Path, avar_eval: Callable[..., Finished], tmp_path: Path) -> Path:
    """A run of four questions whose rows are in `data` beside it."""
    folder = tmp_path / "mathvista-run"
    settings = ("--data-dir", str(mathvista), "--attention-samples", "0", "--device", "cpu", "--output", str(folder))
    done = avar_eval("--model", "avar-tiny", "--tasks", "mathvista", *settings)
    assert done.code == 0, done.stderr
    return folder


def succeed(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def fail(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["avar-leaderboard", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert isinstance(stopped.value.code, int)
    return stopped.value.code, capsys.readouterr().err


def test_show_puts_the_best_first(filled: Path) -> None:
    text = succeed("show")
    assert "score" in text
    assert text.index("91.0 [88.2–93.2]") < text.index("50.0 [45.6–54.4]")


def test_show_one_task_or_model(filled: Path) -> None:
    assert "mathvista" not in succeed("show", "--task", "shapes")
    assert "avar-tiny" not in succeed("show", "--model", "avar-thinker")


def test_a_pipe_gets_the_table_unfolded(filled: Path) -> None:
    lines = succeed("show", "--task", "shapes", "--model", "avar-thinker").splitlines()
    (row,) = Store(filled).rows("shapes", "avar-thinker")
    expected = f"1 avar-thinker {row.run_id[:8]} 500 50.0 [45.6–54.4] 43.0 [38.7–47.4] 12.35 [11.50–13.25] wide 0.4 0.0"
    assert f"{expected} as reported" in [" ".join(line.split()) for line in lines]


def test_an_empty_leaderboard_says_how_to_fill_it(board: Path) -> None:
    text = succeed("show")
    assert "is empty" in text
    assert "avar-eval --model avar-tiny --tasks shapes" in text
    assert json.loads(succeed("export", "--format", "json")) == []
    assert "0 runs, 0 rows, 0 files skipped." in succeed("check")
    assert not board.exists()


@pytest.mark.parametrize(
    ("option", "typed", "meant"), [("--task", "shapse", "shapes"), ("--model", "avar-thinkr", "avar-thinker")]
)
def test_an_unknown_name_offers_the_nearest(
    filled: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    option: str,
    typed: str,
    meant: str,
) -> None:
    code, message = fail(capsys, monkeypatch, "show", option, typed)
    assert code == 2
    assert meant in message
    assert message.count("\n") == 1


def test_a_model_without_that_task_is_no_error(filled: Path, write_run: WriteRun) -> None:
    only_shapes = json.loads(write_run(model="other", grader={"shapes": "1"}).read_text())
    del only_shapes["tasks"]["mathvista"]
    (filled / "runs" / f"{only_shapes['run_id']}.json").write_text(json.dumps(only_shapes))
    assert succeed("show", "--task", "mathvista", "--model", "other") == "No run of other on mathvista yet.\n"


def test_exports_hold_the_same_numbers(filled: Path, tmp_path: Path) -> None:
    rows = json.loads(succeed("export", "--format", "json"))
    assert [row["accuracy"] for row in rows] == [1 / 3, 1 / 3, 0.91, 0.5]
    table = list(csv.DictReader(io.StringIO(succeed("export", "--format", "csv"))))
    assert [float(row["accuracy"]) for row in table] == [row["accuracy"] for row in rows]
    assert [row["vas"] for row in table] == ["", "", "12.34567", "12.34567"]
    assert len(succeed("export", "--format", "md").splitlines()) == 2 + 4
    file = tmp_path / "table.md"
    assert succeed("export", "--format", "md", "--output", str(file)) == ""
    assert file.read_text(encoding="utf-8") == succeed("export", "--format", "md")


def test_an_output_that_cannot_be_written(
    filled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = tmp_path / "nowhere" / "table.md"
    code, message = fail(capsys, monkeypatch, "export", "--format", "md", "--output", str(wanted))
    assert (code, message) == (1, f"avar-leaderboard: cannot write {wanted}: No such file or directory\n")


def test_an_unknown_format_is_a_usage_error(
    filled: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, message = fail(capsys, monkeypatch, "export", "--format", "xlsx")
    assert code == 2
    assert "md" in message


def test_add_takes_what_it_can_and_names_the_rest(
    board: Path,
    write_run: WriteRun,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code, message = fail(capsys, monkeypatch, "add", str(tmp_path / "none.json"), str(write_run()))
    assert code == 1
    assert message == (
        f"avar-leaderboard: there is no file {tmp_path / 'none.json'}; give the results.json of a finished run\n"
    )
    assert len(Store(board).rows()) == 2


def test_add_takes_a_folder_of_run_folders(
    board: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = tmp_path / "avar-runs"
    shutil.copytree(EARLIER, runs / "a")
    code, message = fail(capsys, monkeypatch, "add", str(runs))
    assert code == 1
    assert "`avar-eval score" in message  # its intervals are those of an earlier version
    monkeypatch.setenv("AVAR_LEADERBOARD", str(tmp_path / "another"))
    score_run(runs / "a", None)
    monkeypatch.setenv("AVAR_LEADERBOARD", str(board))
    shutil.copytree(runs / "a", runs / "deeper" / "b")
    (runs / "empty").mkdir()
    said = succeed("add", str(runs)).splitlines()
    assert said == [
        f"{what}: avar-tiny on shapes, shapes_prior (run 875cfb03b0536e03), verified" for what in ("added", "unchanged")
    ]
    assert {row.mark for row in Store(board).rows()} == {"verified"}


def test_add_names_a_folder_without_runs(
    board: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, message = fail(capsys, monkeypatch, "add", str(tmp_path))
    assert code == 1
    assert message == (f"avar-leaderboard: {tmp_path} holds no finished run: no folder in it has a results.json\n")


def test_a_run_without_its_rows_is_refused_and_can_be_added_as_reported(
    board: Path, mathvista_run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, message = fail(capsys, monkeypatch, "add", str(mathvista_run))
    assert code == 1
    assert "give --data-dir a folder with mathvista/rows.jsonl" in message
    assert f"its {mathvista_run / 'results.json'} can be added, as reported" in message
    assert "as reported" in succeed("add", str(mathvista_run / "results.json"))
    data = str(mathvista_run.parent / "data")
    assert "verified: " in succeed("add", str(mathvista_run), "--data-dir", data)


def test_a_run_is_removed_by_the_beginning_of_its_id_and_the_history_tells(
    filled: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert succeed("remove", RUN[:8]) == f"removed avar-tiny on shapes, mathvista (run {RUN})\n"
    assert {row.model for row in Store(filled).rows()} == {"avar-thinker"}
    events = [
        [word for word in line.split() if word in ("added", "removed")] for line in succeed("history").splitlines()
    ]
    assert events == [[], ["added"], ["added"], ["removed"]]
    code, message = fail(capsys, monkeypatch, "remove", RUN[:8])
    assert (code, message.count("\n")) == (1, 1)
    assert "there is none" in message
    assert "several begin so" not in message


@pytest.mark.parametrize("run_id", ["", "../x", "*"])
def test_what_names_no_single_run_removes_nothing(
    filled: Path, run_id: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _ = fail(capsys, monkeypatch, "remove", run_id)
    assert code == 1
    assert len(Store(filled).rows()) == 4


def test_a_damaged_history_is_named_and_the_rows_are_as_reported(filled: Path) -> None:
    (filled / "history.jsonl").write_text("{}\n")
    shown = CliRunner().invoke(app, ["show"])
    assert "as reported" in shown.stdout
    assert "history.jsonl, line 1 is not a line of a leaderboard's history" in CliRunner().invoke(app, ["check"]).stderr


def test_a_line_of_the_history_that_cannot_be_read_stops_nothing(filled: Path, write_run: WriteRun) -> None:
    path = filled / "history.jsonl"
    first, *others = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([first, b'{"time": 1}\n', *others, b'{"torn']))
    told = CliRunner().invoke(app, ["history"])
    assert "history.jsonl, line 2 is not a line of a leaderboard's history" in told.stderr
    assert "line 4" not in told.stderr, "a last line without an end may be one that another process is writing"
    assert told.stdout.count(" added ") == 1 + len(others)
    assert CliRunner().invoke(app, ["check"]).stderr.count("history.jsonl, line 2") == 1
    added = CliRunner().invoke(app, ["add", str(write_run(model="another"))])
    assert added.exit_code == 0, added.stderr
    assert added.stdout.startswith("added: another")
    assert "history.jsonl, line 2 is not a line of a leaderboard's history (time is 1, not a text)" in added.stderr
    assert (
        "history.jsonl, line 4 is not a line of a leaderboard's history (it is no JSON: it breaks off)" in added.stderr
    )
    assert added.stderr.count("history.unreadable.jsonl now") == 2
    assert (filled / "history.unreadable.jsonl").read_bytes() == b'{"time": 1}\n{"torn\n'
    assert "line 2" not in CliRunner().invoke(app, ["history"]).stderr
    assert path.read_bytes().startswith(first + b"".join(others))


def test_a_last_line_that_only_lacks_its_end_is_kept(filled: Path, write_run: WriteRun) -> None:
    path = filled / "history.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole.removesuffix(b"\n"))  # as an editor may leave it
    added = CliRunner().invoke(app, ["add", str(write_run(model="another"))])
    assert (added.exit_code, added.stderr) == (0, "")
    assert path.read_bytes().startswith(whole)
    assert len(path.read_bytes().splitlines()) == len(whole.splitlines()) + 1
    assert not (filled / "history.unreadable.jsonl").exists()


def test_store_option_names_another_leaderboard(board: Path, write_run: WriteRun, tmp_path: Path) -> None:
    other = str(tmp_path / "other")
    assert succeed("add", str(write_run()), "--store", other) == (
        f"added: avar-tiny on shapes, mathvista (run {RUN}), as reported\n"
    )
    assert "91.0" in succeed("show", "--store", other)
    assert "is empty" in succeed("show")


def test_skipped_files_are_mentioned_and_explained(filled: Path) -> None:
    (filled / "runs" / "bad.json").write_text("{")
    shown = CliRunner().invoke(app, ["show"])
    assert "1 file in the store could not be read" in shown.stderr
    rebuilt = CliRunner().invoke(app, ["check"])
    assert rebuilt.exit_code == 1
    assert rebuilt.stdout == "2 runs, 4 rows, 1 file skipped.\n"
    assert str(filled / "runs" / "bad.json") in rebuilt.stderr


def test_the_command_itself(filled: Path) -> None:
    done = subprocess.run([*MAIN, "show", "--task", "nothing like it"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr
        == "avar-leaderboard: unknown task 'nothing like it': known: mathvista, shapes (in this leaderboard)\n"
    )


@pytest.mark.parametrize("command", [["show"], ["export", "--format", "json"]])
def test_a_closed_pipe_is_quiet(filled: Path, command: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*MAIN, *command], stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert done.stderr == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("command", [["show"], ["export", "--format", "csv"]])
def test_a_full_disk_behind_standard_output_is_named(filled: Path, command: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*MAIN, *command], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "avar-leaderboard: cannot write to standard output: No space left on device\n"


def test_a_terminal_that_knows_only_ascii(filled: Path) -> None:
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    show = subprocess.run([*MAIN, "show"], capture_output=True, env=environment, check=True)
    assert b" ? " in show.stdout
    exported = subprocess.run([*MAIN, "export", "--format", "md"], capture_output=True, env=environment, check=True)
    assert "| – |" in exported.stdout.decode("utf-8")


def test_help_imports_nothing_heavy() -> None:
    code = "import sys\ntry:\n    from avar_eval.leaderboard.cli import main; main()\nfinally:\n"
    code += "    print(sorted({'numpy', 'pydantic', 'scipy', 'sqlite3', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True)
    assert "export" in done.stdout
    assert done.stdout.endswith("[]\n")
