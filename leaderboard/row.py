"""One row of the leaderboard: one task of one finished run, or the mean of a group of its tasks."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256

from avar_eval.leaderboard.results import Headline, HeadlineValues, Metrics, Results, Share, TaskResults


@dataclass(frozen=True)
class Row:
    """One task of one run, or the mean of a group of them.

    Of a group `task` is its name, `score_name` is "mean", and what a mean does not have (accuracy, VAS, …) is unknown.

    `score` is the benchmark's own score, the metric `score_name`, by the strict verdict; `official` and `judge` are the
    same by the published rule's and a judge model's. `accuracy` is the share of responses that are right by the strict
    verdict. They, the ends of their intervals, `truncated`, `unparsed`, `timeout` and `judge_error` are fractions 0..1;
    VAS is a ratio (Eq. 2) without unit; an interval is at 95 %. None is unknown. `training_run` and `training_step` are
    of a checkpoint that was scored in its training, which began at `training_started` (ISO 8601). `steering` is its
    JSON with sorted keys, the hashes are SHA-256 in hexadecimal, `limit` counts questions, `trained_on` says that the
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
    system_prompt_sha256: str | None
    prompt_sha256: str | None
    added: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "trained_on", bool(self.trained_on))  # SQLite knows 0 and 1


def rows_of(results: Results, added: str) -> Iterator[Row]:
    """A run's rows; `added` as in Row."""
    for task, task_results in results.tasks.items():
        yield _row(results, task, task_results, added)
    for group, group_results in results.groups.items():
        mean = Headline(name="mean", values=group_results.mean)
        unknown = Metrics(accuracy=Share(n=group_results.mean.strict.n))
        yield _row(results, group, TaskResults(metrics=unknown, headline=mean), added)


def _row(results: Results, task: str, task_results: TaskResults, added: str) -> Row:
    protocol, metrics = results.protocol, task_results.metrics
    headline = task_results.headline or _accuracy(metrics)
    score, official = headline.values.strict, headline.values.official
    score_low, score_high = score.ci95 or (None, None)
    official_low, official_high = official.ci95 or (None, None)
    accuracy_low, accuracy_high = metrics.accuracy.ci95 or (None, None)
    vas_low, vas_high = metrics.vas.ci95 or (None, None)
    return Row(
        run_id=results.run_id,
        task=task,
        model=protocol.model,
        revision=protocol.revision,
        n=metrics.accuracy.n or metrics.truncated.n,  # a task without a strict verdict has no accuracy
        left_out=task_results.left_out.n,
        score_name=headline.name,
        score=score.value,
        score_low=score_low,
        score_high=score_high,
        official=official.value,
        official_low=official_low,
        official_high=official_high,
        judge=headline.values.judge.value,
        accuracy=metrics.accuracy.value,
        accuracy_low=accuracy_low,
        accuracy_high=accuracy_high,
        vas=metrics.vas.value,
        vas_low=vas_low,
        vas_high=vas_high,
        vas_n=metrics.vas.n,
        vas_band=task_results.vas_band,
        vas_response=metrics.vas_response.value,
        truncated=metrics.truncated.value,
        unparsed=metrics.unparsed.value,
        timeout=metrics.timeout.value,
        judge_error=metrics.judge_error.value,
        steering=None if protocol.steering is None else json.dumps(protocol.steering, sort_keys=True),
        limit=protocol.limit,
        training_run=protocol.training.run if protocol.training else None,
        training_step=protocol.training.step if protocol.training else None,
        training_started=protocol.training.started if protocol.training else None,
        trained_on=task in protocol.trained_on,
        system_prompt_sha256=_sha256(protocol.system_prompt),
        prompt_sha256=protocol.prompt_sha256.get(task),
        added=added,
    )


def _accuracy(metrics: Metrics) -> Headline:
    """The headline of a run of before there was one."""
    return Headline(name="accuracy", values=HeadlineValues(strict=metrics.accuracy))


def _sha256(text: str | None) -> str | None:
    return None if text is None else sha256(text.encode()).hexdigest()
