"""The store: what goes in comes out, whatever happens to the files or the disk."""

import errno
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from invented_results import invented_results, with_run_id

from avar_eval.leaderboard.row import Row
from avar_eval.leaderboard.store import Store, StoreError, default_store, publish
from avar_eval.results.prompting import prompting_sha256
from avar_eval.results.schema import ResultsError

WriteRun = Callable[..., Path]
OTHER = "another run"
RUN = invented_results()["run_id"]
OTHER_RUN = with_run_id({"protocol": invented_results()["protocol"] | {"name": OTHER}})["run_id"]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "board")


def test_a_run_becomes_a_row_a_task(store: Store, write_run: WriteRun) -> None:
    path = write_run()
    store.add(path)
    assert (store.runs / f"{RUN}.json").read_bytes() == path.read_bytes()
    mathvista, shapes = store.rows()
    assert shapes == Row(
        run_id=RUN,
        task="shapes",
        model="avar-tiny",
        revision=None,
        n=500,
        left_out=0,
        score_name="accuracy",
        score=0.91,
        score_low=shapes.accuracy_low,
        score_high=shapes.accuracy_high,
        official=0.43,
        official_low=0.387,
        official_high=0.474,
        judge=None,
        accuracy=0.91,
        accuracy_low=shapes.accuracy_low,
        accuracy_high=shapes.accuracy_high,
        vas=12.34567,
        vas_low=11.5,
        vas_high=13.25,
        vas_n=200,
        vas_band="wide",
        vas_response=8.5,
        truncated=0.004,
        unparsed=0.0,
        timeout=None,
        judge_error=None,
        steering=None,
        limit=None,
        training_run=None,
        training_step=None,
        training_started=None,
        trained_on=False,
        protocol=None,
        prompting_sha256=prompting_sha256({"system_prompt": "You are helpful."}),
        system_prompt_sha256=hashlib.sha256(b"You are helpful.").hexdigest(),
        prompt_sha256="12" * 32,
        added=shapes.added,
        mark="as reported",
        backend=None,
        dtype=None,
        temperature=0.0,
        top_p=1.0,
        top_k=None,
        min_p=None,
        repetition_penalty=None,
        presence_penalty=None,
        max_new_tokens=512,
        samples=1,
        seed=0,
        min_pixels=None,
        max_pixels=None,
        grader="1",
        judge_model=None,
        task_version=None,
        data_revision=None,
        split=None,
        measures={},
    )
    assert (shapes.score_low, shapes.score_high) == pytest.approx((0.8818, 0.9321), abs=1e-3)
    age = datetime.now(UTC) - datetime.fromisoformat(shapes.added)
    assert timedelta(seconds=-2) < age < timedelta(minutes=5)
    assert (mathvista.accuracy, mathvista.n, mathvista.left_out) == (1 / 3, 3, 2)
    assert (mathvista.score_name, mathvista.score, mathvista.official) == ("accuracy", 1 / 3, None)
    assert (mathvista.vas, mathvista.vas_band, mathvista.vas_response, mathvista.unparsed) == (None,) * 4


def test_what_avar_eval_writes_is_what_the_store_reads(store: Store, tmp_path: Path, run: dict[str, Any]) -> None:
    from avar_eval.results.schema import Results

    written = Results(run_id=run["run_id"], tasks=run["tasks"], protocol=run["protocol"]).write(tmp_path)
    store.add(written)
    assert [(row.task, row.accuracy, row.vas) for row in store.rows()] == [
        ("mathvista", 1 / 3, None),
        ("shapes", 0.91, 12.34567),
    ]


def test_the_best_comes_first_and_the_unknown_last(store: Store, write_run: WriteRun) -> None:
    for digit, accuracy in enumerate([0.5, None, 0.9, 0.0]):
        store.add(write_run(str(digit), accuracy=accuracy))
    assert [row.accuracy for row in store.rows(task="shapes")] == [0.9, 0.5, 0.0, None]
    assert [row.task for row in store.rows()] == ["mathvista"] * 4 + ["shapes"] * 4


def test_rows_of_a_task_or_a_model(store: Store, write_run: WriteRun) -> None:
    store.add(write_run())
    store.add(write_run(model="avar-thinker", steering={"mode": "prob", "image": 0.2}, limit=500))
    assert {row.model for row in store.rows(task="shapes")} == {"avar-tiny", "avar-thinker"}
    (row,) = store.rows(task="shapes", model="avar-thinker")
    assert row.limit == 500
    assert row.steering == '{"image": 0.2, "mode": "prob"}'
    assert store.rows(model="unheard of") == []


def test_adding_again_changes_nothing(store: Store, write_run: WriteRun) -> None:
    store.add(write_run())
    before, fingerprint = store.rows(), (store.runs / f"{RUN}.json").stat()
    store.add(write_run())
    assert store.rows() == before
    assert (store.runs / f"{RUN}.json").stat().st_mtime_ns == fingerprint.st_mtime_ns


def test_other_content_of_a_run_replaces_it_when_that_is_asked_for(store: Store, write_run: WriteRun) -> None:
    store.add(write_run(accuracy=0.5))
    differs = r"with other content, which stays \(accuracy of shapes is 0\.5 there and 0\.6 here\): .* --replace"
    with pytest.raises(StoreError, match=differs):
        store.add(write_run(accuracy=0.6))
    assert [row.accuracy for row in store.rows(task="shapes")] == [0.5]
    assert store.add(write_run(accuracy=0.6), replace=True).event == "replaced"
    assert [row.accuracy for row in store.rows(task="shapes")] == [0.6]


def test_nothing_is_made_by_looking(store: Store) -> None:
    assert store.rows() == []
    assert store.read().skipped == []
    assert not store.path.exists()


def test_files_put_in_and_taken_out_by_hand_are_noticed(store: Store, write_run: WriteRun) -> None:
    store.add(write_run())
    (store.runs / f"{OTHER_RUN}.json").write_bytes(write_run(OTHER).read_bytes())
    assert {row.run_id for row in store.rows()} == {RUN, OTHER_RUN}
    (store.runs / f"{RUN}.json").unlink()
    assert {row.run_id for row in store.rows()} == {OTHER_RUN}


def test_the_time_of_a_file_says_when_a_run_was_added(store: Store, write_run: WriteRun) -> None:
    store.add(write_run())
    os.utime(store.runs / f"{RUN}.json", (1_700_000_000, 1_700_000_000))
    assert {row.added for row in store.rows()} == {"2023-11-14T22:13:20+00:00"}


def without(run: dict[str, Any], *keys: str) -> dict[str, Any]:
    part = run
    for key in keys[:-1]:
        part = part[key]
    del part[keys[-1]]
    return run


def with_value(run: dict[str, Any], value: object, *keys: str) -> dict[str, Any]:
    part = run
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = value
    return run


UNFIT: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "a list": (lambda run: [run], "not a results.json"),
    "another schema": (lambda run: with_value(run, 2, "schema"), "has results schema 2, and .* reads schema 1"),
    "no schema": (lambda run: without(run, "schema"), r"\(it has no schema\)"),
    "no protocol": (lambda run: without(run, "protocol"), r"\(it has no protocol\)"),
    "no accuracy": (
        lambda run: without(run, "tasks", "shapes", "metrics", "accuracy"),
        r"\(tasks.shapes.metrics has no accuracy\)",
    ),
    "no tasks": (lambda run: with_value(run, {}, "tasks"), r"\(tasks has 0 entries, and 1 or more are needed\)"),
    "percent": (lambda run: with_value(run, 91.0, "tasks", "shapes", "metrics", "accuracy", "value"), "accuracy.value"),
    "not a number": (
        lambda run: with_value(run, float("nan"), "tasks", "shapes", "metrics", "vas", "value"),
        "vas.val",
    ),
    "number as text": (
        lambda run: with_value(run, "0.9", "tasks", "shapes", "metrics", "accuracy", "value"),
        "accuracy",
    ),
    "interval upside down": (
        lambda run: with_value(run, [0.9, 0.1], "tasks", "shapes", "metrics", "accuracy", "ci95"),
        "low end lies above",
    ),
    "huge n": (lambda run: with_value(run, 10**30, "tasks", "shapes", "metrics", "accuracy", "n"), "accuracy.n"),
    "path for a run": (lambda run: with_value(run, "../../etc/passwd", "run_id"), r"\(run_id is "),
    "escape codes": (
        lambda run: with_value(run, "\x1b[2Jmodel", "protocol", "model"),
        r"\(protocol.model is .* not a text without control characters\)",
    ),
}


@pytest.mark.parametrize("kind", UNFIT)
def test_a_file_that_does_not_fit_is_named_and_never_stored(
    kind: str, store: Store, run: dict[str, Any], tmp_path: Path
) -> None:
    spoil, message = UNFIT[kind]
    path = tmp_path / "results.json"
    path.write_text(json.dumps(spoil(run)))
    with pytest.raises(ResultsError, match=message) as raised:
        store.add(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert store.rows() == []


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"null"])
def test_bytes_that_are_no_json_are_named(data: bytes, store: Store, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_bytes(data)
    with pytest.raises(ResultsError, match=re.escape(str(path))):
        store.add(path)


def test_missing_files_and_folders_say_what_to_give(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"there is no file .*other\.json"):
        store.add(tmp_path / "other.json")
    for path in (tmp_path, tmp_path / "results.json"):
        with pytest.raises(ResultsError, match=r"holds no finished run: it has no results\.json"):
            store.add(path)


def test_fields_of_later_versions_are_left_alone(store: Store, run: dict[str, Any], tmp_path: Path) -> None:
    run["protocol"]["judge"] = {"model": "some-judge"}
    run["tasks"]["shapes"]["metrics"]["pass_at_4"] = {"value": 0.95, "ci95": None, "n": 125}
    path = tmp_path / "results.json"
    path.write_text(json.dumps(with_run_id(run)))
    store.add(path)
    assert len(store.rows()) == 2


def test_a_bad_file_never_hides_the_others(store: Store, write_run: WriteRun) -> None:
    store.add(write_run())
    (store.runs / f"{OTHER_RUN}.json").write_text('{"schema": 1')
    (store.runs / "1234567890abcdef.json").write_text(json.dumps({"schema": 7}))
    (store.runs / "copy.json").write_bytes(write_run().read_bytes())
    (store.runs / "folder.json").mkdir()
    (store.runs / ".killed.json.0123.tmp").write_text("{")
    os.mkfifo(store.runs / "pipe.json")
    rows, skipped = store.read()
    assert [file.path.name for file in skipped] == [
        "1234567890abcdef.json",
        "copy.json",
        f"{OTHER_RUN}.json",
        "folder.json",
        "pipe.json",
    ]
    assert all(str(file.path) in file.reason for file in skipped)
    assert f"holds the run {RUN}" in skipped[1].reason
    assert {row.run_id for row in rows} == {RUN}


def test_a_mended_file_is_read_again(store: Store, write_run: WriteRun) -> None:
    store.add(write_run())
    stored = store.runs / f"{OTHER_RUN}.json"
    stored.write_text("{")
    assert len(store.read().skipped) == 1
    stored.write_bytes(write_run(OTHER).read_bytes())
    assert store.read().skipped == []
    assert len(store.rows()) == 4


ADD_ALL = "import sys; from pathlib import Path; from avar_eval.leaderboard.store import Store\n"
ADD_ALL += "for path in sys.argv[2:]: Store(Path(sys.argv[1])).add(Path(path))"


def test_two_processes_add_at_once(store: Store, write_run: WriteRun) -> None:
    shared = [write_run(str(number)) for number in range(5)]
    own = [[write_run(str(number + 100 * worker)) for number in range(20)] for worker in (1, 2)]
    commands = [[sys.executable, "-c", ADD_ALL, str(store.path), *map(str, [*shared, *paths])] for paths in own]
    workers = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in commands]
    while any(worker.poll() is None for worker in workers):
        assert store.read().skipped == []
        time.sleep(0.01)
    assert [(worker.returncode, worker.communicate()[1]) for worker in workers] == [(0, "")] * 2
    rows = store.rows()
    assert len(rows) == 2 * 45
    assert sorted(path.suffix for path in store.runs.iterdir()) == [".json"] * 45
    assert len(store.history().lines) == 45


def test_a_store_that_cannot_be_made_is_an_error_with_a_way_out(tmp_path: Path, write_run: WriteRun) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match=r"cannot write the leaderboard store .*choose another folder"):
        Store(tmp_path / "file" / "board").add(write_run())
    with pytest.raises(StoreError, match="is not a folder"):
        Store(tmp_path / "file").rows()


def test_a_full_disk_leaves_the_store_as_it_was(
    store: Store, write_run: WriteRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add(write_run())
    before = store.rows()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match="No space left on device"):
            store.add(write_run(OTHER))
    assert store.rows() == before
    assert [path.name for path in store.runs.iterdir()] == [f"{RUN}.json"]


def test_where_the_store_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AVAR_LEADERBOARD", str(tmp_path / "mine"))
    assert default_store() == tmp_path / "mine"
    monkeypatch.delenv("AVAR_LEADERBOARD")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_store().name == "leaderboard"
    assert "avar-eval" in default_store().parts


def torn(data: bytes, generator: random.Random) -> bytes:
    return data[: generator.randrange(len(data))]


def scribbled(data: bytes, generator: random.Random) -> bytes:
    damaged = bytearray(data)
    for _ in range(generator.choice([1, 8, 200])):
        damaged[generator.randrange(len(damaged))] = generator.randrange(256)
    return bytes(damaged)


@pytest.mark.parametrize("damaged", [torn, scribbled])
def test_a_damaged_file_is_named_or_read_and_hides_no_other(
    store: Store, write_run: WriteRun, damaged: Callable[[bytes, random.Random], bytes]
) -> None:
    store.add(write_run())
    store.add(write_run(OTHER))
    whole = [row for row in store.rows() if row.run_id != OTHER_RUN]
    path, generator = store.runs / f"{OTHER_RUN}.json", random.Random(0)
    data, named = path.read_bytes(), 0
    for _ in range(150):
        path.write_bytes(damaged(data, generator))
        rows, skipped = store.read()
        assert [row for row in rows if row.run_id != OTHER_RUN] == whole
        assert [file.path for file in skipped] == ([] if len(rows) > len(whole) else [path])
        named += len(skipped)
    assert named > 50
    store.add(write_run(OTHER))
    assert len(store.rows()) == 2 * len(whole)


def test_files_that_vanish_while_they_are_read_are_passed_over(
    store: Store, write_run: WriteRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add(write_run())
    monkeypatch.setattr(os, "listdir", lambda _: [f"{RUN}.json", f"{OTHER_RUN}.json"])
    assert {row.run_id for row in store.rows()} == {RUN}
    assert store.read().skipped == []
    shutil.rmtree(store.path)
    assert store.read() == ([], [])


def test_a_store_that_must_not_be_written_is_read(store: Store, write_run: WriteRun) -> None:
    store.add(write_run())
    (store.path / "index.sqlite").write_bytes(b"of an earlier version")
    before, files = store.rows(), sorted(store.path.rglob("*"))
    for folder in (store.runs, store.path):
        folder.chmod(0o500)
    try:
        assert store.rows() == before
    finally:
        for folder in (store.path, store.runs):
            folder.chmod(0o700)
    assert sorted(store.path.rglob("*")) == files


@pytest.mark.parametrize("name", [b"\xff\xfe.json", b"a\nb.json"])
def test_a_file_whose_name_is_no_text_is_passed_over(name: bytes, store: Store, write_run: WriteRun) -> None:
    store.add(write_run())
    Path(os.fsdecode(os.fsencode(store.runs) + b"/" + name)).write_text("{}")
    assert store.read().skipped == []
    assert {row.run_id for row in store.rows()} == {RUN}


def hindered(store: Store, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if how == "nobody's folder":
        monkeypatch.setenv("AVAR_LEADERBOARD", "~nobody-of-this-name/board")
    elif how == "read-only":
        monkeypatch.setattr(os, "open", lambda *_, **__: raised(OSError(errno.EROFS, os.strerror(errno.EROFS))))
    elif how == "full":
        monkeypatch.setattr(os, "fsync", lambda _: raised(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))))
    elif how == "a file":
        store.path.write_text("")
    elif how == "a folder of that name":
        (store.runs / f"{RUN}.json").mkdir(parents=True)
    else:
        monkeypatch.setattr(Path, "mkdir", lambda *_, **__: raised(MemoryError("foreign")))


def raised(error: BaseException) -> Any:
    raise error


@pytest.mark.parametrize("how", ["nobody's folder", "read-only", "full", "a file", "a folder of that name", "anything"])
def test_a_finished_run_does_not_fail_for_the_leaderboard(
    how: str,
    store: Store,
    write_run: WriteRun,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = write_run()
    monkeypatch.setenv("AVAR_LEADERBOARD", str(store.path))
    with monkeypatch.context() as hindrance:
        hindered(store, how, hindrance)
        publish(path)
    assert "warning: the run is not in the leaderboard" in capsys.readouterr().err


def test_a_model_with_a_control_character_is_only_not_in_the_leaderboard(
    run: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run["protocol"]["model"] = "models/a\x01b"
    (tmp_path / "results.json").write_text(json.dumps(run))
    publish(tmp_path / "results.json")
    assert "protocol.model" in capsys.readouterr().err


def test_what_ends_in_this_process_is_verified_by_that(write_run: WriteRun, run: dict[str, Any]) -> None:
    publish(write_run(), ["shapes"])
    assert {row.task: row.mark for row in Store(default_store()).rows()} == {
        "shapes": "verified",
        "mathvista": "as reported",
    }


def test_a_run_that_came_out_otherwise_is_told_of_and_replaces_nothing(
    write_run: WriteRun, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(write_run(), ["shapes"])
    publish(write_run(accuracy=0.95), ["shapes"])
    said = capsys.readouterr().err
    assert said.startswith("warning: the run is not in the leaderboard: ")
    assert "--replace` puts this one in its place" in said
    assert [row.score for row in Store(default_store()).rows("shapes")] == [0.91]


def test_numbers_that_were_rounded_otherwise_are_said_to_be(store: Store, write_run: WriteRun) -> None:
    path = write_run()
    store.add(path)
    results = json.loads(path.read_text())
    results["tasks"]["shapes"]["metrics"]["vas"]["value"] *= 1 + 1e-7
    path.write_text(json.dumps(results))
    with pytest.raises(StoreError, match=r"vas of shapes is .* here, which another batch size or machine may give"):
        store.add(path)


def test_measures_that_are_added_to_a_run_make_its_row_longer(
    store: Store, write_run: WriteRun, capsys: pytest.CaptureFixture[str]
) -> None:
    """A finished run that is given causal columns is still that run; whoever changes a number too is refused."""
    path = write_run()
    store.add_judged(path, ["shapes", "mathvista"])
    results = json.loads(path.read_text())
    results["protocol"]["causal"] = {"mode": "full"}
    results["tasks"]["shapes"]["metrics"]["blind"] = {"value": 0.3, "ci95": [0.2, 0.4], "n": 100}
    path.write_text(json.dumps(results))
    with pytest.raises(StoreError, match="with other content, which stays"):
        store.add(path)  # a bare file does not take the mark away
    assert store.add_judged(path, ["shapes", "mathvista"]).event == "extended"
    (row,) = store.rows("shapes")
    assert (row.mark, row.measures["blind"].value) == ("verified", 0.3)
    results["tasks"]["shapes"]["metrics"]["unparsed"] = {"value": 0.002, "ci95": [0.0, 0.01], "n": 500}
    path.write_text(json.dumps(results))
    with pytest.raises(StoreError, match="with other content, which stays"):
        store.add_judged(path, ["shapes", "mathvista"])
