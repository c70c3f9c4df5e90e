"""`kill -9` in each of the causal passes, and the same command: nothing is asked twice, and results are the same."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from runs import MODEL, Finished, Server, records_of, start_two

RUN = ("--model", MODEL, "--tasks", "shapes", "--limit", "6", "--max-new-tokens", "128", "--batch-size", "3")
FULL = (*RUN, "--causal", "full", "--causal-samples", "5", "--knockout-windows", "2")
ABLATE = ("--causal", "full", "--causal-samples", "5", "--batch-size", "3", "--blur", "--cutoff")
FILES = ("records.jsonl", "altered.jsonl", "causal.jsonl")
KILLED = -9


@pytest.fixture(scope="module")
def dying(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Runs that die in the pass that DIE_AT says."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
        server = Server(tmp_path_factory.mktemp("dying"), modules=("dying",))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def whole(avar_eval: Callable[..., Finished], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing disturbed; never to be changed."""
    folder = tmp_path_factory.mktemp("whole")
    done = avar_eval(*FULL, "--output", str(folder))
    assert done.code == 0, done.stderr
    return folder


def ends_alike(folder: Path, whole: Path, results: tuple[str, ...], files: tuple[str, ...]) -> None:
    for name in results:
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    for name in files:
        lines = [sorted((of / name).read_bytes().splitlines()) for of in (folder, whole)]
        assert lines[0] == lines[1], name
        keys = [json.loads(line)["key"] for line in lines[0]]
        assert len(set(keys)) == len(keys), name
    assert not list(folder.glob("waiting*.jsonl")), "no record waits after the end"


def asked_once(calls: Path, folder: Path) -> None:
    """Each response was generated once, those to altered questions as well."""
    keys = [json.loads(line)["key"] for name in FILES[:2] for line in (folder / name).read_bytes().splitlines()]
    assert sorted(calls.read_text(encoding="utf-8").split()) == sorted(keys)


def test_killed_in_each_pass_nothing_is_asked_twice(dying: Server, whole: Path, tmp_path: Path) -> None:
    calls, folder = tmp_path / "calls", tmp_path / "run"
    book = b""
    for number in (*range(1, 7), 13):  # the first batch has at least 6 passes, both together have 13
        killed = dying.start(*FULL, "--output", str(folder), CALLS=str(calls), DIE_AT=str(number)).wait()
        assert killed.code == KILLED, killed.stderr
        now = (folder / "records.jsonl").read_bytes()
        assert now.startswith(book), "what is recorded stays as it is"
        book = now
        waiting = [json.loads(line) for line in (folder / "waiting.jsonl").read_bytes().splitlines()]
        known = [record["key"] for record in (*records_of(folder), *waiting)]
        assert sorted(known) == sorted(calls.read_text(encoding="utf-8").split()), "an answer is kept before its passes"
        assert all(record["causal"] is None and record["attention"] for record in waiting)
    assert book, "the passes of one batch are done, and those of the other one are not"
    done = dying.start(*FULL, "--output", str(folder), CALLS=str(calls)).wait()
    assert done.code == 0, done.stderr
    asked_once(calls, folder)
    ends_alike(folder, whole, ("results.json",), FILES)


def test_two_processes_killed_in_a_pass(dying: Server, whole: Path, tmp_path: Path) -> None:
    calls, folder = tmp_path / "calls", tmp_path / "run"
    for number in "31":
        killed = [
            one.wait() for one in start_two(dying, *FULL, "--output", str(folder), CALLS=str(calls), DIE_AT=number)
        ]
        codes = [one.code for one in killed]
        # the second may fail at a barrier for want of the first, before it comes to its own pass
        assert KILLED in codes, [one.stderr for one in killed]
        assert all(codes), [one.stderr for one in killed]
    done = [one.wait() for one in start_two(dying, *FULL, "--output", str(folder), CALLS=str(calls))]
    assert [one.code for one in done] == [0, 0], [one.stderr for one in done]
    asked_once(calls, folder)
    ends_alike(folder, whole, ("results.json",), FILES)


def test_passes_that_are_no_longer_wanted_leave_their_answers(dying: Server, whole: Path, tmp_path: Path) -> None:
    calls, folder = tmp_path / "calls", tmp_path / "run"
    killed = dying.start(*FULL, "--output", str(folder), CALLS=str(calls), DIE_AT="2").wait()
    assert killed.code == KILLED, killed.stderr
    done = dying.start(*RUN, "--causal", "off", "--output", str(folder), CALLS=str(calls)).wait()
    assert done.code == 0, done.stderr
    found = records_of(folder)
    assert len(calls.read_text(encoding="utf-8").split()) == len(found) == 6
    assert {of["key"]: of["response"] for of in found} == {of["key"]: of["response"] for of in records_of(whole)}
    assert not (folder / "waiting.jsonl").exists()


def test_an_ablation_killed_in_its_passes_goes_on(
    avar_eval: Callable[..., Finished], dying: Server, tmp_path: Path
) -> None:
    finished, folder, calls = tmp_path / "finished", tmp_path / "run", tmp_path / "calls"
    assert avar_eval(*RUN, "--causal", "off", "--output", str(finished)).code == 0
    shutil.copytree(finished, folder)
    assert avar_eval("ablate", str(finished), *ABLATE).code == 0
    for number in (2, 7, 15):  # of the first batch, of the second, of the cut-offs
        killed = dying.start("ablate", str(folder), *ABLATE, CALLS=str(calls), DIE_AT=str(number)).wait()
        assert killed.code == KILLED, killed.stderr
    done = dying.start("ablate", str(folder), *ABLATE, CALLS=str(calls)).wait()
    assert done.code == 0, done.stderr
    keys = calls.read_text(encoding="utf-8").split()
    assert sorted(keys) == sorted(json.loads(line)["key"] for line in (folder / "altered.jsonl").open("rb"))
    ends_alike(folder, finished, ("results.json", "ablation.json"), (*FILES, "cutoff.jsonl"))
