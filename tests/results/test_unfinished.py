"""A folder without results.json: what holds it is named, and what goes on with it is a command that does."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from runs import MODEL, Finished, Server, wait_for_records

from avar_eval import evaluate
from avar_eval.errors import AvarError
from avar_eval.keys import keep_secret
from avar_eval.results.schema import ResultsError, read_results
from avar_eval.results.unfinished import RESUME_NAME, write_resume

Run = Callable[..., Finished]

OPTIONS = ("--model", MODEL, "--tasks", "shapes", "--limit", "8", "--batch-size", "1", "--causal", "off")


@pytest.fixture
def killed(server: Server, tmp_path: Path) -> Path:
    folder = tmp_path / "a run"
    running = server.start(*OPTIONS, "--output", str(folder), stands_at={"records.jsonl": 1})
    wait_for_records(folder, 1)
    running.kill()
    assert not (folder / "results.json").exists()
    return folder


def test_every_reader_says_the_command_that_goes_on_and_it_does(avar_eval: Run, killed: Path, tmp_path: Path) -> None:
    command = shlex.join(["avar-eval", *OPTIONS, "--output", str(killed)])
    where = json.loads((killed / RESUME_NAME).read_text())["folder"]
    said = f"{killed} holds no finished run: one was begun and has not ended; to go on, in {where}: {command}\n"
    for program, *words in (
        ("avar-eval", "view", str(killed), "--output", str(tmp_path / "page")),
        ("avar-eval", "score", str(killed)),
        ("avar-eval", "compare", str(killed), str(killed)),
        ("avar-eval", "ablate", str(killed)),
        ("avar-eval", "correlate", str(killed), str(killed)),
        ("avar-leaderboard", "add", str(killed)),
        ("avar-leaderboard", "add", str(killed.parent)),
        ("avar-leaderboard", "add", str(killed / "results.json")),
    ):
        refused = avar_eval(*words, program=program)
        assert (refused.code, refused.stdout) == (1, ""), words
        assert refused.stderr.endswith(said), words
    _, *words = shlex.split(said.rpartition(f"to go on, in {where}: ")[2])
    done = avar_eval(*words)
    assert done.code == 0, done.stderr
    assert read_results(killed).tasks["shapes"].metrics["accuracy"].n == 8
    assert not (killed / RESUME_NAME).exists()


def test_a_call_of_python_goes_on_as_one(tmp_path: Path) -> None:
    """Its rows cannot be had."""
    (tmp_path / "data").mkdir()
    with pytest.raises(AvarError, match=r"there is no .*rows\.jsonl"):
        evaluate(MODEL, "mathvista", limit=2, data_dir=tmp_path / "data", output=tmp_path / "run")
    with pytest.raises(ResultsError, match=r"on, in .*: avar_eval\.evaluate\('avar-tiny', \['mathvista'\], limit=2, "):
        read_results(tmp_path / "run")


def _nothing(folder: Path) -> None:
    folder.mkdir()


def _responses(folder: Path) -> None:
    folder.mkdir()
    (folder / "records.jsonl").touch()


def _runs(folder: Path) -> None:
    for name in ("b", "a"):
        (folder / name).mkdir(parents=True)
        (folder / name / "results.json").touch()


def _key(folder: Path) -> None:
    folder.mkdir()
    keep_secret("sk-very-secret")
    write_resume(folder, ["avar-eval", "--api-url", "http://x?key=sk-very-secret"])


def _holding(content: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        folder.mkdir()
        (folder / RESUME_NAME).write_bytes(content.encode())

    return make


def _of_words(*words: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        folder.mkdir()
        write_resume(folder, words)

    return make


def _suite(folder: Path) -> None:
    _runs(folder)
    write_resume(folder, ["avar-eval", "suite", "s.yaml"])


ONGOING = ": one was begun and has not ended"
NOTHING = ": it has no results.json"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: None, ": there is no such folder"),
        (_nothing, NOTHING),
        (_holding("{"), NOTHING),
        (_holding("[]"), NOTHING),
        (_holding('{"words": ["avar-eval"]}'), NOTHING),
        (_holding('{"folder": "/", "words": [["avar-eval"]]}'), NOTHING),
        (_holding('{"folder": "/", "words": []}'), NOTHING),
        (_of_words("rm", "-rf", "/"), NOTHING),
        (_of_words("python", "-m", "http.server"), NOTHING),
        (_holding('{"folder": "/", "call": "rm -rf /"}'), NOTHING),
        (_holding('{"folder": "/", "call": "avar_eval.evaluate()\\nrm -rf /"}'), NOTHING),
        (_of_words("avar-eval", "x;rm y"), f"{ONGOING}; to go on, in {Path.cwd()}: avar-eval 'x;rm y'"),
        (_of_words("avar-eval", "--output", "o\udcff"), f"{ONGOING}; to go on: what stands in "),
        (_of_words("avar-eval", "--system-prompt", "\x1b[31m"), f"{ONGOING}; to go on: what stands in "),
        (_of_words("avar-eval", "--system-prompt", "word " * 1000), f"{ONGOING}; to go on: what stands in "),
        (_responses, ": it has responses and no results.json; `avar-eval` with the options that they were asked with "),
        (_runs, " itself: give a folder in it, such as 'a', 'b'"),
        (_suite, f"{ONGOING} (finished in it: 'a', 'b'); to go on, in {Path.cwd()}: avar-eval suite s.yaml"),
        (_key, f"{ONGOING}; to go on, in {Path.cwd()}: avar-eval --api-url 'http://x?key=***'"),
    ],
)
def test_a_folder_says_what_it_is(tmp_path: Path, make: Callable[[Path], None], said: str) -> None:
    folder = tmp_path / "folder"
    make(folder)
    with pytest.raises(ResultsError) as refused:
        read_results(folder)
    assert str(refused.value).startswith(f"{folder} holds no finished run{said}")
