"""Files that others see whole or not at all."""

import os
from collections.abc import Iterable
from pathlib import Path
from secrets import token_hex

from avar_eval.errors import AvarError


class WriteError(AvarError):
    """A file cannot be written. reason: the operating system's, such as "No space left on device".

    What to do: Make room or choose another folder; the file that was there before is whole.
    """

    def __init__(self, path: Path, reason: str | None) -> None:
        super().__init__(f"cannot write {path}: {reason}")
        self.reason = reason


def write_atomically(path: Path, parts: Iterable[str | bytes]) -> None:
    """Write bytes, and text as UTF-8, so that `path` holds its old content or all of the new one.

    So it does after a power cut, and an error in making the parts leaves the old content, too. Raises WriteError if the
    disk is full or the folder cannot be written.
    """
    # Not tempfile, whose files only their owner reads: this one follows the umask, so that a folder can be shared.
    partial = path.with_name(f".{path.name}.{token_hex(8)}.partial")
    try:
        try:
            with partial.open("xb") as file:
                file.writelines(part.encode() if isinstance(part, str) else part for part in parts)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
    except OSError as error:
        raise WriteError(path, error.strerror) from error


def sync_folder(path: Path) -> None:
    """Make a new name in a folder outlive a power cut."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
