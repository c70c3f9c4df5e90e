"""One row of the leaderboard: one task of one finished run, or the mean of a group of its tasks."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated, Any

from pydantic import BaseModel, Field

from avar_eval.results.prompting import prompting_sha256
from avar_eval.results.schema import UNKNOWN_METRIC, Count, GroupResult, Headline, Metric, RunResults, TaskScores

# Names reach terminals and tables: control characters would break both.
Name = Annotated[str, Field(min_length=1, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$")]


class Training(BaseModel):
    """A checkpoint's place in the training that it comes from; step 0 is the base model. started: ISO 8601."""

    run: Name
    step: Count
    started: str | None = None


class NamedProtocol(BaseModel):
    """A named protocol, `custom` if a run changed anything of it, with the prompts that it asked in, by task."""

    name: Name
    prompts: dict[str, dict[str, str]] = {}


class ListedProtocol(BaseModel):
    """The part of the protocol card that tells rows of the leaderboard apart; `limit` is in questions a task."""

    model: Name
    revision: Name | None
    system_prompt: str | None
    steering: dict[str, Any] | None
    prompt_sha256: dict[str, str]
    limit: Count | None
    prompt_style: str | None = None
    instruction: list[str] | None = None
    protocol: NamedProtocol | None = None
    training: Training | None = None
    trained_on: list[str] = []


class ListedRun(RunResults[TaskScores, ListedProtocol]):
    """What the leaderboard reads of a results.json."""

    run_id: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]  # it names a file
    tasks: Annotated[dict[Name, TaskScores], Field(min_length=1)]
    groups: Annotated[dict[Name, GroupResult], Field(default_factory=dict)]


@dataclass(frozen=True)
class Row:
    """One task of one run, or the mean of a group of them.

    Of a group `task` is its name, `score_name` is "mean", and what a mean does not have (accuracy, VAS, …) is unknown.

    `score` is the benchmark's own score, the metric `score_name`, by the strict verdict; `official` and `judge` are the
    same by the published rule's and a judge model's. `accuracy` is the share of responses that are right by the strict
    verdict. They, the ends of their intervals, `truncated`, `unparsed`, `timeout` and `judge_error` are fractions 0..1;
    VAS is a ratio (Eq. 2) without unit; an interval is at 95 %. None is unknown. `training_run` and `training_step` are
    of a checkpoint that was scored in its training, which began at `training_started` (ISO 8601). `steering` is its
    JSON with sorted keys, the hashes are SHA-256 in hexadecimal (`prompting_sha256`: of all that stands around a
    question), `limit` counts questions, `protocol` is the named one that it was asked under, `trained_on` says that the
    task's data set is known to be in the model's training data, `added` is UTC in ISO 8601.
    """

    run_id: str
    task: str
    model: str
    revision: str | None
    n: int
    left_out: int
    score_name: str
    score: float | None
    score_low: float | None
    score_high: float | None
    official: float | None
    official_low: float | None
    official_high: float | None
    judge: float | None
    accuracy: float | None
    accuracy_low: float | None
    accuracy_high: float | None
    vas: float | None
    vas_low: float | None
    vas_high: float | None
    vas_n: int
    vas_band: str | None
    vas_response: float | None
    truncated: float | None
    unparsed: float | None
    timeout: float | None
    judge_error: float | None
    steering: str | None
    limit: int | None
    training_run: str | None
    training_step: int | None
    training_started: str | None
    trained_on: bool
    protocol: str | None
    prompting_sha256: str
    system_prompt_sha256: str | None
    prompt_sha256: str | None
    added: str


def run_rows(run: ListedRun, added: str) -> Iterator[Row]:
    """A run's rows; `added` as in Row."""
    for task, scores in run.tasks.items():
        yield _row(run, task, scores, added)
    for name, group in run.groups.items():
        mean = Headline(name="mean", values=group.mean)
        of_group = Metric(n=group.mean.get("strict", UNKNOWN_METRIC).n)  # of a mean that is all there is
        yield _row(run, name, TaskScores(metrics={"accuracy": of_group}, headline=mean), added)


def _row(run: ListedRun, task: str, scores: TaskScores, added: str) -> Row:
    protocol, metric = run.protocol, scores.metric
    accuracy, vas = metric("accuracy"), metric("vas")
    # a run of before there was a headline
    headline = scores.headline or Headline(name="accuracy", values={"strict": accuracy})
    score, official = headline.values.get("strict", UNKNOWN_METRIC), headline.values.get("official", UNKNOWN_METRIC)
    score_low, score_high = score.ci95 or (None, None)
    official_low, official_high = official.ci95 or (None, None)
    accuracy_low, accuracy_high = accuracy.ci95 or (None, None)
    vas_low, vas_high = vas.ci95 or (None, None)
    return Row(
        run_id=run.run_id,
        task=task,
        model=protocol.model,
        revision=protocol.revision,
        n=accuracy.n or metric("truncated").n,  # a task without a strict verdict has no accuracy
        left_out=scores.left_out.n,
        score_name=headline.name,
        score=score.value,
        score_low=score_low,
        score_high=score_high,
        official=official.value,
        official_low=official_low,
        official_high=official_high,
        judge=headline.values.get("judge", UNKNOWN_METRIC).value,
        accuracy=accuracy.value,
        accuracy_low=accuracy_low,
        accuracy_high=accuracy_high,
        vas=vas.value,
        vas_low=vas_low,
        vas_high=vas_high,
        vas_n=vas.n,
        vas_band=scores.vas_band,
        vas_response=metric("vas_response").value,
        truncated=metric("truncated").value,
        unparsed=metric("unparsed").value,
        timeout=metric("timeout").value,
        judge_error=metric("judge_error").value,
        steering=None if protocol.steering is None else json.dumps(protocol.steering, sort_keys=True),
        limit=protocol.limit,
        training_run=protocol.training.run if protocol.training else None,
        training_step=protocol.training.step if protocol.training else None,
        training_started=protocol.training.started if protocol.training else None,
        trained_on=task in protocol.trained_on,
        protocol=protocol.protocol.name if protocol.protocol else None,
        prompting_sha256=prompting_sha256(protocol.model_dump()),
        system_prompt_sha256=None
        if protocol.system_prompt is None
        else sha256(protocol.system_prompt.encode()).hexdigest(),
        prompt_sha256=protocol.prompt_sha256.get(task),
        added=added,
    )
