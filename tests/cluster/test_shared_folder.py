"""A record book on a file system that is mounted in two places: one writer, whoever comes from where."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from avar_eval.records.book import RecordBook, RecordBookError
from avar_eval.records.record import Record

HOLDER = """
import sys, time
from pathlib import Path
from avar_eval.records.book import RecordBook
from avar_eval.records.record import Record
book = RecordBook(Path(sys.argv[1]))
book.append([Record.model_validate_json(sys.argv[2])])
print("held", flush=True)
time.sleep(600)
"""


def a_record(key: str) -> Record:
    return Record(
        key=key, task="t", row_id=key, sample=0, prompt="", response=key, finish_reason="stop",
        prompt_token_ids=[1], response_token_ids=[2],
    )  # fmt: skip


@pytest.fixture
def mounts(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """The same file system, another one than that of the tests, under two paths."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    mounted: list[Path] = []
    try:
        for command, path in (
            (["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(first)], first),
            (["mount", "--bind", str(first), str(second)], second),
        ):
            if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
                pytest.skip("this process may not mount a file system")
            mounted.append(path)
        yield first, second
    finally:
        for path in reversed(mounted):
            subprocess.run(["umount", str(path)], check=True)


def test_one_writer_through_two_mounts_and_none_after_a_kill(mounts: tuple[Path, Path]) -> None:
    here, there = (mount / "run" for mount in mounts)
    assert here.parent.stat().st_dev == there.parent.stat().st_dev != Path(__file__).stat().st_dev
    command = [sys.executable, "-c", HOLDER, str(here), a_record("a").model_dump_json()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RecordBookError, match="another run is writing to"):
            RecordBook(there)
        os.kill(holder.pid, signal.SIGKILL)
    with RecordBook(there) as book:
        book.append([a_record("b")])
        assert [record.key for record in book] == ["a", "b"]


def test_a_second_writer_that_no_lock_has_stopped_is_noticed_before_a_line_is_written(tmp_path: Path) -> None:
    """As where NFS is mounted with `nolock` or `local_lock=flock`, and two nodes lock each for itself."""
    with RecordBook(tmp_path) as book:
        book.append([a_record("a")])
        with (tmp_path / "records.jsonl").open("a", encoding="utf-8") as other:
            other.write(a_record("b").model_dump_json() + "\n")
        with pytest.raises(RecordBookError, match="was changed by another program"):
            book.append([a_record("c")])
    with RecordBook(tmp_path) as book:
        assert [record.key for record in book] == ["a", "b"]
