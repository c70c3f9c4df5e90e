"""The store of finished runs: `runs/<run_id>.json` are the truth, `index.sqlite` is made from them.

Whenever the index is used it is first compared with the files, by name and fingerprint, and brought up to date. A
missing, damaged or old index, a file put in or taken out by hand and a killed `add` therefore mend themselves.
"""

import os
import sqlite3
import zlib
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import astuple, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import platformdirs

from avar_eval import __version__
from avar_eval.atomic import WriteError, write_atomically
from avar_eval.errors import AvarError
from avar_eval.leaderboard.results import Results, ResultsFileError, read_results
from avar_eval.leaderboard.row import Row, rows_of
from avar_eval.terminal import note

LOCK_TIMEOUT = 60.0
"""Seconds to wait for another process that is writing the index."""
ATTEMPTS = 3
"""How often to try on an index that turns out damaged, or is thrown away by another process that found it so."""


class StoreError(AvarError):
    """The store cannot be read or written."""


@dataclass(frozen=True)
class SkippedFile:
    """A file among the runs that holds no readable run, and why."""

    path: Path
    reason: str


COLUMNS = ", ".join(f'"{field.name}"' for field in fields(Row))
INSERT_ROW = f"INSERT INTO rows ({COLUMNS}) VALUES ({', '.join('?' * len(fields(Row)))})"
TABLES = {
    "files": "name TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, run_id TEXT, skipped TEXT",
    "rows": f"{COLUMNS}, PRIMARY KEY (run_id, task)",
}
# Another version of avar-eval may fill the same columns otherwise, so each makes the index anew.
INDEX_VERSION = zlib.crc32(f"{__version__} {TABLES}".encode()) & 0x7FFFFFFF
DAMAGED = {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR}
_OF_THE_INDEX = (sqlite3.Error, UnicodeDecodeError)

T = TypeVar("T")


def default_store() -> Path:
    """Where the leaderboard is kept: $AVAR_LEADERBOARD, else `leaderboard` in the user's data folder for avar-eval.

    Raises StoreError where that names the folder of a user whom this machine does not know.
    """
    chosen = os.environ.get("AVAR_LEADERBOARD")
    try:
        return Path(chosen).expanduser() if chosen else platformdirs.user_data_path("avar-eval") / "leaderboard"
    except RuntimeError as error:
        raise StoreError(f"AVAR_LEADERBOARD is {chosen!r}, and there is no such user: name a folder there") from error


class Store:
    """Finished runs in the folder `path`, which the first `add` makes. Safe for several processes at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.runs = path / "runs"
        self.index = path / "index.sqlite"

    def add(self, results_path: Path) -> Results:
        """Copy a finished run's results.json into the store, byte for byte, and index it.

        The same run added again leaves one row; what has changed in it replaces the earlier file. Raises
        ResultsFileError for a file that is not of the schema and StoreError when the store cannot be written.
        """
        results, data = read_results(results_path)
        target = self.runs / f"{results.run_id}.json"
        try:
            self.runs.mkdir(parents=True, exist_ok=True)
            if not target.exists() or target.read_bytes() != data:
                write_atomically(target, [data.decode()])
        except WriteError as error:
            raise self._cannot("write", error.reason) from error
        except OSError as error:
            raise self._cannot("write", error.strerror) from error
        self._with_index(lambda index: None)
        return results

    def rebuild(self) -> list[SkippedFile]:
        """Make the index anew from the files; returns those that hold no readable run. Raises StoreError."""
        if self._exists():
            self._with_index(lambda index: None, afresh=True)
        return self.skipped()

    def rows(self, task: str | None = None, model: str | None = None) -> list[Row]:
        """One row a task of every run, or of one task or model: tasks by name, in each the best score first.

        Rows of unknown score come last; equal ones stand in the order they were added. Raises StoreError.
        """
        return [
            Row(*record)
            for record in self._select(
                f"SELECT {COLUMNS} FROM rows WHERE task = ifnull(?, task) AND model = ifnull(?, model) "
                "ORDER BY task, score DESC NULLS LAST, added, run_id",
                (task, model),
            )
        ]

    def skipped(self) -> list[SkippedFile]:
        """Files among the runs that hold no readable run. Raises StoreError."""
        found = self._select("SELECT name, skipped FROM files WHERE skipped IS NOT NULL ORDER BY name")
        return [SkippedFile(self.runs / name, reason) for name, reason in found]

    def _select(self, query: str, parameters: tuple[str | None, ...] = ()) -> list[tuple[Any, ...]]:
        if not self._exists():
            return []
        return self._with_index(lambda index: index.execute(query, parameters).fetchall())

    def _exists(self) -> bool:
        if self.path.exists() and not self.path.is_dir():
            raise StoreError(f"the leaderboard store {self.path} is not a folder; name another one with --store")
        return self.runs.is_dir()

    def _with_index(self, work: Callable[[sqlite3.Connection], T], afresh: bool = False) -> T:
        """Do the work on an index that agrees with the files; a damaged one is thrown away first: it is only a copy."""
        for _ in range(ATTEMPTS - 1):
            try:
                return self._attempt(work, afresh)
            except _OF_THE_INDEX as error:
                # Text that is not UTF-8 is found by Python, which sets no code.
                code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
                if code & 0xFF in DAMAGED:
                    self._discard_index()
                elif code != sqlite3.SQLITE_READONLY_DBMOVED:  # another process has just thrown it away
                    raise self._cannot("index", str(error)) from error
        try:
            return self._attempt(work, afresh)
        except _OF_THE_INDEX as error:
            raise self._cannot("index", str(error)) from error

    def _discard_index(self) -> None:
        try:
            for suffix in ("", "-journal"):
                self.index.with_name(self.index.name + suffix).unlink(missing_ok=True)
        except OSError as error:
            raise self._cannot("write", error.strerror) from error

    def _attempt(self, work: Callable[[sqlite3.Connection], T], afresh: bool) -> T:
        with closing(sqlite3.connect(self.index, timeout=LOCK_TIMEOUT, isolation_level=None)) as index:
            if afresh or not self._is_current(index):
                self._update(index, afresh)
            return work(index)

    def _is_current(self, index: sqlite3.Connection) -> bool:
        return _version(index) == INDEX_VERSION and _indexed(index) == self._fingerprints()

    def _update(self, index: sqlite3.Connection, afresh: bool) -> None:
        """Read what is new or changed among the files, forget what is gone; closing without commit undoes it all."""
        index.execute("BEGIN IMMEDIATE")
        if afresh or _version(index) != INDEX_VERSION:
            _clear(index)
        known, present = _indexed(index), self._fingerprints()
        for name in known.keys() | present.keys():
            if known.get(name) != present.get(name):
                _forget(index, name)
                if name in present:
                    _index_file(index, self.runs / name, present[name])
        index.execute("COMMIT")

    def _fingerprints(self) -> dict[str, str]:
        """What tells one version of a file from the next, by the file's name."""
        found = {}
        try:
            for name in os.listdir(self.runs):
                # a name that is no text is no run's, and the index could not hold it
                if name.endswith(".json") and name.isprintable():
                    with suppress(FileNotFoundError):  # taken away meanwhile
                        found[name] = _fingerprint((self.runs / name).stat())
        except OSError as error:
            raise self._cannot("read", error.strerror) from error
        return found

    def _cannot(self, action: str, reason: str | None) -> StoreError:
        return StoreError(
            f"cannot {action} the leaderboard store {self.path}: {reason}; make room or give permission there, or "
            "choose another folder (AVAR_LEADERBOARD, --store), then `avar-leaderboard add RESULTS.json`"
        )


def publish(results_path: Path) -> None:
    """Add the run to the leaderboard. The run is complete without: whatever keeps it out is a warning."""
    try:
        Store(default_store()).add(results_path)
    except AvarError as error:
        note(f"warning: the run is not in the leaderboard: {error}")
    except Exception as error:  # a finished run must not fail for whatever lies in another folder
        note(
            f"warning: the run is not in the leaderboard ({type(error).__name__}: {error}); it is whole, add it with "
            f"`avar-leaderboard add {results_path}` when that is mended"
        )


def _version(index: sqlite3.Connection) -> int:
    return int(index.execute("PRAGMA user_version").fetchone()[0])


def _indexed(index: sqlite3.Connection) -> dict[str, str]:
    return dict(index.execute("SELECT name, fingerprint FROM files"))


def _clear(index: sqlite3.Connection) -> None:
    for table, columns in TABLES.items():
        index.execute(f"DROP TABLE IF EXISTS {table}")
        index.execute(f"CREATE TABLE {table} ({columns})")
    index.execute(f"PRAGMA user_version = {INDEX_VERSION}")


def _forget(index: sqlite3.Connection, name: str) -> None:
    index.execute("DELETE FROM rows WHERE run_id = (SELECT run_id FROM files WHERE name = ?)", (name,))
    index.execute("DELETE FROM files WHERE name = ?", (name,))


def _index_file(index: sqlite3.Connection, path: Path, fingerprint: str) -> None:
    """Put a file's rows into the index, or the reason why it has none."""
    try:
        results, _ = read_results(path)
        if path.name != f"{results.run_id}.json":
            raise ResultsFileError(f"{path} holds the run {results.run_id}; add it with `avar-leaderboard add {path}`")
    except ResultsFileError as error:
        index.execute("INSERT INTO files VALUES (?, ?, NULL, ?)", (path.name, fingerprint, str(error)))
        return
    modified = int(fingerprint.partition(" ")[0]) / 1e9
    added = datetime.fromtimestamp(modified, UTC).isoformat(timespec="seconds")
    index.execute("INSERT INTO files VALUES (?, ?, ?, NULL)", (path.name, fingerprint, results.run_id))
    index.executemany(INSERT_ROW, map(astuple, rows_of(results, added)))


def _fingerprint(status: os.stat_result) -> str:
    """Begins with the time of modification in nanoseconds, which is when the run was added."""
    return f"{status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino} {status.st_size}"
