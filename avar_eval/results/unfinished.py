"""A run that was begun and has not ended: what goes on with it, for whoever looks for its results. Light."""

from pathlib import Path
from typing import Final

from avar_eval.atomic import WriteError, write_atomically
from avar_eval.keys import masked
from avar_eval.names import first_few
from avar_eval.user_files import read_text

RESUME_NAME: Final = "resume.txt"
"""In the folder of a run, or of a suite, as long as it has not ended: the command that goes on with it."""
_RECORDS_NAME: Final = "records.jsonl"
_LONGEST_COMMAND: Final = 4000


def write_resume(folder: Path, command: str) -> None:
    """Say by which command what has been begun in a folder goes on; keys are hidden. Raises WriteError."""
    write_atomically(folder / RESUME_NAME, [masked(command) + "\n"])


def remove_resume(folder: Path) -> None:
    """It has ended. Raises WriteError."""
    path = folder / RESUME_NAME
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise WriteError(path, error.strerror) from error


def no_results(folder: Path, results: str) -> str:
    """Why a folder has no file of results, which is called so, and what to do."""
    nothing = f"{folder} holds no finished run"
    try:
        command = read_text(folder / RESUME_NAME).strip()[:_LONGEST_COMMAND]
    except (OSError, ValueError):
        command = ""
    if command:
        return f"{nothing}: one was begun and has not ended; to go on: {command}"
    if (folder / _RECORDS_NAME).is_file():
        return (
            f"{nothing}: it has responses and no {results}; `avar-eval` with the options that they were asked with and "
            f"--output {folder} goes on"
        )
    if not folder.exists():
        return f"{nothing}: there is no such folder"
    if inner := sorted(path.parent.name for path in folder.glob(f"*/{results}")):
        return f"{nothing} itself: give a folder in it, such as {first_few(inner)}"
    return f"{nothing}: it has no {results}"
