"""A run that was begun and has not ended: what goes on with it, for whoever looks for its results. Light."""

import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, TypeGuard

from avar_eval.atomic import WriteError, write_atomically
from avar_eval.keys import masked
from avar_eval.names import first_few
from avar_eval.user_files import parse_json, read_text

RESUME_NAME: Final = "resume.json"
"""In the folder of a run, or of a suite, as long as it has not ended: by what it goes on."""
_RECORDS_NAME: Final = "records.jsonl"
_PROGRAMS: Final = ("avar-eval", "avar-train", "avar-leaderboard")
_MODULE: Final = ["python", "-m", "avar_eval"]
_CALL: Final = re.compile(r"avar_eval\.\w+\(.*\)")
_LONGEST_SHOWN: Final = 2000


def write_resume(folder: Path, command: Sequence[str] | str) -> None:
    """Say by what goes on what has been begun in a folder; keys are hidden. Raises WriteError.

    command: words of a command line, or a call of Python.
    """
    what = {"call": masked(command)} if isinstance(command, str) else {"words": [masked(word) for word in command]}
    content = {"folder": str(Path.cwd()), **what}
    write_atomically(folder / RESUME_NAME, [json.dumps(content, indent=1) + "\n"])


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
    inner = sorted(path.parent.name for path in folder.glob(f"*/{results}"))
    if advice := _how_to_go_on(folder / RESUME_NAME):
        finished = f" (finished in it: {first_few(inner)})" if inner else ""
        return f"{nothing}: one was begun and has not ended{finished}; {advice}"
    if (folder / _RECORDS_NAME).is_file():
        return (
            f"{nothing}: it has responses and no {results}; `avar-eval` with the options that they were asked with and "
            f"--output {folder} goes on"
        )
    if not folder.exists():
        return f"{nothing}: there is no such folder"
    if inner:
        return f"{nothing} itself: give a folder in it, such as {first_few(inner)}"
    return f"{nothing}: it has no {results}"


def _how_to_go_on(path: Path) -> str | None:
    """The advice of a file of `write_resume`; None without one, or where it holds what we do not write.

    A folder may be from somebody else: what it offers to be given to a shell is one command of ours, or nothing.
    """
    try:
        content: Any = parse_json(read_text(path))
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict) or not isinstance(where := content.get("folder"), str):
        return None
    words, call = content.get("words"), content.get("call")
    if _is_ours(words):
        command = shlex.join(words)
    elif isinstance(call, str) and _CALL.fullmatch(call):
        command = call
    else:
        return None
    shown = f"to go on, in {where}: {command}"
    # what a terminal is not shown as it is could not be pasted
    return shown if len(shown) <= _LONGEST_SHOWN and shown.isprintable() else f"to go on: what stands in {path}"


def _is_ours(words: Any) -> TypeGuard[list[str]]:
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        return False
    return bool(words) and (words[0] in _PROGRAMS or words[:3] == _MODULE)
