"""The record book: `records.jsonl`, a journal of one line a response. It is what makes resuming exact.

A finished batch is appended with one write and flushed, so a killed run loses at most the batch in flight. A record
that is measured or judged again later is appended anew and supersedes its older line; `close()` compacts the file, so
that a finished run's book holds each key once. Beside it, under the same lock, stand `attention.jsonl`,
`waiting.jsonl`, and `protocols.jsonl`: how the model was asked for the records of each `protocol_id`, so that runs of
one folder can be told apart, also those whose results.json made way. A record that several runs share names the one
that asked for it first. What happened that a reader has to know is in `notes.jsonl`.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from avar_eval.folder_lock import FolderInUseError, FolderLock
from avar_eval.outcomes import JudgeOutcome
from avar_eval.records.causal import ALTERED_NAME, CAUSAL_NAME
from avar_eval.records.journal import (
    Journal,
    JournalError,
    Line,
    LineForm,
    rank_file_name,
    read_lines,
    stream_lines,
    typed_lines,
)
from avar_eval.records.record import JudgeRecord, NoteLine, ProtocolLine, Record, protocol_id

if TYPE_CHECKING:
    from avar_eval.records.attention import AttentionLine

RECORDS_NAME = "records.jsonl"
ATTENTION_NAME = "attention.jsonl"
PROTOCOLS_NAME = "protocols.jsonl"
NOTES_NAME = "notes.jsonl"
WAITING_NAME = "waiting.jsonl"
_BESIDE: Final = {
    "attention": ATTENTION_NAME,
    "causal": CAUSAL_NAME,
    "altered": ALTERED_NAME,
    "waiting": WAITING_NAME,
}
"""The journals beside the book: attribute -> file."""
AT_ONCE = 256
"""Records that are in memory together where all of them are gone through."""


class RecordBookError(JournalError):
    """The record book cannot be read or written; the message names file, line and cause.

    What to do: Restore the file, or begin in another `--output`; a torn last line is cut without asking.
    """


RECORDS: Final = typed_lines(
    Record,
    key=lambda record: record.key,
    one="a record",
    many="records",
    remedy="mend or delete that line, or choose another --output",
    error=RecordBookError,
)


PROTOCOLS: Final = typed_lines(
    ProtocolLine,
    key=lambda line: line.protocol_id,
    one="a protocol",
    many="protocols",
    remedy="delete that line, or choose another --output",
    error=RecordBookError,
)


NOTES: Final = typed_lines(
    NoteLine,
    key=lambda line: f"{line.protocol_id} {line.note}",
    one="a note",
    many="notes",
    remedy="delete that line",
    error=RecordBookError,
)


class RecordBook(Journal[Record]):
    """The records of one output folder, held by one process at a time.

    lock: the folder's, for other journals in it. rank: of this process; any but the first sees the book's records and
    appends to a file of its own. It must be opened after the first one's. Raises RecordBookError if another run holds
    the folder, if it cannot be written, or if a line is corrupt.
    """

    def __init__(self, folder: Path, rank: int = 0) -> None:
        try:
            self.lock = FolderLock(folder, rank_file_name(".lock", rank))
        except FolderInUseError:
            raise RecordBookError(
                f"another run is writing to {folder}: wait for it to end, or give this one its own --output"
            ) from None
        except OSError as error:
            raise RecordBookError(f"cannot write to the output folder {folder}: {error.strerror}") from error
        try:
            super().__init__(folder / RECORDS_NAME, RECORDS, lock=self.lock, rank=rank)
            if rank == 0:
                self.take_in_ranks()  # of a run that was killed: this one's other ranks are still to open theirs
        except BaseException:
            self._release()
            self.lock.release()
            raise

    @cached_property
    def attention(self) -> "Journal[AttentionLine]":
        """Where the model looked in the measured responses: the folder's `attention.jsonl`, opened when first used."""
        from avar_eval.records.attention import ATTENTION_LINES  # torch

        return self._beside(ATTENTION_NAME, ATTENTION_LINES)

    @cached_property
    def causal(self) -> "Journal[AttentionLine]":
        """How each response depends on its images, token by token: the folder's `causal.jsonl`, opened when used."""
        from avar_eval.records.attention import array_lines  # torch

        return self._beside(CAUSAL_NAME, array_lines("dependence"))

    @cached_property
    def altered(self) -> Journal[Record]:
        """Responses to altered questions: the folder's `altered.jsonl`, opened when first used."""
        return self._beside(ALTERED_NAME, RECORDS)

    @cached_property
    def waiting(self) -> Journal[Record]:
        """Records that wait for their batch's causal passes before they come into the book, which so stays as it is.

        The folder's `waiting.jsonl`, opened when first used; it is there as long as a record waits.
        """
        return self._beside(WAITING_NAME, RECORDS)

    def drop_waiting(self) -> None:
        """Delete the file of the records that wait, once all of this rank's are in the book."""
        if all(key in self for key in self.waiting.own_keys()):
            self.waiting.remove()
            del self.waiting

    def _beside(self, name: str, form: LineForm[Line]) -> Journal[Line]:
        """Another journal of the folder."""
        return Journal(self._first.with_name(name), form, lock=self.lock, rank=self.rank)

    def keep_protocol(self, protocol: Mapping[str, Any]) -> None:
        """Keep how the model is asked from now on, unless it is known; its `protocol_id` names it in records."""
        line = ProtocolLine(protocol_id=protocol_id(protocol), protocol=dict(protocol))
        if self.rank == 0:
            with Journal(self.path.with_name(PROTOCOLS_NAME), PROTOCOLS, lock=self.lock) as journal:
                if line.protocol_id not in journal:
                    journal.append([line])

    def add_note(self, protocol_id: str, note: str) -> None:
        """Keep what a reader of these results has to know, once; other ranks have nothing to tell."""
        with Journal(self.path.with_name(NOTES_NAME), NOTES, lock=self.lock) as journal:
            journal.append([NoteLine(protocol_id=protocol_id, note=note)])

    def notes(self, protocol_id: str) -> list[str]:
        """What is kept of the records that were asked for under this protocol."""
        path = self.path.with_name(NOTES_NAME)
        lines = read_lines(path, NOTES).values() if path.exists() else ()
        return [line.note for line in lines if line.protocol_id == protocol_id]

    def take_in_ranks(self) -> None:
        """Move what other ranks have written into the book, and into the journals beside it."""
        super().take_in_ranks()
        for attribute, name in _BESIDE.items():
            if any(self.path.parent.glob(rank_file_name(name, "*"))):
                getattr(self, attribute).take_in_ranks()

    def read_first(self) -> None:
        """See what the first rank's book holds now, which is also what this one has written; nobody may be writing."""
        super().read_first()
        for journal in self._opened_beside():
            journal.read_first()

    def add_judged(self, outcomes: Mapping[str, JudgeOutcome], model: str) -> None:
        """Write what a judge model found, by key, into the records, where it is not there yet."""
        changed = []
        for key, outcome in outcomes.items():
            judge = JudgeRecord(model=model, **asdict(outcome))
            record = self.get(key)
            if record is None:
                raise KeyError(f"{key} is not in {self.path}")
            if record.judge != judge:
                changed.append(record.model_copy(update={"judge": judge}))
        self.append(changed)

    def close(self) -> None:
        """Drop superseded lines, if any, and let go of the folder."""
        with ExitStack() as closing:
            closing.callback(self.lock.release)
            closing.callback(super().close)
            if self.rank == 0 and not self.closed and self.path.with_name(WAITING_NAME).exists():
                self.drop_waiting()
            for journal in self._opened_beside():
                closing.callback(journal.close)

    def _opened_beside(self) -> "list[Journal[Any]]":
        """The journals beside the book that have been used."""
        return [vars(self)[name] for name in _BESIDE if name in vars(self)]


def read_records(path: Path) -> dict[str, Record]:
    """The newest record of each key in a file that nobody writes to; a torn last line is left out.

    Raises RecordBookError for a file that cannot be read and for a line that is not a record.
    """
    return read_lines(path, RECORDS)


def stream_records(path: Path) -> Iterator[Record]:
    """The records of a file that nobody writes to, one at a time, older ones before those that supersede them.

    A torn last line is left out. Raises as `read_records` does.
    """
    return stream_lines(path, RECORDS)
