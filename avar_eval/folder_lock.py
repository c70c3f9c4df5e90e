"""This folder is ours: one holder at a time, among all processes and within each."""

from pathlib import Path
from threading import Lock
from typing import Self
from weakref import WeakValueDictionary

import filelock

from avar_eval.errors import AvarError


class FolderInUseError(AvarError):
    """Another run, or another part of this one, holds the folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"another run is writing to {folder}: wait for it to end")


_HELD: "WeakValueDictionary[Path, FolderLock]" = WeakValueDictionary()
"""The locks of this process: a file lock alone was seen to be granted twice within one."""
_HELD_CHANGES = Lock()


class FolderLock:
    """Holds a folder, which is made if there is none, until `release` or the end of the process, however it ends.

    name: of the lock's file in the folder. It stays there when the folder is let go: removed, it would be two files for
    those who have it open and those who come. Raises FolderInUseError if the folder is held, OSError if it cannot be
    written.
    """

    def __init__(self, folder: Path, name: str = ".lock") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = (folder / name).resolve()
        # not of one thread: a notebook's thread may open what another one closes
        self._lock = filelock.FileLock(self._path, thread_local=False)
        with _HELD_CHANGES:
            if self._path in _HELD:
                raise FolderInUseError(folder)
            try:
                self._lock.acquire(timeout=0)
            except filelock.Timeout:
                raise FolderInUseError(folder) from None
            _HELD[self._path] = self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Let go of the folder; doing it twice changes nothing."""
        with _HELD_CHANGES:
            if _HELD.get(self._path) is self:
                del _HELD[self._path]
                self._lock.release()
