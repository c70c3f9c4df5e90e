"""`history.jsonl` of a store: what became of its rows, one line for each run added, verified, replaced or removed.

A line names the content by its SHA-256, so that a file that somebody has edited in the store is none that was added.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from avar_eval.atomic import write_atomically
from avar_eval.folder_lock import FolderLock
from avar_eval.records.journal import Journal, JournalError, typed_lines
from avar_eval.terminal import note
from avar_eval.user_files import open_file

HISTORY_NAME: Final = "history.jsonl"
UNREADABLE_NAME: Final = "history.unreadable.jsonl"
"""Lines of the history that could not be read, as they stood there, when something was next written to it."""
Event = Literal["added", "verified", "extended", "replaced", "removed"]


@dataclass(frozen=True)
class HistoryLine:
    """One event. time: UTC, ISO 8601. sha256: of the content. verified: tasks whose records were judged again.

    source: the file or folder that it came from.
    """

    time: str
    event: Event
    run_id: str
    sha256: str
    verified: list[str]
    model: str
    tasks: list[str]
    source: str


class HistoryError(JournalError):
    """The history of a store cannot be read or written.

    What to do: Restore history.jsonl of the store from a copy; the runs themselves are not touched.
    """


_LINES: Final = typed_lines(
    HistoryLine,
    key=lambda line: f"{line.time} {line.run_id} {line.event}",
    one="a line of a leaderboard's history",
    many="lines",
    remedy="delete that line; its run can be added again",
    error=HistoryError,
)


@dataclass(frozen=True)
class History:
    """All events of a store, in their order. unreadable: which lines of the file are none, and why."""

    lines: list[HistoryLine]
    unreadable: list[str] = field(default_factory=list)

    @property
    def contents(self) -> Mapping[str, frozenset[str]]:
        """Every content that was ever in the store, by its SHA-256: the tasks that were verified of it."""
        found: dict[str, frozenset[str]] = {}
        for line in self.lines:
            found[line.sha256] = found.get(line.sha256, frozenset()) | frozenset(line.verified)
        return found

    @property
    def runs(self) -> Mapping[str, str]:
        """The runs that are in the store: the SHA-256 of the content that each one has to have."""
        found: dict[str, str] = {}
        for line in self.lines:
            if line.event == "removed":
                found.pop(line.run_id, None)
            else:
                found[line.run_id] = line.sha256
        return found


def read_history(store: Path) -> History:
    """The history of a store; none is an empty one. Raises HistoryError for a file that cannot be read."""
    found, unreadable = dict[str, HistoryLine](), []
    for raw, line in _read(store / HISTORY_NAME):
        if isinstance(line, HistoryLine):
            found[_LINES.key(line)] = line
        elif raw.endswith(b"\n"):  # another process may be writing a last line without an end
            unreadable.append(line)
    return History(list(found.values()), unreadable)


def put_aside_unreadable(store: Path) -> None:
    """Move lines that cannot be read to a file of their own, and say so; whoever calls this has the store's lock.

    Among them is the last line, if it breaks off: whoever wrote it was killed. One that only lacks its end gets it.
    """
    path = store / HISTORY_NAME
    good, bad, problems, whole = list[bytes](), list[bytes](), list[str](), True
    for raw, line in _read(path):
        whole = raw.endswith(b"\n")
        ended = raw if whole else raw + b"\n"
        if isinstance(line, HistoryLine):
            good.append(ended)
        else:
            bad.append(ended)
            problems.append(line)
    if bad:
        with (store / UNREADABLE_NAME).open("ab") as aside:
            aside.writelines(bad)
    if bad or not whole:
        write_atomically(path, good)
    for problem in problems:
        note(f"warning: {problem}; the line is in {store / UNREADABLE_NAME} now")


def _read(path: Path) -> Iterator[tuple[bytes, HistoryLine | str]]:
    """Each line, and what it says, or why it says nothing; the last one may have no end."""
    for number, raw in enumerate(_file_lines(path), start=1):
        try:
            yield raw, _LINES.decode(raw)
        except ValueError as error:
            yield raw, f"{path}, line {number} is not {_LINES.one} ({error}); its run can be added again"


def _file_lines(path: Path) -> list[bytes]:
    """All lines; none of a file that is not there."""
    try:
        with open_file(path) as file:
            return list(file)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise HistoryError(f"{path} cannot be read: {error.strerror}") from error


@contextmanager
def recorded(store: Path, lock: FolderLock, line: HistoryLine) -> Iterator[None]:
    """Append a line, for what then happens; if that fails, the line is taken back. `lock` is the store's.

    The line comes first: a file that the history does not know would be taken for an edited one. Raises HistoryError,
    and the history is then as it was before.
    """
    path = store / HISTORY_NAME
    with Journal(path, _LINES, lock=lock) as journal:
        before = path.stat().st_size
        journal.append([line])
    try:
        yield
    except BaseException:
        os.truncate(path, before)
        raise


def now() -> str:
    """The time of an event: UTC, with microseconds, by which events of a run are told apart."""
    return datetime.now(UTC).isoformat(timespec="microseconds")
