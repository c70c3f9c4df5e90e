"""`results.json`: what one run found, each number with its interval, and the protocol under which it was found.

It holds nothing that depends on when or where the run took place, so that a run that was killed and resumed writes
the same file as one that was not. Whoever reads one reads it here: files of earlier versions lack fields, which are
then unknown; fields that this version does not know are left alone.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Generic, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    ValidationError,
    model_serializer,
    model_validator,
)
from pydantic_core import InitErrorDetails

from avar_eval.atomic import write_atomically
from avar_eval.attention.bands import Band
from avar_eval.attention.steering import Steering
from avar_eval.errors import AvarError
from avar_eval.in_words import fault_in_words, in_words, shown
from avar_eval.outcomes import Verdict
from avar_eval.records.record import Record
from avar_eval.results.unfinished import no_results
from avar_eval.statistics import Estimate
from avar_eval.terminal import note
from avar_eval.user_files import parse_json, read_bytes, read_text

RESULTS_NAME: Final = "results.json"
SCHEMA_VERSION: Final = 1
"""Raised by a change that readers must not overlook."""
TASK_RECORDS_NAME: Final = "asked.json"
"""Beside results.json: which records are the run's. A record book may hold those of runs with other settings, too."""
ATTENTION_METRICS: Final = (
    "vas",
    "vas_response",
    "ratio_of_sums",
    "vas_without_sink",
    "vas_text",
    "vas_geometric_mean",
    "vas_median",
    "vas_top_rows",
    "vas_top_terms",
)
"""What `attention_means` gives: but for the last two ratios without an upper bound."""
CAUSAL_NUMBERS: Final = (
    "visual_gain",
    "mirage",
    "visual_dependence",
    "visual_dependence_top",
    "information",
    "information_after_thought",
    "knockout_answer",
    "knockout_response",
)
"""A difference, a ratio, and nats, as `results.causal` gives them."""

Count = Annotated[int, Field(ge=0, le=2**53)]


class ResultsError(AvarError):
    """A run's results cannot be read; the message names the file and the field.

    What to do: Run the same command again, or `avar-eval score RUN_DIR`: both write results.json anew from the records.
    """


def _ordered(interval: tuple[float, float]) -> tuple[float, float]:
    if interval[0] > interval[1]:
        raise ValueError("the interval's low end lies above its high end")
    return interval


class Metric(BaseModel):
    """A measured number: value and 95 % interval (low, high), from n samples. None is unknown, never zero."""

    model_config = ConfigDict(allow_inf_nan=False)

    value: float | None = None
    ci95: Annotated[tuple[float, float], AfterValidator(_ordered)] | None = None
    n: Count = 0

    @classmethod
    def of(cls, estimate: Estimate) -> "Metric":
        """From an estimate."""
        return cls(value=estimate.value, ci95=estimate.ci95, n=estimate.n)


UNKNOWN_METRIC: Final = Metric()


class Headline(BaseModel):
    """The number that is the benchmark's score, by its name, under each verdict that there is."""

    name: str
    values: dict[Verdict, Metric]


class LeftOut(BaseModel):
    """Rows that were not asked or not answered, and why."""

    n: Count = 0
    ids: list[str] = []
    reason: str = ""


class CausalCounts(BaseModel):
    """What the causal columns are of. rows: chosen for them; without_image: of these, which are in none of them.

    visual_gain_p: two-sided, of accuracy against blind, McNemar's where rows are independent; None without blind.
    """

    rows: Count
    without_image: Count
    visual_gain_p: float | None = None


class KnockoutWindow(BaseModel):
    """Means of what log-probabilities change by, nats, when text cannot attend to image tokens in these layers alone.

    layers: first and last, counted from 0. answer: of the final answer's tokens; response: of all of the response's.
    """

    layers: tuple[Count, Count]
    answer: Metric
    response: Metric


def _checked_metrics(metrics: dict[str, Metric]) -> dict[str, Metric]:
    """Raise ValidationError, which names the metric, for a share outside of 0..1 and where there is no accuracy."""
    problems: list[InitErrorDetails] = []
    if "accuracy" not in metrics:
        problems.append(InitErrorDetails(type="missing", loc=("accuracy",), input=list(metrics)))
    for name, metric in metrics.items():
        if name in CAUSAL_NUMBERS:
            continue
        if metric.value is not None and metric.value < 0:
            error = InitErrorDetails(type="greater_than_equal", loc=(name, "value"), input=metric.value, ctx={"ge": 0})
            problems.append(error)
        elif metric.value is not None and metric.value > 1 and name not in ATTENTION_METRICS:
            error = InitErrorDetails(type="less_than_equal", loc=(name, "value"), input=metric.value, ctx={"le": 1})
            problems.append(error)
    if problems:
        raise ValidationError.from_exception_data("metrics", problems)
    return metrics


class TaskScores(BaseModel):
    """One task's numbers, without the benchmark's own metrics: what a leaderboard reads of thousands of runs.

    metrics: shares 0..1 of responses: accuracy (strict verdict); official (the published rule's, of the responses on
    which it has one or guesses: a guess among k options is worth 1/k) and official_guessed (of all); truncated,
    unparsed, timeout; with a judge model judge (of the responses that it could judge) and judge_error; with several
    samples pass@k and majority. Also what `attention_means` gives, and causal columns
    (`avar_eval.results.causal`).
    causal: what these are of; None where there are none.
    headline: the benchmark's score; None in files of before there was one.
    """

    metrics: Annotated[dict[str, Metric], AfterValidator(_checked_metrics)]
    headline: Headline | None = None
    vas_band: Band | None = None
    left_out: LeftOut = LeftOut()
    causal: CausalCounts | None = None

    def metric(self, name: str) -> Metric:
        """A metric by its name, unknown if the run has none of that name."""
        return self.metrics.get(name, UNKNOWN_METRIC)


class TaskResult(TaskScores):
    """One task's numbers.

    benchmark: the benchmark's own metrics by verdict (strict, official, judge); n: responses that each is a share of.
    knockout_windows: with `--knockout-windows`, each window of layers.
    """

    benchmark: dict[Verdict, dict[str, Metric]] = {}
    knockout_windows: list[KnockoutWindow] = []

    @model_serializer(mode="wrap")
    def _in_file_order(self, fields: SerializerFunctionWrapHandler) -> dict[str, Any]:
        data: dict[str, Any] = fields(self)
        if self.causal is None:  # files without these columns are as they were before there were any
            del data["causal"]
        if not self.knockout_windows:
            del data["knockout_windows"]
        return {"metrics": data.pop("metrics"), "benchmark": data.pop("benchmark"), **data}


class GroupResult(BaseModel):
    """The mean that is published for a group of tasks.

    columns: the group's columns in its order, each with its value (0..1) under each verdict. mean: of the columns; in
    its interval a question that several tasks share is one, n counts the responses.
    """

    columns: dict[str, dict[Verdict, float]] = {}
    mean: dict[Verdict, Metric]


Task = TypeVar("Task", bound=TaskScores)
Card = TypeVar("Card")


class RunResults(BaseModel, Generic[Task, Card]):
    """A run, with as much of each task and of the protocol card as the reader needs.

    run_id: the first 16 hex digits of the protocol's hash. protocol_id: of how it was asked, as its records have it
    (None in files of before that was written). groups: those of which the run has all that their mean needs.
    """

    # `schema` is a name of pydantic's own
    schema_version: Annotated[Literal[1], Field(alias="schema")] = SCHEMA_VERSION
    run_id: str
    protocol_id: str | None = None
    tasks: dict[str, Task]
    groups: dict[str, GroupResult] = {}
    protocol: Card


class _CausalCard(BaseModel):
    mode: Literal["off", "fast", "full"] = "off"
    samples: Count = 0
    knockout_windows: Count = 0


class _NamedCard(BaseModel):
    name: str
    based_on: str | None = None
    verdict: dict[str, str] = {}
    changed: dict[str, dict[str, Any]] = {}


class _LimitsCard(BaseModel):
    min_pixels: Count | None = None
    max_pixels: Count | None = None


class _Card(BaseModel):
    """What readers of a protocol card take for granted, of any version."""

    model: str
    revision: str | None = None
    prompt_sha256: dict[str, str] = {}
    steering: Steering | None = None
    backend: dict[str, Any] = {}
    decoding: dict[str, Any] = {}
    tasks: dict[str, dict[str, Any]] = {}
    grader: dict[str, list[str] | str] = {}
    trained_on: list[str] = []
    judge: dict[str, Any] | None = None
    attention: dict[str, Any] | None = None
    causal: _CausalCard | None = None
    training: dict[str, Any] | None = None
    protocol: _NamedCard | None = None
    image_limits: _LimitsCard | None = None
    limit: Count | None = None
    system_prompt: str | None = None
    prompt_style: str | None = None
    dtype: str | None = None
    command: str = ""


class _Complete(BaseModel):
    """What readers of a file take for granted beside what `Results` says."""

    tasks: Annotated[dict[str, Any], Field(min_length=1)]
    protocol: _Card


class Results(RunResults[TaskResult, dict[str, Any]]):
    """The content of results.json. notes: what happened while it was asked that a reader has to know; rarely any."""

    notes: list[str] = []

    @model_serializer(mode="wrap")
    def _without_empty_notes(self, fields: SerializerFunctionWrapHandler) -> dict[str, Any]:
        data: dict[str, Any] = fields(self)
        if not self.notes:
            del data["notes"]
        return data

    def to_json(self) -> str:
        """The file's text."""
        return json.dumps(self.model_dump(mode="json", by_alias=True), indent=2, ensure_ascii=False) + "\n"

    def write(self, folder: Path) -> Path:
        """Write the file, atomically."""
        path = folder / RESULTS_NAME
        write_atomically(path, [self.to_json()])
        return path


AnyResults = TypeVar("AnyResults", bound=RunResults[Any, Any])


def read_results(folder: Path) -> Results:
    """The results of a finished run in its folder. Raises ResultsError."""
    path = folder / RESULTS_NAME
    try:
        return parse_results(Results, read_bytes(path), path)
    except FileNotFoundError:
        raise ResultsError(no_results(folder, RESULTS_NAME)) from None
    except NotADirectoryError:
        raise ResultsError(f"{folder} is a file: give the folder of a finished run") from None
    except OSError as error:
        raise ResultsError(
            f"{path} cannot be read: {error.strerror}; put it back, or run the evaluation again"
        ) from error


def results_bytes(path: Path) -> bytes:
    """The content of a results.json that a user named. Raises ResultsError."""
    try:
        return read_bytes(path)
    except FileNotFoundError:
        if path.name == RESULTS_NAME and path.parent.is_dir():
            raise ResultsError(no_results(path.parent, RESULTS_NAME)) from None
        raise ResultsError(f"there is no file {path}; give the results.json of a finished run") from None
    except IsADirectoryError:
        raise ResultsError(f"{path} is a folder; give the results.json in it") from None
    except OSError as error:
        raise ResultsError(f"cannot read {path}: {error.strerror}; give the results.json of a finished run") from error


def parse_results(kind: type[AnyResults], data: bytes, path: Path) -> AnyResults:
    """Results as all of `Results` or as a part of it, from the bytes of a file. Raises ResultsError, naming `path`."""
    try:
        results = kind.model_validate_json(data, strict=True)
        if isinstance(results, Results):
            _Complete.model_validate({"tasks": results.tasks, "protocol": results.protocol})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if first["loc"] == ("schema",) and isinstance(first["input"], int):
            raise ResultsError(
                f"{path} has results schema {first['input']}, and this avar-eval reads schema {SCHEMA_VERSION}: use "
                "the version of avar-eval that wrote it"
            ) from error
        raise _unreadable(path, in_words(error)) from error
    if "schema_version" not in results.model_fields_set:
        raise _unreadable(path, "it has no schema")
    return results


def _unreadable(path: Path, problem: str) -> ResultsError:
    return ResultsError(
        f"{path} is not a results.json of this version of avar-eval ({problem}): give that of a finished run, "
        "or run the evaluation again"
    )


_NOT_ASKED_BY: Final = {
    *("limit", "prompt_sha256", "grader", "trained_on", "judge", "attention", "seed", "versions", "command"),
    *("causal", "training"),
}


def asked_by(protocol: Mapping[str, Any]) -> dict[str, Any]:
    """Of a run's protocol what was known before anything was asked: what its `protocol_id` is the hash of."""
    before = {name: of for name, of in protocol.items() if name not in _NOT_ASKED_BY}
    if isinstance(backend := before.get("backend"), dict):
        before["backend"] = {name: of for name, of in backend.items() if name != "changed"}
    return before


def run_id(protocol: Mapping[str, Any]) -> str:
    """16 hex digits that name a protocol: the same command on the same weights is the same run.

    Causal columns can be added to a finished run, which stays the run that it is.
    """
    decisive = {name: value for name, value in protocol.items() if name not in ("command", "causal")}
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]


def prompt_sha256(records: Iterable[Record]) -> str:
    """One hash of all prompts of a task, whatever their order: equal hashes, equal questions."""
    lines = sorted(json.dumps([record.row_id, record.sample, record.prompt]) for record in records)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def note_other_run(folder: Path, results: Results) -> None:
    """Say on standard error that the folder's results.json is of a run with other settings, and makes way."""
    try:
        earlier = read_results(folder)
    except ResultsError:  # none, or one of another version
        return
    if earlier.run_id != results.run_id:
        command = earlier.protocol.get("command")
        note(
            f"note: {folder / RESULTS_NAME} held the results of another run ({command}), and this one's take their "
            "place. Its records stay, so that the same command brings it back; --output keeps runs "
            "apart"
        )


class TaskRecords(BaseModel):
    """A task's records in the order asked: their keys, and the cluster that each one's row belongs to.

    strata: the group of rows, all of which are always asked, that each one's row is in, where the benchmark has such;
    guess_chances: how probably the published rule is right where it guesses, of each one's row (None: no guess there);
    measured, causal: whether each one's attention, and its causal measures, are the run's, which may have asked for
    fewer than a run before it. task_sha256: of the task's files and of the rows asked, with their pictures, as they
    were when the run began. All five are None in files of before that was written.
    """

    keys: list[str]
    clusters: list[str]
    strata: list[str] | None = None
    guess_chances: list[float | None] | None = None
    measured: list[bool] | None = None
    causal: list[bool] | None = None
    task_sha256: str | None = None

    @model_validator(mode="after")
    def _are_of_the_same_records(self) -> Self:
        for name in ("clusters", "strata", "guess_chances", "measured", "causal"):
            of = getattr(self, name)
            if of is not None and len(of) != len(self.keys):
                raise ValueError(f"{name} has {len(of)} entries, and keys {len(self.keys)}")
        return self


def write_task_records(folder: Path, asked: Mapping[str, TaskRecords]) -> None:
    """Write which records belong to each task of the run, atomically."""
    data = {task: one.model_dump() for task, one in asked.items()}
    write_atomically(folder / TASK_RECORDS_NAME, [json.dumps(data) + "\n"])


def read_task_records(folder: Path, tasks: Iterable[str]) -> dict[str, TaskRecords]:
    """Which records belong to each of the tasks. Raises ResultsError, also for a run of before that was written."""
    path, wanted = folder / TASK_RECORDS_NAME, list(tasks)
    try:
        data = parse_json(read_text(path))
        if not isinstance(data, dict):
            raise ValueError(f"it is {shown(data)}, not an object")
        if missing := [task for task in wanted if task not in data]:
            raise ValueError(f"it has no {missing[0]}")
        return TypeAdapter(dict[str, TaskRecords]).validate_python({task: data[task] for task in wanted})
    except (OSError, ValueError) as error:
        raise ResultsError(
            f"{path}, which says what the run asked, cannot be read ({fault_in_words(error)}): run the evaluation "
            "again, it asks nothing twice"
        ) from error
