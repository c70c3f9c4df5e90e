"""A finished run's responses as they lie in its record book: all that judging and comparing need, without torch."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from avar_eval.answers import FinishReason, Judgement
from avar_eval.in_words import in_words, shown
from avar_eval.outcomes import JudgeOutcome, Outcome
from avar_eval.records.book import RECORDS_NAME, RecordBookError
from avar_eval.results.schema import read_task_records
from avar_eval.user_files import open_file, parse_json


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """What of a line of records.jsonl judging and comparing need; the last four as they stand there.

    judge: a judge model's. attention: see `AttentionSummary`. causal: see `CausalRecord`.
    """

    key: str
    task: str
    row_id: str
    sample: int
    response: str
    finish_reason: FinishReason
    judgement: Mapping[str, Any] | None
    judge: Mapping[str, Any] | None
    attention: Mapping[str, Any] | None = None
    causal: Mapping[str, Any] | None = None

    def outcome(self, judgement: Judgement, judge: JudgeOutcome | None) -> Outcome:
        """The judgements alone."""
        return Outcome.of(self.row_id, self.sample, judgement, self.finish_reason, judge)


TEXTS: Final = ("key", "task", "row_id", "response")
"""What a line of any version has."""
_OBJECTS: Final = ("judgement", "judge")
"""What it may have."""


def record_of(path: Path, number: int, line: bytes, texts: Sequence[str] = TEXTS) -> dict[str, Any]:
    """A line of a record book as JSON has it, of any version. Raises RecordBookError, which says what is wrong.

    texts: fields that it must have.
    """
    try:
        record = parse_json(line)
    except ValueError as error:
        problem: str | None = str(error)
    else:
        problem = _problem(record, texts) if isinstance(record, dict) else f"it is {shown(record)}, not an object"
        if problem is None:
            return dict(record)
    raise RecordBookError(
        f"{path}, line {number} is not a record ({problem}); nothing was changed: delete that line, then run the "
        "evaluation again"
    )


def _problem(record: Mapping[str, Any], texts: Sequence[str]) -> str | None:
    """What of a line is not as a record has it, in words; None if nothing is."""
    for name in texts:
        if not isinstance(record.get(name), str):
            return f"{name} is {shown(record[name])}, not a text" if name in record else f"it has no {name}"
    if not isinstance(record.get("sample"), int):
        return f"sample is {shown(record.get('sample'))}, not a whole number"
    if record.get("finish_reason") not in ("stop", "length"):
        return f"finish_reason is {shown(record.get('finish_reason'))}, neither stop nor length"
    for name in _OBJECTS:
        if not isinstance(record.get(name), dict | None):
            return f"{name} is {shown(record[name])}, not an object"
    for name in ("judgement", "judge"):
        found = record.get(name)
        if found and not (isinstance(found.get("state"), str) and isinstance(found.get("correct"), bool | None)):
            return f"{name} has no state, or correct is neither true nor false"
        if found and not isinstance(found.get("official"), bool | None):
            return f"{name}.official is {shown(found['official'])}, not true or false"
    try:
        _Measured.model_validate(record)
    except ValidationError as error:
        return in_words(error)
    return None


class _Part(BaseModel):
    """Strict, for readers get what stands in the file."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


_Ratio = Annotated[float, Field(ge=0)]


class _Queries(_Part):
    """Of `QueryAttention` what readers take for granted."""

    tokens: int
    vas: _Ratio | None
    vas_without_sink: _Ratio | None = None
    ratio_of_sums: _Ratio | None = None
    top_share: _Ratio | None = None
    vas_by_layer: list[float | None] | None = None
    share_by_layer: dict[str, list[float]]


class _Attention(_Part):
    user: _Queries | None = None
    text: _Queries | None = None
    response: _Queries | None = None


class _Window(_Part):
    layers: Annotated[list[int], Field(min_length=2, max_length=2)]
    answer: float | None = None
    response: float | None = None


class _Altered(_Part):
    correct: bool | None = None


class _Causal(_Part):
    """Of `CausalRecord` the same."""

    dependence: float | None = None
    dependence_top: float | None = None
    information: float | None = None
    information_after_thought: float | None = None
    knockout_answer: float | None = None
    knockout_response: float | None = None
    knockout_windows: list[_Window] = []
    blind: _Altered | None = None
    swap: _Altered | None = None


class _Measured(_Part):
    """What was measured of a response, of any version: what this one does not know is left alone."""

    attention: _Attention | None = None
    causal: _Causal | None = None


def read_stored(path: Path) -> dict[str, StoredResponse]:
    """The responses of a record book by key, the newest line of each. Raises RecordBookError."""
    stored = {}
    for number, line in record_lines(path):
        record = record_of(path, number, line)
        stored[record["key"]] = StoredResponse(
            key=record["key"],
            task=record["task"],
            row_id=record["row_id"],
            sample=record["sample"],
            response=record["response"],
            finish_reason=record["finish_reason"],
            judgement=record.get("judgement"),
            judge=record.get("judge"),
            attention=record.get("attention"),
            causal=record.get("causal"),
        )
    return stored


def record_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a record book, numbered from 1. Raises RecordBookError."""
    try:
        with open_file(path) as file:
            yield from enumerate(file, start=1)
    except OSError as error:
        raise RecordBookError(
            f"{path} cannot be read: {error.strerror}; put it back, or run the evaluation again"
        ) from error


class HasTask(Protocol):
    """Any form of a record that names its task."""

    @property
    def task(self) -> str: ...


OfTask = TypeVar("OfTask", bound=HasTask)


def run_responses(folder: Path, tasks: Iterable[str], stored: Mapping[str, OfTask]) -> dict[str, list[OfTask]]:
    """The responses of each task of the run, of those in its record book. Raises ResultsError, RecordBookError."""
    asked = read_task_records(folder, tasks)
    missing = [key for of in asked.values() for key in of.keys if key not in stored]
    if missing:
        raise RecordBookError(
            f"{folder / RECORDS_NAME} lacks {len(missing)} of the run's records: run the evaluation again, it asks "
            "only for those"
        )
    for task, of in asked.items():
        if other := next((key for key in of.keys if stored[key].task != task), None):
            raise RecordBookError(
                f"{folder / RECORDS_NAME}: the record {other} is of the task {stored[other].task!r}, and the run asked "
                f"it for {task}: delete that line, and run the evaluation again"
            )
    return {task: [stored[key] for key in of.keys] for task, of in asked.items()}
