"""The journal by itself: what it keeps when its writer is killed, its file torn or damaged, its disk full or shared."""

import json
import os
import random
import resource
import signal
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from avar_eval.folder_lock import FolderLock
from avar_eval.records.journal import (
    Journal,
    JournalError,
    LineForm,
    rank_file_name,
    read_lines,
    stream_lines,
    typed_lines,
)


@dataclass(frozen=True)
class Note:
    """A line of its own key."""

    key: str
    text: str = "a\u2028b\x85c\r\nd é\U0001f441"  # what files of lines stumble over


class NotesError(JournalError):
    """What the tests' journals raise."""


NOTES = typed_lines(Note, lambda note: note.key, "a note", "notes", "mend or delete that line", NotesError)


def notes(*numbers: int) -> list[Note]:
    return [Note(str(number)) for number in numbers]


def opened(folder: Path, **options: Any) -> Journal[Note]:
    return Journal(folder / "notes.jsonl", NOTES, **options)


def written(folder: Path, lines: list[Note]) -> bytes:
    """The file after these lines have been appended."""
    with opened(folder) as journal:
        journal.append(lines)
    return (folder / "notes.jsonl").read_bytes()


def kept(folder: Path) -> list[Note]:
    """All notes of a folder, those of ranks among them."""
    with opened(folder) as journal:
        journal.take_in_ranks()
        return list(journal)


def forked(work: Callable[[], None]) -> int:
    """The id of a child that does this and nothing else of ours."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        work()
        status = 0
    finally:
        os._exit(status)


def test_what_is_appended_is_read_back(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        journal.append([])
        assert (len(journal), list(journal), journal.get("1"), "1" in journal) == (0, [], None, False)
        journal.append(notes(1, 2))
        journal.append(notes(3))
        assert (len(journal), list(journal), journal.get("2"), "2" in journal) == (3, notes(1, 2, 3), Note("2"), True)
    data = (tmp_path / "notes.jsonl").read_bytes()
    assert data.count(b"\n") == 3
    assert kept(tmp_path) == notes(1, 2, 3)
    assert read_lines(tmp_path / "notes.jsonl", NOTES) == {str(n): Note(str(n)) for n in (1, 2, 3)}
    assert (tmp_path / "notes.jsonl").read_bytes() == data


class Model(BaseModel):
    """A line as pydantic has it."""

    key: str
    values: dict[str, list[float]] | None = None


MODELS = typed_lines(Model, lambda model: model.key, "a model", "models")


@given(st.builds(Model, key=st.text(max_size=9)))
def test_typed_lines_are_written_as_pydantic_writes_them(model: Model) -> None:
    assert MODELS.encode(model) == model.model_dump_json().encode()
    assert MODELS.decode(MODELS.encode(model)) == model


def test_a_torn_last_line_is_cut_at_every_byte(tmp_path: Path) -> None:
    data = written(tmp_path, notes(1, 2, 3))
    start_of_last = data.rindex(b"\n", 0, len(data) - 1) + 1
    for end in range(start_of_last, len(data)):
        (tmp_path / "notes.jsonl").write_bytes(data[:end])
        assert list(stream_lines(tmp_path / "notes.jsonl", NOTES)) == notes(1, 2), "a reader changes nothing"
        assert (tmp_path / "notes.jsonl").stat().st_size == end
        assert written(tmp_path, notes(3)) == data, f"cut at byte {end}"


@pytest.mark.parametrize("torn", [b"", b"\0" * 512, b'{"key": "torn'])
@pytest.mark.parametrize(
    ("damaged", "reason"),
    [
        (b"", "it is empty"),
        (b"{", "it is no JSON: it breaks off"),
        (b"null", "it is null, not an object"),
        (b"{}", "it has no key"),
        (b'{"key": 1}', "key is 1, not a text"),
        (b"\xff\xfe", "it is no text in UTF-8: byte 1 is 0xff"),
        (b"\0" * 40, 'in column 1 stands "\\u0000" where a value should'),
        (b"[" * 100_000, "its brackets are nested too deeply"),
        (NOTES.encode(Note("2"))[:-1], "it is no JSON: it breaks off"),
        (NOTES.encode(Note("2")) * 2, 'stands {"key":"2","text":"a where it should end'),
    ],
)
def test_a_damaged_line_is_named_and_nothing_is_changed(
    tmp_path: Path, damaged: bytes, reason: str, torn: bytes
) -> None:
    path = tmp_path / "notes.jsonl"
    path.write_bytes(b"\n".join([NOTES.encode(Note("1")), damaged, NOTES.encode(Note("3"))]) + b"\n" + torn)
    before = path.read_bytes()
    for read in (opened, lambda folder: list(stream_lines(folder / "notes.jsonl", NOTES))):
        with pytest.raises(NotesError) as raised:
            read(tmp_path)
        assert str(raised.value).startswith(f"{path}, line 2 is not a note (")
        assert reason in str(raised.value)
        assert str(raised.value).endswith("); nothing was changed: mend or delete that line")
    assert path.read_bytes() == before
    path.write_bytes(NOTES.encode(Note("1")) + b"\n")
    assert kept(tmp_path) == notes(1), "the file has been let go of"


def test_killed_at_any_moment_it_keeps_what_was_appended(tmp_path: Path) -> None:
    moments = random.Random(0)
    known = kills = 0
    while kills < 30 or known <= 100:  # on a busy machine many are killed before their first line
        kills += 1
        read_end, write_end = os.pipe()

        def write() -> None:
            with opened(tmp_path) as journal:
                for first in range(len(journal), 10**9, 7):
                    journal.append([Note(str(n), "x" * 5000) for n in range(first, first + 7)])
                    os.write(write_end, b".")  # noqa: B023

        child = forked(write)
        os.close(write_end)
        time.sleep(moments.uniform(0, 0.05))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with os.fdopen(read_end, "rb") as acknowledged:
            least = known + 7 * len(acknowledged.read())
        keys = [note.key for note in kept(tmp_path)]
        assert keys == [str(n) for n in range(len(keys))], "nothing twice, nothing left out"
        assert len(keys) >= least, "what append has returned for is there"
        known = len(keys)


def test_a_newer_line_supersedes_and_close_compacts(tmp_path: Path) -> None:
    path = tmp_path / "notes.jsonl"
    with opened(tmp_path) as journal:
        journal.append(notes(1, 2))
        journal.append([Note("1", "new")])
        assert (len(journal), journal.get("1")) == (2, Note("1", "new"))
        assert path.read_bytes().count(b"\n") == 3, "append-only while it is open"
    assert list(stream_lines(path, NOTES)) == [Note("1", "new"), Note("2")]
    before = path.stat()
    assert kept(tmp_path) == [Note("1", "new"), Note("2")]
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns), "nothing to compact"


@pytest.mark.parametrize("own", [True, False], ids=["own lock", "the folder's lock"])
def test_a_second_writer_is_refused_in_this_process_and_in_others(tmp_path: Path, own: bool) -> None:
    def second() -> None:
        with pytest.raises(NotesError, match=r"another run is writing to .*notes\.jsonl: wait for it to end"):
            opened(tmp_path)

    if own:
        with opened(tmp_path) as journal:
            second()
            child = forked(second)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            journal.append(notes(1))
            with Journal(tmp_path / "others.jsonl", NOTES) as others:  # another file of the folder
                others.append(notes(2))
        assert kept(tmp_path) == notes(1)
    else:
        with FolderLock(tmp_path) as lock:
            stages = [Journal(tmp_path / f"{stage}.jsonl", NOTES, lock=lock) for stage in ("describe", "reason")]
            for stage in stages:
                stage.append(notes(1))
                stage.close()
            with pytest.raises(Exception, match="another run is writing"):
                FolderLock(tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "describe.jsonl", "reason.jsonl"]


def test_a_full_disk_leaves_the_file_as_it_was_and_can_be_gone_on_from(tmp_path: Path) -> None:
    def fill() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        with opened(tmp_path) as journal:
            for room in (0, 1, 100, 1000, 1001):
                journal.append(notes(room))
                size = os.stat(journal.path).st_size
                resource.setrlimit(resource.RLIMIT_FSIZE, (size + room, most))
                with pytest.raises(NotesError) as raised:
                    journal.append([Note(f"{room}-{n}", "x" * 300) for n in range(7)])
                resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
                assert str(raised.value) == (
                    f"cannot append to {journal.path}: File too large; the {len(journal)} notes so far are intact, "
                    "run the same command again to go on"
                )
                assert os.stat(journal.path).st_size == size
                assert f"{room}-0" not in journal
            journal.append([Note("1000", "again")])
            resource.setrlimit(resource.RLIMIT_FSIZE, (10, most))  # and no room to compact in
            with pytest.raises(Exception, match="cannot write"):
                journal.close()
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    child = forked(fill)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert (tmp_path / "notes.jsonl").read_bytes().count(b"\n") == 6, "the old file is whole"
    assert kept(tmp_path) == [*notes(0, 1, 100), Note("1000", "again"), *notes(1001)]


def test_ranks_write_files_of_their_own_that_are_taken_in_once(tmp_path: Path) -> None:
    with opened(tmp_path) as first, opened(tmp_path, rank=1) as second, opened(tmp_path, rank=2) as third:
        first.append(notes(1))
        second.append([*notes(2), Note("1", "newer")])
        third.append(notes(3))
        of_second = second.path.read_bytes()
        assert list(first) == notes(1)
        first.take_in_ranks()
        first.take_in_ranks()
        assert list(first) == [Note("1", "newer"), *notes(2, 3)]
        for other in (second, third):
            other.read_first()
            assert list(other) == [Note("1", "newer"), *notes(2, 3)]
            assert other.get("3") == Note("3")
        third.append(notes(4))
    assert list(stream_lines(tmp_path / "notes.rank2.jsonl", NOTES)) == notes(4), "what was not taken in stays"
    assert not (tmp_path / "notes.rank1.jsonl").exists(), "an empty one does not"
    (tmp_path / "notes.rank1.jsonl").write_bytes(of_second + b'{"key": "torn')  # killed before it was removed
    assert kept(tmp_path) == [Note("1", "newer"), *notes(2, 3, 4)]
    assert (tmp_path / "notes.jsonl").read_bytes().count(b"\n") == 4
    assert not list(tmp_path.glob("*rank*.jsonl"))


def test_many_lines_of_a_rank_are_taken_in(tmp_path: Path) -> None:
    with opened(tmp_path, rank=3) as other:
        other.append(notes(*range(1000)))
    assert kept(tmp_path) == notes(*range(1000))


def test_a_damaged_line_of_a_rank_names_its_file(tmp_path: Path) -> None:
    (tmp_path / "notes.rank7.jsonl").write_bytes(b"{}\n")
    with opened(tmp_path) as journal, pytest.raises(NotesError, match=r"notes\.rank7\.jsonl, line 1 is not a note"):
        journal.take_in_ranks()
    assert (tmp_path / "notes.rank7.jsonl").read_bytes() == b"{}\n"


@pytest.mark.parametrize(
    ("name", "rank", "expected"),
    [
        ("notes.jsonl", 0, "notes.jsonl"),
        ("notes.jsonl", 12, "notes.rank12.jsonl"),
        ("a.judge.jsonl", 1, "a.judge.rank1.jsonl"),
        (".lock", 1, ".rank1.lock"),
    ],
)
def test_names_of_ranks(name: str, rank: int, expected: str) -> None:
    assert rank_file_name(name, rank) == expected


def test_a_name_that_is_a_pattern_takes_in_its_own_ranks_only(tmp_path: Path) -> None:
    for name in ("[ab].jsonl", "a.rank1.jsonl", "[ab].rank1.jsonl"):
        (tmp_path / name).write_bytes(NOTES.encode(Note(name)) + b"\n")
    with Journal(tmp_path / "[ab].jsonl", NOTES) as journal:
        journal.take_in_ranks()
        assert [note.key for note in journal] == ["[ab].jsonl", "[ab].rank1.jsonl"]
    assert (tmp_path / "a.rank1.jsonl").exists()


@pytest.mark.parametrize("change", [lambda path: path.write_bytes(b"{"), lambda path: path.unlink()])
def test_what_another_program_does_to_the_file_is_noticed(tmp_path: Path, change: Callable[[Path], object]) -> None:
    journal = opened(tmp_path)
    journal.append(notes(1))
    change(journal.path)
    with pytest.raises(NotesError, match=r"notes\.jsonl was changed by another program: run the same command again"):
        journal.append(notes(2))


def test_twenty_thousand_lines_take_no_more_memory_than_their_places(tmp_path: Path) -> None:
    with (tmp_path / "notes.jsonl").open("wb") as file:
        file.writelines(NOTES.encode(Note(f"{n:064x}", "x" * 2000)) + b"\n" for n in range(20_000))
    tracemalloc.start()
    try:
        with opened(tmp_path) as journal:
            size = tracemalloc.get_traced_memory()[0]
            assert journal.get(f"{19_999:064x}") == Note(f"{19_999:064x}", "x" * 2000)
    finally:
        tracemalloc.stop()
    assert size < 8e6, "the file has 42 MB"


@pytest.mark.parametrize("fsync", [True, False])
def test_the_disk_has_what_was_appended_at_once_or_when_it_is_closed(
    tmp_path: Path, fsync: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    sync = os.fsync

    def record(file: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{file}"))
        sync(file)

    monkeypatch.setattr(os, "fsync", record)
    with opened(tmp_path, fsync=fsync) as journal:
        assert synced == [str(tmp_path)], "the name of the new file"
        journal.append(notes(1))
        journal.append(notes(2))
        assert synced[1:] == [str(journal.path)] * (2 if fsync else 0)
    assert synced[1:] == [str(tmp_path / "notes.jsonl")] * (2 if fsync else 1)


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.jsonl").mkdir()
    with pytest.raises(NotesError, match=r"cannot open .*notes\.jsonl: Is a directory"):
        opened(tmp_path)
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(NotesError, match=r"pipe\.jsonl"):
        Journal(tmp_path / "pipe.jsonl", NOTES)
    with pytest.raises(NotesError, match=r"gone\.jsonl cannot be read: No such file"):
        read_lines(tmp_path / "gone.jsonl", NOTES)
    (tmp_path / "file").touch()
    with pytest.raises(NotesError, match="cannot write to the folder"):
        Journal(tmp_path / "file" / "notes.jsonl", NOTES)


def test_lines_of_any_form_have_functions_of_their_own(tmp_path: Path) -> None:
    def decode(text: bytes) -> tuple[str, int]:
        key, value = json.loads(text)
        return key, value + 1

    pairs: LineForm[tuple[str, int]] = LineForm(
        encode=lambda pair: json.dumps([pair[0], pair[1] - 1]).encode(),
        decode=decode,
        key=lambda pair: pair[0],
        one="a pair",
        many="pairs",
    )
    with Journal(tmp_path / "pairs.jsonl", pairs) as journal:
        journal.append([("a", 7)])
        assert journal.get("a") == ("a", 7)
    assert (tmp_path / "pairs.jsonl").read_text() == '["a", 6]\n'
    (tmp_path / "pairs.jsonl").write_text('["a", 6]\n["b"]\n')
    with pytest.raises(JournalError, match=r"pairs\.jsonl, line 2 is not a pair \(not enough values"):
        Journal(tmp_path / "pairs.jsonl", pairs)
