"""The record book: what it keeps when a process dies, a disk fills or a file is damaged."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from avar_eval.attention.summary import AttentionSummary, QueryAttention
from avar_eval.records.book import RecordBook, RecordBookError
from avar_eval.records.record import JudgementRecord, Record, Response, record_key

TEXTS = st.text(max_size=30)
SHARES = st.lists(st.floats(0, 1), max_size=3)
NUMBERS = st.none() | st.floats(0, 1e9)
QUERIES = st.none() | st.builds(
    QueryAttention,
    tokens=st.integers(0, 99),
    vas=NUMBERS,
    vas_without_sink=NUMBERS,
    ratio_of_sums=NUMBERS,
    vas_by_layer=st.none() | SHARES,
    share_by_layer=st.dictionaries(TEXTS, SHARES, max_size=2),
)
RECORDS = st.builds(
    Record,
    key=TEXTS,
    task=TEXTS,
    row_id=TEXTS,
    sample=st.integers(0, 9),
    prompt=TEXTS,
    prompt_token_ids=st.lists(st.integers(0, 10**6), max_size=4),
    response_token_ids=st.lists(st.integers(0, 10**6), max_size=4),
    response=TEXTS,
    finish_reason=st.sampled_from(["stop", "length"]),
    judgement=st.none()
    | st.builds(
        JudgementRecord,
        state=st.sampled_from(["scored", "truncated", "unparsed", "judge_error"]),
        extracted=st.none() | TEXTS,
        correct=st.booleans(),
        grader=TEXTS,
    ),
    attention=st.none() | st.builds(AttentionSummary, user=QUERIES, response=QUERIES),
)
BOOKS = st.lists(RECORDS, min_size=1, max_size=4, unique_by=lambda record: record.key)


def record(number: int, **fields: Any) -> Record:
    """A record of its own key; its text holds what line-based files stumble over."""
    return Record(
        key=f"key-{number}",
        task="shapes",
        row_id=str(number),
        sample=0,
        prompt="a\u2028b\x85c\r\nd",
        prompt_token_ids=[1, 2],
        response_token_ids=[3],
        response=f"<answer>{number}</answer>\n\x00é\U0001f441",
        finish_reason="stop",
        **fields,
    )


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder for one example of a property."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def written(folder: Path, records: list[Record]) -> bytes:
    """The file after these records have been appended."""
    with RecordBook(folder) as book:
        book.append(records)
    return (folder / "records.jsonl").read_bytes()


def read(folder: Path) -> list[Record]:
    """All records of a folder, in order."""
    with RecordBook(folder) as book:
        return list(book)


@given(BOOKS)
def test_what_is_appended_is_read_back(records: list[Record]) -> None:
    with temporary_folder() as folder:
        data = written(folder, records)
        assert data.count(b"\n") == len(records)
        assert read(folder) == records
        assert (folder / "records.jsonl").read_bytes() == data


def test_a_torn_last_line_is_cut_at_every_byte(tmp_path: Path) -> None:
    data = written(tmp_path, [record(1), record(2), record(3)])
    start_of_last = data.rindex(b"\n", 0, len(data) - 1) + 1
    for end in range(start_of_last, len(data)):
        (tmp_path / "records.jsonl").write_bytes(data[:end])
        assert read(tmp_path) == [record(1), record(2)], f"cut at byte {end}"
        assert (tmp_path / "records.jsonl").read_bytes() == data[:start_of_last]


@given(BOOKS, st.data())
def test_a_book_torn_anywhere_keeps_its_whole_lines(records: list[Record], data: st.DataObject) -> None:
    with temporary_folder() as folder:
        whole = written(folder, records)
        end = data.draw(st.integers(0, len(whole)))
        (folder / "records.jsonl").write_bytes(whole[:end])
        kept = whole[:end].count(b"\n")
        with RecordBook(folder) as book:
            assert list(book) == records[:kept]
            book.append(records[kept:])
        assert (folder / "records.jsonl").read_bytes() == whole


def test_zeros_after_a_power_cut_are_cut(tmp_path: Path) -> None:
    data = written(tmp_path, [record(1)])
    (tmp_path / "records.jsonl").write_bytes(data + b"\0" * 512)
    assert read(tmp_path) == [record(1)]
    assert (tmp_path / "records.jsonl").read_bytes() == data


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"{",
        b"null",
        b'"text"',
        b"{}",
        b"\xff\xfe",
        b'{"key": "a", "surprise": 1}',
        json.dumps(record(2).model_dump() | {"surprise": 1}).encode(),
        json.dumps(record(2).model_dump() | {"finish_reason": "tired"}).encode(),
        record(2).model_dump_json().encode()[:-1],
        record(2).model_dump_json().encode() * 2,
    ],
)
@pytest.mark.parametrize("torn", [b"", b'{"key": "torn'])
def test_a_corrupt_line_is_named_and_nothing_is_changed(tmp_path: Path, damaged: bytes, torn: bytes) -> None:
    lines = [record(1).model_dump_json().encode(), damaged, record(3).model_dump_json().encode()]
    before = b"\n".join(lines) + b"\n" + torn
    (tmp_path / "records.jsonl").write_bytes(before)
    with pytest.raises(RecordBookError, match=r"records\.jsonl, line 2 is not a record"):
        RecordBook(tmp_path)
    assert (tmp_path / "records.jsonl").read_bytes() == before
    (tmp_path / "records.jsonl").write_bytes(lines[0] + b"\n")
    assert read(tmp_path) == [record(1)], "the folder has been let go of"


def test_a_newer_line_supersedes_and_close_compacts(tmp_path: Path) -> None:
    judged = record(1, judgement=JudgementRecord(state="scored", extracted="1", correct=True, grader="g"))
    book = RecordBook(tmp_path)
    book.append([record(1), record(2)])
    book.append([judged])
    assert book.get("key-1") == judged
    assert len(book) == 2
    path = tmp_path / "records.jsonl"
    assert path.read_bytes().count(b"\n") == 3, "append-only while the run goes on"
    book.close()
    assert path.read_bytes().count(b"\n") == 2
    assert read(tmp_path) == [judged, record(2)]
    assert sorted(os.listdir(tmp_path)) == [".lock", "records.jsonl"]


def test_a_superseded_line_left_by_a_killed_run_is_read_and_compacted(tmp_path: Path) -> None:
    newer = record(1, judgement=JudgementRecord(state="unparsed", extracted=None, correct=False, grader="g"))
    (tmp_path / "records.jsonl").write_text("".join(r.model_dump_json() + "\n" for r in (record(1), newer)))
    assert read(tmp_path) == [newer]
    assert (tmp_path / "records.jsonl").read_text() == newer.model_dump_json() + "\n"


def test_nothing_to_compact_leaves_the_file_untouched(tmp_path: Path) -> None:
    written(tmp_path, [record(1), record(2)])
    before = (tmp_path / "records.jsonl").stat()
    read(tmp_path)
    after = (tmp_path / "records.jsonl").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_second_holder_is_refused_until_the_first_lets_go(tmp_path: Path) -> None:
    with RecordBook(tmp_path) as book:
        with pytest.raises(RecordBookError, match=r"another run is writing to .*--output"):
            RecordBook(tmp_path)
        book.append([record(1)])
    assert read(tmp_path) == [record(1)]


def test_the_lock_of_a_killed_process_is_gone(tmp_path: Path) -> None:
    program = "import sys, time; from pathlib import Path; from avar_eval.records.book import RecordBook\n"
    program += "book = RecordBook(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(RecordBookError, match="another run"):
            RecordBook(tmp_path)
        holder.send_signal(signal.SIGKILL)
    assert read(tmp_path) == []


# A child, because the limit holds for a whole process. Python leaves a write past it an OSError, as on a full disk.
FULL_DISK = """
import resource, sys
from pathlib import Path
from avar_eval.records.book import RecordBook, RecordBookError
from avar_eval.records.record import Record
folder, room, batch = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
with RecordBook(folder) as book:
    try:
        for first in range(0, 1000, batch):
            book.append([
                Record(key=str(n), task="t", row_id="r", sample=0, prompt="p", prompt_token_ids=[], response="é" * 50,
                    response_token_ids=[], finish_reason="stop") for n in range(first, first + batch)
            ])
    except RecordBookError as error:
        print(len(book), error)
"""


@pytest.mark.parametrize(("room", "batch"), [(0, 1), (1, 1), (5000, 1), (5000, 7), (5001, 7), (12345, 1000)])
def test_a_full_disk_keeps_the_records_so_far(tmp_path: Path, room: int, batch: int) -> None:
    child = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path), str(room), str(batch)],
        capture_output=True,
        text=True,
        check=True,
    )
    kept, message = child.stdout.split(" ", 1)
    assert "cannot append to" in message
    assert f"the {kept} records so far are intact" in message
    assert [record.key for record in read(tmp_path)] == [str(n) for n in range(int(kept))]
    assert int(kept) % batch == 0
    data = (tmp_path / "records.jsonl").read_bytes()
    assert data.count(b"\n") == int(kept), "no torn line stays behind"
    assert len(data) <= room


def test_a_full_disk_while_compacting_keeps_the_old_file(tmp_path: Path) -> None:
    program = """
import resource, sys
from pathlib import Path
from avar_eval.atomic import WriteError
from avar_eval.records.book import RecordBook
book = RecordBook(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    book.close()
except WriteError as error:
    print(error)
"""
    lines = [record(n % 2).model_dump_json() for n in range(6)]
    before = "".join(line + "\n" for line in lines)
    (tmp_path / "records.jsonl").write_text(before)
    child = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    assert child.stdout.startswith("cannot write ")
    assert (tmp_path / "records.jsonl").read_text() == before
    assert sorted(os.listdir(tmp_path)) == [".lock", "records.jsonl"]


@contextmanager
def without_permissions(folder: Path, mode: int) -> Iterator[None]:
    """The folder with this mode, and this process without the superuser's rights, if it has them."""
    user = os.geteuid()
    before = folder.stat().st_mode
    folder.chmod(mode)
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        if user == 0:
            os.seteuid(0)
        folder.chmod(before)


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that any user can reach; pytest's own are closed to others."""
    with temporary_folder() as folder:
        folder.chmod(0o755)
        yield folder


def test_an_unwritable_folder_is_named(public_folder: Path) -> None:
    with without_permissions(public_folder, 0o555):
        with pytest.raises(RecordBookError, match=f"cannot write to the output folder {public_folder}: Permission"):
            RecordBook(public_folder)
        with pytest.raises(RecordBookError, match=r"cannot write to the output folder .*new: Permission denied"):
            RecordBook(public_folder / "new")
    assert list(public_folder.iterdir()) == []


def test_an_unwritable_book_is_named_and_the_folder_let_go(public_folder: Path) -> None:
    written(public_folder, [record(1)])
    (public_folder / ".lock").chmod(0o666)
    with (
        without_permissions(public_folder / "records.jsonl", 0o444),
        pytest.raises(RecordBookError, match=r"cannot open .*records\.jsonl: Permission denied"),
    ):
        RecordBook(public_folder)
    assert read(public_folder) == [record(1)]


def test_a_file_in_the_folders_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    for output in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(RecordBookError, match="cannot write to the output folder"):
            RecordBook(output)
    (tmp_path / "records.jsonl").mkdir()
    with pytest.raises(RecordBookError, match=r"cannot open .*records\.jsonl"):
        RecordBook(tmp_path)


PARTS = {
    "task": "shapes",
    "row": "7",
    "sample": 0,
    "prompt": "Where?",
    "images": ["a", "b"],
    "weights": "w",
    "dtype": "float32",
    "decoding": {"temperature": 0.0, "max_new_tokens": 8},
    "steering": None,
}


@pytest.mark.parametrize(
    "change",
    [
        {"task": "shapes_blind"},
        {"row": "8"},
        {"sample": 1},
        {"prompt": "Where? "},
        {"images": ["b", "a"]},
        {"images": ["ab"]},
        {"images": []},
        {"weights": "v"},
        {"dtype": "bfloat16"},
        {"decoding": {"temperature": 0.1, "max_new_tokens": 8}},
        {"decoding": {"temperature": 0.0, "max_new_tokens": 9}},
        {"decoding": {"temperature": 0.0, "max_new_tokens": 8, "stop": []}},
        {"steering": {}},
    ],
)
def test_every_part_changes_the_key(change: dict[str, Any]) -> None:
    assert record_key(**PARTS | change) != record_key(**PARTS)


def test_a_key_is_a_sha256_that_the_order_of_parts_does_not_change() -> None:
    assert record_key(**dict(reversed(PARTS.items()))) == record_key(**PARTS)
    assert len(bytes.fromhex(record_key(**PARTS))) == 32


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS, lambda inner: st.lists(inner, max_size=3), max_leaves=5
)


@given(st.dictionaries(TEXTS, JSON, max_size=4), st.dictionaries(TEXTS, JSON, max_size=4))
def test_different_parts_have_different_keys(first: dict[str, Any], second: dict[str, Any]) -> None:
    assume(json.dumps(first, sort_keys=True) != json.dumps(second, sort_keys=True))
    assert record_key(**first) != record_key(**second)


@given(RECORDS, st.sampled_from([None, " ", "<>"]))
@settings(max_examples=30)
def test_a_stripped_response_keeps_its_record(of: Record, chars: str | None) -> None:
    response = Response(of)
    assert response == of.response
    stripped = response.strip(chars)
    assert stripped == of.response.strip(chars)
    assert stripped.record is of


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_an_infinite_ratio_is_unknown_and_can_be_read_back(tmp_path: Path, value: float) -> None:
    queries: dict[str, Any] = {"tokens": 1, "ratio_of_sums": 2.5, "share_by_layer": {"image": [1.0]}}
    looked = QueryAttention(vas=value, vas_without_sink=value, vas_by_layer=[1.5, value], **queries)
    assert (looked.vas, looked.vas_without_sink, looked.vas_by_layer) == (None, None, [1.5, None])
    measured = record(1, attention=AttentionSummary(user=looked, response=None))
    written(tmp_path, [measured])
    assert read(tmp_path) == [measured]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_share_of_attention_is_a_number(value: float) -> None:
    ratios = {"vas": None, "vas_without_sink": None, "ratio_of_sums": None, "vas_by_layer": None}
    with pytest.raises(ValidationError):
        QueryAttention(tokens=1, share_by_layer={"image": [value]}, **ratios)
