"""`Journal`: append-only JSON Lines, one line for each thing that is known, so that whatever is killed can go on.

How data flows: opening a journal reads the file once and keeps where each key's newest line stands, some 50 bytes a
key; lines themselves are read from the disk when they are asked for. A torn last line (no line end), as a kill or a
power cut leaves it, is cut off; any other line that cannot be read stops the opening, and the file is left as it is.
`append` writes any number of lines with one write and, unless told otherwise, returns when the disk has them; if the
disk is full, the file is as it was before. A line whose key is there already supersedes the older one, and `close`
drops superseded lines.

One writer: a journal has its folder's lock, or one of its own. Where several processes write together, the first one
(rank 0) keeps NAME.jsonl, and each other one appends to NAME.rank1.jsonl, …, which `take_in_ranks` moves into it when
none of them is writing: at the end, or after a kill before they begin.
"""

import os
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from glob import escape
from io import FileIO
from pathlib import Path
from typing import Generic, Literal, NamedTuple, Self, TypeVar

from pydantic import TypeAdapter, ValidationError

from avar_eval.atomic import sync_folder, write_atomically
from avar_eval.errors import AvarError
from avar_eval.folder_lock import FolderInUseError, FolderLock
from avar_eval.in_words import in_words
from avar_eval.records.key_numbers import KeyNumbers
from avar_eval.user_files import open_file

Line = TypeVar("Line")

_AT_ONCE = 256
"""Lines of another rank that are in memory together."""


class JournalError(AvarError):
    """A journal cannot be read or written; the message names file, line and cause.

    What to do: Restore the file, or delete the line that the message names.
    """


@dataclass(frozen=True)
class LineForm(Generic[Line]):
    """What the lines of a journal are.

    encode: to JSON in UTF-8, on one line. decode: from it; raises ValueError, which says what is wrong. key: what a
    later line of the same key supersedes. one, many: what messages call a line and several ("a record", "records").
    remedy: what to do about a line that cannot be read. error: what is raised.
    """

    encode: Callable[[Line], bytes]
    decode: Callable[[bytes], Line]
    key: Callable[[Line], str]
    one: str
    many: str
    remedy: str = "mend or delete that line"
    error: type[JournalError] = JournalError


def typed_lines(
    kind: type[Line],
    key: Callable[[Line], str],
    one: str,
    many: str,
    remedy: str = "mend or delete that line",
    error: type[JournalError] = JournalError,
) -> LineForm[Line]:
    """Lines that are a pydantic model, a dataclass or another type that pydantic can check, written without spaces."""
    adapter = TypeAdapter(kind)

    def decode(line: bytes) -> Line:
        try:
            return adapter.validate_json(line)
        except ValidationError as error:
            raise ValueError(in_words(error)) from error

    return LineForm(adapter.dump_json, decode, key, one, many, remedy, error)


def rank_file_name(name: str, rank: int | Literal["*"]) -> str:
    """The name of a rank's own file, `records.rank1.jsonl`; rank 0 has the file itself. *: a pattern for all others."""
    stem, _, ending = name.rpartition(".")
    return name if rank == 0 else f"{stem}.rank{rank}.{ending}"


class _Place(NamedTuple):
    """Where a line stands, with its line end."""

    file: FileIO
    offset: int
    length: int


class _Places:
    """The place of each key's newest line, by the number of the key."""

    def __init__(self) -> None:
        self._keys = KeyNumbers()
        self._files: list[FileIO] = []
        self._file, self._offset, self._length = array("b"), array("q"), array("q")

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[_Place]:
        """In the order in which the keys came."""
        return map(self._place, range(len(self._keys)))

    def get(self, key: str) -> _Place | None:
        number = self._keys.get(key)
        return None if number is None else self._place(number)

    def put(self, key: str, place: _Place) -> None:
        if place.file not in self._files:  # a rank's own, and the first one's
            self._files.append(place.file)
        number, file = self._keys.add(key), self._files.index(place.file)
        if number == len(self._offset):
            self._file.append(file)
            self._offset.append(place.offset)
            self._length.append(place.length)
        else:
            self._file[number], self._offset[number], self._length[number] = file, place.offset, place.length

    def _place(self, number: int) -> _Place:
        return _Place(self._files[self._file[number]], self._offset[number], self._length[number])


class Journal(Generic[Line]):
    """The lines of one file, for one writer at a time; see the module for what is kept when.

    lock: of the folder, where the caller holds it; by default the journal takes one of its own, `.NAME.lock`, until it
    is closed. rank: of this process; any but the first sees the first one's lines and appends to a file of its own.
    fsync: whether `append` returns when the disk has the lines; if not, what was appended outlives a kill, but up to
    `close` not a power cut. One thread at a time may use it.

    Raises the form's error if another writer has the file, if it cannot be opened, or if a line cannot be read.
    """

    def __init__(
        self, path: Path, form: LineForm[Line], *, lock: FolderLock | None = None, rank: int = 0, fsync: bool = True
    ) -> None:
        self.rank = rank
        self.path = path.with_name(rank_file_name(path.name, rank))
        self._first = path
        self._form = form
        self._fsync = fsync
        self._places = _Places()
        self._lines = 0
        self._files: list[FileIO] = []
        self._own_lock = _locked(path, rank_file_name(f".{path.name}.lock", rank), form) if lock is None else None
        try:
            self._open()
            if rank != 0:
                self.read_first()
        except BaseException:
            self._release()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Line]:
        """The newest line of each key, in the order in which the keys came."""
        return (self._form.decode(_read(place)) for place in self._places)

    def __contains__(self, key: str) -> bool:
        return self._places.get(key) is not None

    @property
    def closed(self) -> bool:
        """Whether it was closed: nothing can be read or appended any more."""
        return not self._files

    def get(self, key: str) -> Line | None:
        """The newest line of this key, read from the disk, or None."""
        place = self._places.get(key)
        return None if place is None else self._form.decode(_read(place))

    def own_keys(self) -> list[str]:
        """The keys of the lines in this rank's own file, in the order in which they came."""
        own = (place for place in self._places if place.file is self._file)
        return [self._form.key(self._form.decode(_read(place))) for place in own]

    def append(self, lines: Sequence[Line]) -> None:
        """Append lines with one write. Raises the form's error; the file is then as it was before."""
        self._append([(self._form.key(line), self._form.encode(line) + b"\n") for line in lines])

    def take_in_ranks(self) -> None:
        """Move what other ranks have written into the journal; nobody may be writing. Doing it twice changes nothing.

        Killed in between, it leaves the other rank's file, whose lines are then known already.
        """
        for path in sorted(self._first.parent.glob(rank_file_name(escape(self._first.name), "*"))):
            new: list[tuple[str, bytes]] = []
            for _, line, decoded in _stream(path, self._form):
                key = self._form.key(decoded)
                place = self._places.get(key)
                if place is None or _read(place) != line:
                    new.append((key, line))
                if len(new) == _AT_ONCE:
                    self._append(new)
                    new = []
            self._append(new)
            path.unlink()

    def read_first(self) -> None:
        """See what the first rank's file holds now, which is also what this one has written; nobody may be writing."""
        self._close_files()
        self._open()
        self._places = _Places()
        if self._first.exists():
            first = self._opened(self._first, "r")
            for offset, line, decoded in _stream(self._first, self._form):
                self._places.put(self._form.key(decoded), _Place(first, offset, len(line)))
        self._lines = len(self._places)

    def remove(self) -> None:
        """Let go of this rank's file and delete it. Who is reading it reads it to the end."""
        self._release()
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Drop superseded lines, if any, and let go of the file. Raises WriteError if they cannot be dropped."""
        try:
            if not self._files:
                return
            if self.rank == 0 and self._lines > len(self._places):
                write_atomically(self.path, (_read(place).decode() for place in self._places))
            elif self.rank != 0 and self._end == 0:
                self.path.unlink(missing_ok=True)
            elif not self._fsync:
                os.fsync(self._file.fileno())
        finally:
            self._release()

    def _open(self) -> None:
        """Open this rank's own file and read where its lines stand."""
        self._file = self._opened(self.path, "a+")
        self._places, self._lines, self._end = _Places(), 0, 0
        for offset, line, decoded in _stream(self.path, self._form):
            self._places.put(self._form.key(decoded), _Place(self._file, offset, len(line)))
            self._lines += 1
            self._end = offset + len(line)
        if self._end < os.fstat(self._file.fileno()).st_size:
            os.ftruncate(self._file.fileno(), self._end)

    def _opened(self, path: Path, mode: str) -> FileIO:
        """A file that stays open until `close`. If it is new, the disk has its name before it has any line."""
        try:
            new = not path.exists()
            self._files.append(file := FileIO(path, mode))
            if new:
                sync_folder(path.parent)
        except OSError as error:
            raise self._form.error(
                f"cannot open {path}: {error.strerror}; nothing was changed: put that right, and run the same command "
                "again"
            ) from error
        return file

    def _append(self, lines: Sequence[tuple[str, bytes]]) -> None:
        if not lines:
            return
        now = os.fstat(self._file.fileno())
        if now.st_nlink == 0 or now.st_size != self._end:  # it would be lost, or one line with what stands there
            raise self._form.error(f"{self.path} was changed by another program: run the same command again to go on")
        try:
            _write_all(self._file, b"".join(line for _, line in lines))
            if self._fsync:
                os.fsync(self._file.fileno())
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._file.fileno(), self._end)
            raise self._form.error(
                f"cannot append to {self.path}: {error.strerror}; the {len(self)} {self._form.many} so far are intact, "
                "run the same command again to go on"
            ) from error
        for key, line in lines:
            self._places.put(key, _Place(self._file, self._end, len(line)))
            self._end += len(line)
        self._lines += len(lines)

    def _release(self) -> None:
        self._close_files()
        if self._own_lock is not None:
            self._own_lock.release()

    def _close_files(self) -> None:
        for file in self._files:
            file.close()
        self._files = []


def read_lines(path: Path, form: LineForm[Line]) -> dict[str, Line]:
    """The newest line of each key in a file that nobody writes to; a torn last line is left out.

    Raises the form's error for a file that cannot be read and for a line that is none.
    """
    return {form.key(line): line for line in stream_lines(path, form)}


def stream_lines(path: Path, form: LineForm[Line]) -> Iterator[Line]:
    """The lines of a file that nobody writes to, one at a time, older ones before those that supersede them.

    A torn last line is left out. Raises as `read_lines` does.
    """
    return (decoded for _, _, decoded in _stream(path, form))


def _stream(path: Path, form: LineForm[Line]) -> Iterator[tuple[int, bytes, Line]]:
    """Each line: where it stands, its bytes with the line end, and what it is."""
    try:
        with open_file(path) as file:
            offset = 0
            for number, line in enumerate(file, start=1):
                if line.endswith(b"\n"):
                    yield offset, line, _decoded(path, number, line, form)
                offset += len(line)
    except OSError as error:
        raise form.error(f"{path} cannot be read: {error.strerror}") from error


def _decoded(path: Path, number: int, line: bytes, form: LineForm[Line]) -> Line:
    try:
        return form.decode(line)
    except ValueError as error:
        raise form.error(
            f"{path}, line {number} is not {form.one} ({error}); nothing was changed: {form.remedy}"
        ) from error


def _locked(path: Path, name: str, form: LineForm[Line]) -> FolderLock:
    try:
        return FolderLock(path.parent, name)
    except FolderInUseError:
        raise form.error(f"another run is writing to {path}: wait for it to end") from None
    except OSError as error:
        raise form.error(f"cannot write to the folder {path.parent}: {error.strerror}") from error


def _read(place: _Place) -> bytes:
    return os.pread(place.file.fileno(), place.length, place.offset)


def _write_all(file: FileIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
