"""One holder of a folder: whoever comes second is refused, and whoever is gone holds nothing."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest

from avar_eval.folder_lock import FolderInUseError, FolderLock

HOLD = """
import os, sys, time
from pathlib import Path
from avar_eval.folder_lock import FolderInUseError, FolderLock
try:
    lock = FolderLock(Path(sys.argv[1]))
except FolderInUseError as error:
    sys.exit(str(error))
child, (begun, begin) = None, os.pipe()
if "fork" in sys.argv:
    child = os.fork()
    if child == 0:
        os.write(begin, b".")  # it has let go of what it inherited
    else:
        os.read(begun, 1)
if child != 0:
    print("held", child, flush=True)
time.sleep(60)
"""


def holder(folder: Path, *words: str) -> "subprocess.Popen[str]":
    """Another process that holds the folder, or a message of why not."""
    command = [sys.executable, "-c", HOLD, str(folder), *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def itself(folder: Path) -> Path:
    return folder


def relative(folder: Path) -> Path:
    return Path(os.path.relpath(folder))


def through_a_link(folder: Path) -> Path:
    (folder.parent / "link").symlink_to(folder)
    return folder.parent / "link"


@pytest.mark.parametrize("name", [itself, relative, through_a_link])
def test_a_second_holder_of_this_process_is_refused(tmp_path: Path, name: Callable[[Path], Path]) -> None:
    folder = tmp_path / "new" / "folder"
    with FolderLock(folder):
        same = name(folder)
        with pytest.raises(FolderInUseError, match=r"another run is writing to .*: wait for it to end"):
            FolderLock(same)
        with FolderLock(folder, ".of_something_else"), FolderLock(folder.parent):
            pass
    FolderLock(same).release()


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    with FolderLock(tmp_path):
        assert f"another run is writing to {tmp_path}" in holder(tmp_path).communicate(timeout=60)[1]


@pytest.mark.parametrize("words", [(), ("fork",)], ids=["alone", "with a forked child that lives on"])
def test_a_killed_process_holds_nothing(tmp_path: Path, words: tuple[str, ...]) -> None:
    with holder(tmp_path, *words) as process:
        assert process.stdout is not None
        said, child = process.stdout.readline().split()
        assert said == "held"
        try:
            with pytest.raises(FolderInUseError):
                FolderLock(tmp_path)
            process.send_signal(signal.SIGKILL)
            process.wait(timeout=60)
            FolderLock(tmp_path).release()
        finally:
            if words:
                os.kill(int(child), signal.SIGKILL)


def test_a_lock_that_nobody_has_any_more_is_gone(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    with pytest.raises(FolderInUseError):
        FolderLock(tmp_path)
    del lock
    FolderLock(tmp_path).release()


def test_another_thread_is_refused_and_may_let_go(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    refused: list[bool] = []

    def try_to_hold() -> None:
        try:
            FolderLock(tmp_path)
        except FolderInUseError:
            refused.append(True)

    for work in (try_to_hold, lock.release):
        thread = Thread(target=work)
        thread.start()
        thread.join()
    assert refused == [True]
    with FolderLock(tmp_path):
        lock.release()  # the second time, when it is another one's
        with pytest.raises(FolderInUseError):
            FolderLock(tmp_path)


def test_a_file_in_the_folders_place_is_an_error_of_the_system(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OSError, match=r"File exists|Not a directory"):
            FolderLock(folder)


AFTER_AN_EVALUATION = """
import sys
from pathlib import Path
import filelock
from lmms_eval.evaluator import _enable_reentrant_filelocks
from avar_eval.folder_lock import FolderInUseError, FolderLock
_enable_reentrant_filelocks()
folder = Path(sys.argv[1])
assert filelock.FileLock(folder / "a") is filelock.FileLock(folder / "a"), "lmms-eval changes locks no more"
lock = FolderLock(folder)
try:
    FolderLock(folder)
except FolderInUseError:
    lock.release()
    FolderLock(folder)
    print("refused")
"""


def test_a_second_holder_is_refused_after_lmms_eval_has_changed_file_locks(tmp_path: Path) -> None:
    """Its evaluator gives the same lock, held already, to whoever asks for one on a path again."""
    done = subprocess.run([sys.executable, "-c", AFTER_AN_EVALUATION, str(tmp_path)], capture_output=True, text=True)
    assert done.stdout == "refused\n", done.stderr
