"""This folder is ours: one holder at a time, among all processes and within each."""

from pathlib import Path
from typing import Self

import filelock

from avar_eval.errors import AvarError


class FolderInUseError(AvarError):
    """Another run, or another part of this one, holds the folder.

    What to do: Wait for the other run, or give this one another `--output`.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(f"another run is writing to {folder}: wait for it to end")


class _FileLock(filelock.FileLock):
    """A class of its own: lmms-eval's evaluator makes every `filelock.FileLock` of a path in a process the same one.

    (`lmms_eval.evaluator._enable_reentrant_filelocks`, for nested downloads.) A second holder in the process that has
    run an evaluation would then be let in.
    """


class FolderLock:
    """Holds a folder, which is made if there is none, until `release` or the end of the process, however it ends.

    name: of the lock's file in the folder. It stays there when the folder is let go: removed, it would be two files for
    those who have it open and those who come. wait: seconds to wait for another holder. Raises FolderInUseError if the
    folder is held, OSError if it cannot be written.
    """

    def __init__(self, folder: Path, name: str = ".lock", wait: float = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # not of one thread: a notebook's thread may open what another one closes
        self._lock = _FileLock(folder / name, thread_local=False)
        try:
            self._lock.acquire(timeout=wait)
        except filelock.Timeout:
            raise FolderInUseError(folder) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Let go of the folder; doing it twice changes nothing."""
        self._lock.release()
