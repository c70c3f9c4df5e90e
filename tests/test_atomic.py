"""Files are written whole or not at all."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from avar_eval.atomic import WriteError, write_atomically


def listed(folder: Path) -> list[tuple[str, str]]:
    return [(file.name, file.read_text(encoding="utf-8")) for file in folder.iterdir()]


def test_a_new_file_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_atomically(path, ["old"])
    write_atomically(path, ["né\n", "w"])
    assert listed(tmp_path) == [("results.json", "né\nw")]


def test_the_umask_is_followed(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "file", ["text"])
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("error", "raised", "message"),
    [
        (OSError(28, "No space left on device"), WriteError, "cannot write .*results.json: No space left on device"),
        (ValueError("line 3 is damaged"), ValueError, "line 3 is damaged"),
        (KeyboardInterrupt("by the user"), KeyboardInterrupt, "^by the user$"),
    ],
)
def test_a_failure_leaves_the_old_file(
    tmp_path: Path, error: BaseException, raised: type[BaseException], message: str
) -> None:
    path = tmp_path / "results.json"
    path.write_text("old")

    def lines() -> Iterator[str]:
        yield "new"
        raise error

    with pytest.raises(raised, match=message):
        write_atomically(path, lines())
    assert listed(tmp_path) == [("results.json", "old")]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match=r"cannot write .*nowhere/file: No such file or directory"):
        write_atomically(tmp_path / "nowhere" / "file", ["text"])
