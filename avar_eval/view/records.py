"""A finished run's records as they lie on the disk, read one at a time: long responses of thousands of rows."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avar_eval.records.book import RECORDS_NAME
from avar_eval.results.schema import Results, TaskRecords, read_results, read_task_records
from avar_eval.results.stored import TEXTS, record_lines, record_of, run_responses
from avar_eval.user_files import open_file

Record = Mapping[str, Any]
"""A line of records.jsonl as JSON has it: readers of pages show what is there, in files of every version."""

_SHOWN = (*TEXTS, "prompt")


@dataclass(frozen=True)
class _Place:
    """Where a record stands in the file; `number` is the line's, from 1."""

    task: str
    number: int
    offset: int
    length: int


@dataclass(frozen=True)
class RunRecords:
    """A finished run: its results, and the places of its records by task, in the order asked."""

    folder: Path
    results: Results
    asked: Mapping[str, TaskRecords]
    _places: Mapping[str, list[_Place]]

    @classmethod
    def of(cls, folder: Path) -> "RunRecords":
        """Find a run's records. Raises ResultsError, RecordBookError for no finished run, and for a damaged one."""
        results = read_results(folder)
        path, places, offset = folder / RECORDS_NAME, dict[str, _Place](), 0
        for number, line in record_lines(path):
            record = record_of(path, number, line, _SHOWN)
            places[record["key"]] = _Place(record["task"], number, offset, len(line))
            offset += len(line)
        asked = read_task_records(folder, results.tasks)
        return cls(folder, results, asked, run_responses(folder, results.tasks, places))

    def of_task(self, task: str) -> Iterator[Record]:
        """The task's records in the order asked. Raises RecordBookError if the file has changed meanwhile."""
        path = self.folder / RECORDS_NAME
        with open_file(path) as file:
            for place in self._places[task]:
                file.seek(place.offset)
                yield record_of(path, place.number, file.read(place.length), _SHOWN)

    def size(self, task: str) -> int:
        """How many records the task has."""
        return len(self._places[task])
