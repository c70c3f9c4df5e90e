"""The record book: `records.jsonl`, append-only, one line a response. It is what makes resuming exact.

A finished batch is appended with one write and flushed, so a killed run loses at most the batch in flight. On opening,
a torn last line (no line end) is cut off; any other line that is not a record stops the run and is left as it is.
A record that is measured or judged again later is appended anew and supersedes its older line; `close()` compacts the
file, so that a finished run's book holds each key once.

Where several processes answer together (`avar_eval.ranks`), the first one keeps the book, and each other one appends to
a file of its own, `records.rank1.jsonl`, which `take_in_ranks()` moves into the book; so does opening it after a kill.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from avar_eval.atomic import write_atomically
from avar_eval.errors import AvarError
from avar_eval.folder_lock import FolderInUseError, FolderLock
from avar_eval.outcomes import JudgeOutcome
from avar_eval.records.record import JudgeRecord, Record
from avar_eval.user_files import open_file

RECORDS_NAME = "records.jsonl"
AT_ONCE = 256
"""Records that are in memory together where all of them are gone through."""
RANK_RECORDS = "records.rank*.jsonl"


def of_rank(name: str, rank: int) -> str:
    """The name of a rank's own file, `records.rank1.jsonl`; rank 0 has the file itself."""
    stem, ending = name.split(".")
    return name if rank == 0 else f"{stem}.rank{rank}.{ending}"


class RecordBookError(AvarError):
    """The record book cannot be read or written; the message names file, line and cause."""


class RecordBook:
    """The records of one output folder, held by one process at a time.

    rank: of this process; any but the first sees the book's records and appends to a file of its own. It must be opened
    after the first one's. Raises RecordBookError if another run holds the folder, if it cannot be written, or if a line
    is corrupt.
    """

    def __init__(self, folder: Path, rank: int = 0) -> None:
        self.rank = rank
        self.path = folder / of_rank(RECORDS_NAME, rank)
        try:
            self._lock = FolderLock(folder, of_rank(".lock", rank))
        except FolderInUseError:
            raise RecordBookError(
                f"another run is writing to {folder}: wait for it to end, or give this one its own --output"
            ) from None
        except OSError as error:
            raise RecordBookError(f"cannot write to the output folder {folder}: {error.strerror}") from error
        try:
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            self._lock.release()
            raise RecordBookError(f"cannot open {self.path}: {error.strerror}") from error
        self._first_file: int | None = None
        self._places: dict[str, _Place] = {}
        self._lines = 0
        try:
            self._load()
            if rank == 0:
                self.take_in_ranks()
            else:
                self.read_first()
        except BaseException:
            self._release()
            raise

    def __enter__(self) -> "RecordBook":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Record]:
        return map(self._read, self._places.values())

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def get(self, key: str) -> Record | None:
        """The newest record of this key, read from the disk, or None."""
        place = self._places.get(key)
        return None if place is None else self._read(place)

    def append(self, records: Sequence[Record]) -> None:
        """Append records with one write and flush them to the disk; on failure the file is as it was before."""
        lines = [f"{record.model_dump_json()}\n".encode() for record in records]
        before = os.fstat(self._file).st_size
        try:
            _write_all(self._file, b"".join(lines))
            os.fsync(self._file)
        except OSError as error:
            os.ftruncate(self._file, before)
            raise self.cannot_append(self.path, error) from error
        offset = before
        for record, line in zip(records, lines, strict=True):
            self._places[record.key] = _Place(self._file, offset, len(line))
            offset += len(line)
        self._lines += len(records)

    def take_in_ranks(self) -> None:
        """Move what other ranks have written into the book; nobody may be writing. Doing it twice changes nothing."""
        for path in sorted(self.path.parent.glob(RANK_RECORDS)):
            changed = []
            for record in stream_records(path):
                if self.get(record.key) != record:
                    changed.append(record)
                if len(changed) == AT_ONCE:
                    self.append(changed)
                    changed = []
            if changed:
                self.append(changed)
            path.unlink()

    def read_first(self) -> None:
        """See what the first rank's book holds now, which is also what this one has written; nobody may be writing."""
        self._close()
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        first = self.path.with_name(RECORDS_NAME)
        try:
            self._first_file = os.open(first, os.O_RDONLY)
        except OSError as error:
            raise RecordBookError(f"{first} cannot be read: {error.strerror}") from error
        self._places = {record.key: _Place(self._first_file, *where) for where, record in _stream(first)}
        self._lines = len(self._places)

    def add_judged(self, outcomes: Mapping[str, JudgeOutcome], model: str) -> None:
        """Write what a judge model found, by key, into the records, where it is not there yet."""
        changed = []
        for key, outcome in outcomes.items():
            judge = JudgeRecord(model=model, **asdict(outcome))
            record = self._read(self._places[key])
            if record.judge != judge:
                changed.append(record.model_copy(update={"judge": judge}))
        if changed:
            self.append(changed)

    def cannot_append(self, path: Path, error: OSError) -> RecordBookError:
        """What to tell the user when `path`, this book or a file beside it, cannot be appended to."""
        return RecordBookError(
            f"cannot append to {path}: {error.strerror}; the {len(self)} records so far are intact, "
            "run the same command again to go on"
        )

    def close(self) -> None:
        """Drop superseded lines, if any, and let go of the folder."""
        try:
            if self.rank == 0 and self._lines > len(self._places):
                self._compact()
            elif self.rank != 0 and os.fstat(self._file).st_size == 0:
                self.path.unlink(missing_ok=True)
        finally:
            self._release()

    def _release(self) -> None:
        self._close()
        self._lock.release()

    def _close(self) -> None:
        # each once: by the second time the number may be another file's
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        if self._first_file is not None:
            os.close(self._first_file)
            self._first_file = None

    def _load(self) -> None:
        end = 0
        for where, record in _stream(self.path):
            self._places[record.key] = _Place(self._file, *where)
            self._lines += 1
            end = sum(where)
        if end < os.fstat(self._file).st_size:
            os.ftruncate(self._file, end)

    def _read(self, place: "_Place") -> Record:
        return Record.model_validate_json(os.pread(place.file, place.length, place.offset))

    def _compact(self) -> None:
        write_atomically(
            self.path,
            (os.pread(place.file, place.length, place.offset).decode() for place in self._places.values()),
        )


class _Place(NamedTuple):
    """Where a record's line stands: 20,000 records with their token ids are a gigabyte, their places two megabytes."""

    file: int
    offset: int
    length: int


def read_records(path: Path) -> dict[str, Record]:
    """The newest record of each key in a file that nobody writes to; a torn last line is left out.

    Raises RecordBookError for a file that cannot be read and for a line that is not a record.
    """
    return {record.key: record for _, record in _stream(path)}


def stream_records(path: Path) -> Iterator[Record]:
    """The records of a file that nobody writes to, one at a time, older ones before those that supersede them.

    A torn last line is left out. Raises as `read_records` does.
    """
    return (record for _, record in _stream(path))


def _stream(path: Path) -> Iterator[tuple[tuple[int, int], Record]]:
    """Each record and where its line stands, as offset and length."""
    try:
        with open_file(path) as file:
            offset = 0
            for number, line in enumerate(file, start=1):
                if line.endswith(b"\n"):
                    yield (offset, len(line)), _parsed(path, number, line)
                offset += len(line)
    except OSError as error:
        raise RecordBookError(f"{path} cannot be read: {error.strerror}") from error


def _parsed(path: Path, number: int, line: bytes) -> Record:
    try:
        return Record.model_validate_json(line)
    except ValidationError as error:
        raise RecordBookError(
            f"{path}, line {number} is not a record ({_first_problem(error)}); nothing was changed: "
            "mend or delete that line, or choose another --output"
        ) from error


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    place = ".".join(str(part) for part in problem["loc"])
    return f"{place}: {problem['msg']}" if place else problem["msg"]


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
