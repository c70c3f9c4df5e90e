"""What the leaderboard reads of a results.json, checked at the border.

Fields it does not know, in the protocol card or among the metrics, are left alone; a change that readers must not
overlook raises `schema`.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from avar_eval.errors import AvarError
from avar_eval.user_files import read_bytes

SCHEMA_VERSION = 1

Count = Annotated[int, Field(ge=0, le=2**53)]
# Names reach terminals and tables: control characters would break both.
Name = Annotated[str, Field(min_length=1, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$")]


class ResultsFileError(AvarError):
    """A results.json that cannot be read or is not of the schema."""


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)


class Metric(_Part):
    """A value with its 95 % interval (low, high); n observations. None is unknown, never zero."""

    value: Annotated[float, Field(ge=0)] | None = None
    ci95: tuple[float, float] | None = None
    n: Count = 0

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.ci95 is not None and self.ci95[0] > self.ci95[1]:
            raise ValueError("the interval's low end lies above its high end")
        return self


class Share(Metric):
    """A metric that is a fraction 0..1."""

    value: Annotated[float, Field(ge=0, le=1)] | None = None


class Metrics(_Part):
    """Accuracy (strict), official, judge and the other shares are fractions 0..1; VAS is a ratio (Eq. 2), no unit."""

    accuracy: Share
    official: Share = Share()
    judge: Share = Share()
    judge_error: Share = Share()
    vas: Metric = Metric()
    vas_response: Metric = Metric()
    truncated: Share = Share()
    unparsed: Share = Share()
    timeout: Share = Share()


class HeadlineValues(_Part):
    """The benchmark's score under each verdict."""

    strict: Share = Share()
    official: Share = Share()
    judge: Share = Share()


class Headline(_Part):
    """The metric that is the benchmark's score."""

    name: Name
    values: HeadlineValues


class OwnMetrics(_Part):
    """The benchmark's own metrics by the strict verdict."""

    strict: dict[Name, Metric] = {}


class LeftOut(_Part):
    """Rows that could not be asked, such as those whose image is missing."""

    n: Count = 0


class TaskResults(_Part):
    """One task of a run."""

    metrics: Metrics
    benchmark: OwnMetrics = OwnMetrics()
    headline: Headline | None = None
    vas_band: Literal["narrow", "wide", "panoramic"] | None = None
    left_out: LeftOut = LeftOut()


class GroupResults(_Part):
    """The published mean of a group of tasks."""

    mean: HeadlineValues


class Training(_Part):
    """A checkpoint's place in the training that it comes from; step 0 is the base model. started: ISO 8601."""

    run: Name
    step: Count
    started: str | None = None


class Protocol(_Part):
    """The part of the protocol card that tells rows of the leaderboard apart; `limit` is in questions a task."""

    model: Name
    revision: Name | None
    system_prompt: str | None
    steering: JsonValue
    prompt_sha256: dict[str, str]
    limit: Count | None
    training: Training | None = None
    trained_on: list[Name] = []


class Results(_Part):
    """One finished run."""

    # `schema` is a name of pydantic's own.
    schema_version: Annotated[Literal[1], Field(alias="schema")]
    run_id: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    tasks: Annotated[dict[Name, TaskResults], Field(min_length=1)]
    groups: dict[Name, GroupResults] = {}
    protocol: Protocol


def read_results(path: Path) -> tuple[Results, bytes]:
    """A run's results and the bytes they were read from. Raises ResultsFileError, which names the file."""
    try:
        data = read_bytes(path)
    except FileNotFoundError:
        raise ResultsFileError(f"there is no file {path}; give the results.json of a finished run") from None
    except IsADirectoryError:
        raise ResultsFileError(f"{path} is a folder; give the results.json in it") from None
    except OSError as error:
        raise ResultsFileError(f"cannot read {path}: {error.strerror}") from error
    try:
        return Results.model_validate_json(data), data
    except ValidationError as error:
        raise ResultsFileError(_explain(path, error)) from error


def _explain(path: Path, error: ValidationError) -> str:
    """One sentence on the first thing that is wrong, and one on what to do."""
    first = error.errors(include_url=False)[0]
    if first["loc"] == ("schema",) and isinstance(first["input"], int):
        return (
            f"{path} has results schema {first['input']}, and this avar-eval reads schema {SCHEMA_VERSION}; "
            "use the version of avar-eval that wrote it"
        )
    where = ".".join(map(str, first["loc"])) or "the file"
    return (
        f"{path} is not a results.json of avar-eval ({where}: {first['msg']}); "
        "give the results.json of a finished run, or run the evaluation again"
    )
