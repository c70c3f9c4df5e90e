"""The store of finished runs: `runs/<run_id>.json` is each run's results.json, byte for byte.

Beside them `history.jsonl` says what was added when, from where, and what of it was verified (`history`). All files are
read whenever the leaderboard is looked at, and there is no copy that could disagree with them: 10,000 runs of one task
take two seconds, 10,000 of the paper's eight benchmarks seven (`tests/benchmarks/leaderboard_reading.py`).
"""

import math
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NamedTuple

import platformdirs

from avar_eval.atomic import WriteError, write_atomically
from avar_eval.errors import AvarError
from avar_eval.folder_lock import FolderInUseError, FolderLock
from avar_eval.leaderboard.consistency import check_results
from avar_eval.leaderboard.history import (
    HISTORY_NAME,
    Event,
    History,
    HistoryError,
    HistoryLine,
    now,
    put_aside_unreadable,
    read_history,
    recorded,
)
from avar_eval.leaderboard.row import ListedRun, Row, run_rows
from avar_eval.results.causal import BLIND, PASSES, SWAPPED
from avar_eval.results.schema import (
    RESULTS_NAME,
    UNKNOWN_METRIC,
    Metric,
    Results,
    ResultsError,
    parse_results,
    results_bytes,
)
from avar_eval.results.unfinished import RESUME_NAME, no_results
from avar_eval.terminal import note
from avar_eval.user_files import open_file

_WAIT: Final = 60.0
"""Seconds to wait for another process that is adding a run, which takes milliseconds."""


_ADDED: Final[dict[str, Any]] = {"metrics": {}, "causal": None, "knockout_windows": []}
"""What of a task is added to, compared apart from the rest of it."""
_MAY_CHANGE: Final = ("command", "causal")
"""Parts of a card that a run may add to without becoming another one; see `run_id`."""


class StoreError(AvarError):
    """The store cannot be read or written, or keeps what it has.

    What to do: `avar-leaderboard check` names the file; `--replace` puts a run in the place of another of its name.
    """


@dataclass(frozen=True)
class SkippedFile:
    """A file of the store that holds no readable run, and why."""

    path: Path
    reason: str


class Contents(NamedTuple):
    """All that a store holds. rows: as of `Store.read`; skipped: by name."""

    rows: list[Row]
    skipped: list[SkippedFile]


@dataclass(frozen=True)
class Added:
    """What became of a run that was to be added. event: None if the store had it. verified: tasks, of this content."""

    run: ListedRun
    event: Event | None
    verified: frozenset[str]


def default_store() -> Path:
    """Where the leaderboard is kept: $AVAR_LEADERBOARD, else `leaderboard` in the user's data folder for avar-eval.

    Raises StoreError where that names the folder of a user whom this machine does not know.
    """
    chosen = os.environ.get("AVAR_LEADERBOARD")
    try:
        return Path(chosen).expanduser() if chosen else platformdirs.user_data_path("avar-eval") / "leaderboard"
    except RuntimeError as error:
        raise StoreError(f"AVAR_LEADERBOARD is {chosen!r}, and there is no such user: name a folder there") from error


def runs_in(path: Path) -> list[Path]:
    """What `Store.add` takes, of a path that a user names: itself, or the run folders in a folder that is none.

    Raises ResultsError for a folder without any.
    """
    if not path.is_dir() or (path / RESULTS_NAME).is_file():
        return [path]
    found: list[Path] = []
    for folder, inner, files in os.walk(path):
        if RESULTS_NAME in files:
            found.append(Path(folder))
            inner.clear()
    if not found:
        if begun := sorted(path.rglob(RESUME_NAME)):
            raise ResultsError(no_results(begun[0].parent, RESULTS_NAME))
        raise ResultsError(f"{path} holds no finished run: no folder in it has a {RESULTS_NAME}")
    return sorted(found)


class Store:
    """Finished runs in the folder `path`, which the first `add` makes. Safe for several processes at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.runs = path / "runs"

    def add(self, source: Path, *, data_dir: Path | None = None, replace: bool = False) -> Added:
        """Copy a finished run's results.json into the store.

        source: a run's folder, whose records are judged again so that its rows are verified, or a results.json, whose
        rows are as reported. data_dir: where the rows of benchmarks lie that are not embedded. replace: whether other
        content of the same run makes way.

        Raises ResultsError for a file that is not of the schema, that contradicts itself or its records, StoreError
        where the store has other content of the run or cannot be written, and what judging again raises.
        """
        folder = source if source.is_dir() else None
        path = source / RESULTS_NAME if folder else source
        data = results_bytes(path)
        run, results = _checked(data, path)
        verified: Collection[str] = ()
        if folder:
            from avar_eval.leaderboard.verify import verified_tasks

            verified = verified_tasks(folder, results, data_dir)
        return self._enter(data, run, verified, source, replace)

    def add_judged(self, path: Path, verified: Collection[str]) -> Added:
        """Add a results.json whose numbers of these tasks the caller has just made from their records.

        Raises as `add` does.
        """
        data = results_bytes(path)
        return self._enter(data, _checked(data, path)[0], verified, path.parent, replace=False)

    def add_results(self, results: Results, source: Path) -> Added:
        """Add results that have no file of their own, as reported. Raises as `add` does."""
        data = results.to_json().encode()
        return self._enter(data, _checked(data, source)[0], (), source, replace=False)

    def remove(self, run_id: str) -> HistoryLine:
        """Take a run out, by its id or the beginning of it. Raises StoreError."""
        names = [path.stem for path in self._files() if path.stem.startswith(run_id)]
        if not run_id or len(names) != 1:
            found = f"several begin so: {', '.join(names[:5])}" if names and run_id else "there is none"
            raise StoreError(f"cannot remove the run {run_id!r}: {found}; `avar-leaderboard history` lists them")
        (name,) = names
        path = self.runs / f"{name}.json"
        with self._locked() as lock:
            data = results_bytes(path)
            try:
                run = parse_results(ListedRun, data, path)
                model, tasks = run.protocol.model, list(run.tasks)
            except ResultsError:  # what is no run can be taken out, too
                model, tasks = "", []
            line = HistoryLine(now(), "removed", name, sha256(data).hexdigest(), [], model, tasks, str(path))
            with self._written(), recorded(self.path, lock, line):
                path.unlink()
        return line

    def history(self) -> History:
        """What became of the store's rows. Raises HistoryError."""
        return read_history(self.path)

    def read(self) -> Contents:
        """One row a task of every run, and the files that hold no readable run. Raises StoreError.

        Tasks by name, in each the best score first; rows of unknown score come last; equal ones stand in the order they
        were added.
        """
        rows: list[Row] = []
        skipped: list[SkippedFile] = []
        try:
            history = self.history()
        except HistoryError as error:
            history = History([])
            skipped.append(SkippedFile(self.path / HISTORY_NAME, str(error)))
        skipped += [SkippedFile(self.path / HISTORY_NAME, problem) for problem in history.unreadable]
        contents, known = history.contents, history.runs
        for path in self._files():
            try:
                data, modified = _read(path)
                content = sha256(data).hexdigest()
                if content not in contents and path.stem in known:
                    raise ResultsError(
                        f"{path} was changed after it was added: `avar-leaderboard add` the run again, or "
                        f"`avar-leaderboard remove {path.stem}`"
                    )
                run = parse_results(ListedRun, data, path)
                if path.name != f"{run.run_id}.json":
                    raise ResultsError(f"{path} holds the run {run.run_id}; add it with `avar-leaderboard add {path}`")
                if content not in contents:  # of a store of before it had a history, or put in by hand
                    check_results(parse_results(Results, data, path), path)
                rows.extend(run_rows(run, modified, contents.get(content, frozenset())))
            except FileNotFoundError:  # taken away meanwhile
                continue
            except ResultsError as error:
                skipped.append(SkippedFile(path, str(error)))
        rows.sort(key=lambda row: (row.task, row.score is None, -(row.score or 0), row.added, row.run_id))
        return Contents(rows, skipped)

    def rows(self, task: str | None = None, model: str | None = None) -> list[Row]:
        """The rows of `read`, or those of one task or model. Raises StoreError."""
        return [row for row in self.read().rows if task in (None, row.task) and model in (None, row.model)]

    def _enter(self, data: bytes, run: ListedRun, verified: Collection[str], source: Path, replace: bool) -> Added:
        target, content = self.runs / f"{run.run_id}.json", sha256(data).hexdigest()
        with self._locked() as lock:
            history = self.history()
            known = history.contents.get(content)
            there = _content(target)
            if there == content and known is not None and known >= frozenset(verified):
                return Added(run, None, known)
            event: Event = "added" if there is None else "verified" if there == content else "replaced"
            if event == "replaced" and self._keeps(target, data, history.contents.get(there or ""), verified):
                event = "extended"
            elif event == "replaced" and not replace and history.runs.get(run.run_id) != content:
                raise StoreError(
                    f"the leaderboard has the run {run.run_id} ({run.protocol.model}) with other content, which stays"
                    f"{_first_difference(target, data)}: `avar-leaderboard add {source} --replace` puts this one in "
                    "its place"
                )
            if event == "verified" and not verified:
                event = "added"  # by hand, or by a version of before there was a history
            line = HistoryLine(
                now(), event, run.run_id, content, sorted(verified), run.protocol.model, list(run.tasks), str(source)
            )
            with self._written():
                self.runs.mkdir(parents=True, exist_ok=True)
                with recorded(self.path, lock, line):
                    if there != content:
                        write_atomically(target, [data.decode()])
        return Added(run, event, (known or frozenset()) | frozenset(verified))

    def _keeps(self, target: Path, data: bytes, marks: frozenset[str] | None, verified: Collection[str]) -> bool:
        """Whether other content of a run says all that the stored one says, as verified, and only adds measures.

        Causal columns of tasks that are verified may be of more rows than they were.
        """
        if marks is None or not marks <= frozenset(verified):
            return False
        old, new = parse_results(Results, results_bytes(target), target), parse_results(Results, data, target)
        cards = [{name: of for name, of in card.protocol.items() if name not in _MAY_CHANGE} for card in (old, new)]
        return (
            cards[0] == cards[1]
            and old.tasks.keys() == new.tasks.keys()
            and old.groups == new.groups
            and all(
                all(
                    metric == (now := new.tasks[name].metric(of))
                    or (name in verified and of in (*PASSES, *BLIND, *SWAPPED) and now.n > metric.n)
                    for of, metric in before.metrics.items()
                )
                and (name in verified or before.knockout_windows in ([], new.tasks[name].knockout_windows))
                and before.model_copy(update=_ADDED) == new.tasks[name].model_copy(update=_ADDED)
                for name, before in old.tasks.items()
            )
        )

    @contextmanager
    def _locked(self) -> Iterator[FolderLock]:
        """Nobody else writes to the store meanwhile."""
        with self._written():
            try:
                lock = FolderLock(self.path, wait=_WAIT)
            except FolderInUseError as error:
                raise self._cannot("write", "another process has been writing to it for a minute") from error
        with lock:
            with self._written():
                put_aside_unreadable(self.path)
            yield lock

    @contextmanager
    def _written(self) -> Iterator[None]:
        """What goes wrong in writing to the store, in its words."""
        try:
            yield
        except WriteError as error:
            raise self._cannot("write", error.reason) from error
        except HistoryError as error:
            raise self._cannot("write", str(error)) from error
        except OSError as error:
            raise self._cannot("write", error.strerror) from error

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
            "choose another folder (AVAR_LEADERBOARD, --store), then `avar-leaderboard add` the run"
        )


def _checked(data: bytes, path: Path) -> tuple[ListedRun, Results]:
    """A results.json that contradicts nothing. Raises ResultsError."""
    run, results = parse_results(ListedRun, data, path), parse_results(Results, data, path)
    check_results(results, path)
    return run, results


def _content(path: Path) -> str | None:
    """The SHA-256 of a stored file; None if there is none."""
    try:
        with open_file(path) as file:
            return sha256(file.read()).hexdigest()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ResultsError(f"cannot read {path}: {error.strerror}") from error


def _first_difference(target: Path, data: bytes) -> str:
    """The first number that a run in the store has otherwise, in parentheses; nothing where no number differs.

    Batches of another size, and other machines, round otherwise.
    """
    try:
        old, new = parse_results(Results, results_bytes(target), target), parse_results(Results, data, target)
    except ResultsError:
        return ""
    for name, task in old.tasks.items():
        for of, metric in task.metrics.items():
            now = new.tasks[name].metric(of) if name in new.tasks else UNKNOWN_METRIC
            if metric.value != now.value:
                rounding = "" if not _is_rounding(metric, now) else ", which another batch size or machine may give"
                return f" ({of} of {name} is {metric.value} there and {now.value} here{rounding})"
    return ""


def _is_rounding(one: Metric, other: Metric) -> bool:
    return one.n == other.n and math.isclose(one.value or 0.0, other.value or 0.0, rel_tol=1e-3)


def _read(path: Path) -> tuple[bytes, str]:
    """A stored file, and when it was written (UTC, ISO 8601). Raises FileNotFoundError, ResultsError."""
    try:
        with open_file(path) as file:
            data, modified = file.read(), os.fstat(file.fileno()).st_mtime
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ResultsError(f"cannot read {path}: {error.strerror}") from error
    return data, datetime.fromtimestamp(modified, UTC).isoformat(timespec="seconds")


def publish(results_path: Path, judged: Collection[str] = ()) -> None:
    """Add a run that has just ended. It is complete without: whatever keeps it out of the leaderboard is a warning.

    judged: the tasks whose numbers the caller has just made from their records, which are verified by that.
    """
    try:
        Store(default_store()).add_judged(results_path, judged)
    except AvarError as error:
        note(f"warning: the run is not in the leaderboard: {error}")
    except Exception as error:  # a finished run must not fail for whatever lies in another folder
        note(
            f"warning: the run is not in the leaderboard ({type(error).__name__}: {error}); it is whole, add it with "
            f"`avar-leaderboard add {results_path.parent}` when that is mended"
        )
