"""The store of finished runs: `runs/<run_id>.json` is each run's results.json, byte for byte, and all that there is.

All of them are read whenever the leaderboard is looked at, and there is no copy that could disagree with them: 10,000
runs of one task take a second, 10,000 of the paper's eight benchmarks four (`tests/benchmarks/leaderboard_reading.py`).
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import platformdirs

from avar_eval.atomic import WriteError, write_atomically
from avar_eval.errors import AvarError
from avar_eval.leaderboard.row import ListedRun, Row, run_rows
from avar_eval.results.schema import ResultsError, parse_results, results_bytes
from avar_eval.terminal import note
from avar_eval.user_files import open_file


class StoreError(AvarError):
    """The store cannot be read or written."""


@dataclass(frozen=True)
class SkippedFile:
    """A file among the runs that holds no readable run, and why."""

    path: Path
    reason: str


class Contents(NamedTuple):
    """All that a store holds. rows: as of `Store.read`; skipped: by name."""

    rows: list[Row]
    skipped: list[SkippedFile]


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

    def add(self, results_path: Path) -> ListedRun:
        """Copy a finished run's results.json into the store.

        The same run added again leaves one row; what has changed in it replaces the earlier file. Raises ResultsError
        for a file that is not of the schema and StoreError when the store cannot be written.
        """
        data = results_bytes(results_path)
        run = parse_results(ListedRun, data, results_path)
        target = self.runs / f"{run.run_id}.json"
        try:
            self.runs.mkdir(parents=True, exist_ok=True)
            if not target.exists() or target.read_bytes() != data:
                write_atomically(target, [data.decode()])
        except WriteError as error:
            raise self._cannot("write", error.reason) from error
        except OSError as error:
            raise self._cannot("write", error.strerror) from error
        return run

    def read(self) -> Contents:
        """One row a task of every run, and the files that hold no readable run. Raises StoreError.

        Tasks by name, in each the best score first; rows of unknown score come last; equal ones stand in the order they
        were added.
        """
        rows: list[Row] = []
        skipped: list[SkippedFile] = []
        for path in self._files():
            try:
                rows.extend(_rows(path))
            except FileNotFoundError:  # taken away meanwhile
                continue
            except ResultsError as error:
                skipped.append(SkippedFile(path, str(error)))
        rows.sort(key=lambda row: (row.task, row.score is None, -(row.score or 0), row.added, row.run_id))
        return Contents(rows, skipped)

    def rows(self, task: str | None = None, model: str | None = None) -> list[Row]:
        """The rows of `read`, or those of one task or model. Raises StoreError."""
        return [row for row in self.read().rows if task in (None, row.task) and model in (None, row.model)]

    def _files(self) -> Iterator[Path]:
        if self.path.exists() and not self.path.is_dir():
            raise StoreError(f"the leaderboard store {self.path} is not a folder; name another one with --store")
        try:
            names = sorted(os.listdir(self.runs))
        except FileNotFoundError:  # nothing was added yet
            return
        except OSError as error:
            raise self._cannot("read", error.strerror) from error
        # A name that is no text is no run's, and no terminal could show it.
        yield from (self.runs / name for name in names if name.endswith(".json") and name.isprintable())

    def _cannot(self, action: str, reason: str | None) -> StoreError:
        return StoreError(
            f"cannot {action} the leaderboard store {self.path}: {reason}; make room or give permission there, or "
            "choose another folder (AVAR_LEADERBOARD, --store), then `avar-leaderboard add RESULTS.json`"
        )


def _rows(path: Path) -> Iterator[Row]:
    """The rows of a stored run. Raises FileNotFoundError, and ResultsError for any other file that holds none."""
    try:
        with open_file(path) as file:
            data, modified = file.read(), os.fstat(file.fileno()).st_mtime
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ResultsError(f"cannot read {path}: {error.strerror}") from error
    run = parse_results(ListedRun, data, path)
    if path.name != f"{run.run_id}.json":
        raise ResultsError(f"{path} holds the run {run.run_id}; add it with `avar-leaderboard add {path}`")
    return run_rows(run, datetime.fromtimestamp(modified, UTC).isoformat(timespec="seconds"))


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
