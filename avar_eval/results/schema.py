"""`results.json`: what one run found, each number with its interval, and the protocol under which it was found.

It holds nothing that depends on when or where the run took place, so that a run that was killed and resumed writes
the same file as one that was not.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from avar_eval.atomic import write_atomically
from avar_eval.attention.bands import Band, vas_band
from avar_eval.attention.summary import AttentionSummary
from avar_eval.errors import AvarError
from avar_eval.outcomes import Outcome, Verdict
from avar_eval.records.record import Record
from avar_eval.results.metrics import Benchmark, benchmark_metrics, response_metrics
from avar_eval.statistics import Estimate, mean
from avar_eval.tasks.groups import Group, group_mean, groups
from avar_eval.terminal import note
from avar_eval.user_files import parse_json, read_text

RESULTS_NAME = "results.json"
ASKED_NAME = "asked.json"
"""Beside results.json: which records are the run's. A record book may hold those of runs with other settings, too."""


_REASONS = 5
"""Reasons for leaving out rows that are given in words."""

_VERDICTS: tuple[Verdict, ...] = ("strict", "official", "judge")


class ResultsError(AvarError):
    """A run's results cannot be read."""


class Metric(BaseModel):
    """A measured number: value and 95 % interval (None if nothing was measured), from n samples."""

    value: float | None
    ci95: tuple[float, float] | None
    n: int

    @classmethod
    def of(cls, estimate: Estimate) -> "Metric":
        """From an estimate."""
        return cls(value=estimate.value, ci95=estimate.ci95, n=estimate.n)


class Headline(BaseModel):
    """The number that is the benchmark's score, by its name, under each verdict that there is."""

    name: str
    values: dict[Verdict, Metric]


class LeftOut(BaseModel):
    """Rows that were not asked or not answered, and why."""

    n: int
    ids: list[str]
    reason: str


class Asked(BaseModel):
    """A task's records in the order asked: their keys, and the cluster that each one's row belongs to.

    guess_chances: how probably the published rule is right where it guesses, of each one's row (None: no guess there);
    None in files of before that was written.
    """

    keys: list[str]
    clusters: list[str]
    guess_chances: list[float | None] | None = None


class TaskResult(BaseModel):
    """One task's numbers.

    metrics: shares 0..1 of responses: accuracy (strict verdict); official (the published rule's, of the responses on
    which it has one or guesses: a guess among k options is worth 1/k) and official_guessed (of all); truncated,
    unparsed, timeout; with a judge model judge (of the responses that it could judge) and judge_error; with several
    samples pass@k and majority. Also vas and vas_response (Eq. 2), and ratio_of_sums.
    benchmark: the benchmark's own metrics by verdict (strict, official, judge); n: responses that each is a share of.
    headline: the benchmark's score; None in files of before there was one.
    """

    metrics: dict[str, Metric]
    benchmark: dict[Verdict, dict[str, Metric]] = {}
    headline: Headline | None = None
    vas_band: Band | None
    left_out: LeftOut


class GroupResult(BaseModel):
    """The mean that is published for a group of tasks.

    columns: the group's columns in its order, each with its value (0..1) under each verdict. mean: of the columns; its
    interval takes them as independent, n counts the responses.
    """

    columns: dict[str, dict[Verdict, float]]
    mean: dict[Verdict, Metric]


class Results(BaseModel):
    """The content of results.json. run_id: the first 16 hex digits of the protocol's hash.

    groups: those of which the run has all that their mean needs.
    """

    # `schema` is a name of pydantic's own
    schema_version: Literal[1] = 1
    run_id: str
    tasks: dict[str, TaskResult]
    groups: dict[str, GroupResult] = {}
    protocol: dict[str, Any]

    def to_json(self) -> str:
        """The file's text."""
        data = self.model_dump(mode="json")
        return json.dumps({"schema": data.pop("schema_version"), **data}, indent=2, ensure_ascii=False) + "\n"

    def write(self, folder: Path) -> Path:
        """Write the file, atomically."""
        path = folder / RESULTS_NAME
        write_atomically(path, [self.to_json()])
        return path


def read_results(folder: Path) -> Results:
    """The results of a finished run in its folder. Raises ResultsError."""
    path = folder / RESULTS_NAME
    try:
        data = parse_json(read_text(path))
        return Results.model_validate({"schema_version": data.pop("schema"), **data})
    except FileNotFoundError:
        raise ResultsError(f"{folder} holds no finished run: it has no {RESULTS_NAME}") from None
    except OSError as error:
        raise ResultsError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, AttributeError, KeyError, TypeError, ValidationError) as error:
        raise ResultsError(
            f"{path} is not a results.json of this version of avar-eval: run the evaluation again"
        ) from error


def task_result(
    benchmark: Benchmark,
    outcomes: Sequence[Outcome],
    attention: Mapping[str, Metric],
    left_out: LeftOut,
) -> TaskResult:
    """A task's numbers from its judged responses; `attention` is what `attention_metrics` gives, or nothing."""
    metrics = {name: Metric.of(estimate) for name, estimate in response_metrics(benchmark, outcomes).items()}
    own: dict[Verdict, dict[str, Metric]] = {
        verdict: {name: Metric.of(estimate) for name, estimate in estimates.items()}
        for verdict, estimates in benchmark_metrics(benchmark, outcomes).items()
    }
    vas = attention["vas"].value if "vas" in attention else None
    return TaskResult(
        metrics={"accuracy": metrics["accuracy"], "official": metrics["official"], **attention} | metrics,
        benchmark=own,
        headline=_headline(benchmark.entry.headline, metrics, own),
        vas_band=None if vas is None else vas_band(vas),
        left_out=left_out,
    )


ATTENTION_METRICS = ("vas", "vas_response", "ratio_of_sums")
"""The names of `attention_metrics`."""


def attention_metrics(attention: Sequence[AttentionSummary]) -> dict[str, Metric]:
    """vas, vas_response (Eq. 2, over the question's and the response's tokens), ratio_of_sums (over the question's).

    Means over what was measured.
    """
    estimates = {
        "vas": mean([a.user.vas for a in attention if a.user and a.user.vas is not None]),
        "vas_response": mean([a.response.vas for a in attention if a.response and a.response.vas is not None]),
        "ratio_of_sums": mean([a.user.ratio_of_sums for a in attention if a.user and a.user.ratio_of_sums is not None]),
    }
    return {name: Metric.of(estimate) for name, estimate in estimates.items()}


def left_out_rows(without_picture: Mapping[str, str], refused: Mapping[str, str] = {}) -> LeftOut:
    """Rows without an answer, id -> reason: those without a picture that can be read, and those that are refused.

    Reasons that differ in nothing but numbers and paths are given once: servers put a request's number into them.
    """
    reasons = dict(without_picture) | dict(sorted(refused.items()))
    alike: dict[str, list[str]] = {}
    for reason in reasons.values():
        alike.setdefault(re.sub(r"[0-9a-f]{8,}|\d+|/\S+", "…", reason), []).append(reason)
    parts = [found[0] if len(alike) == 1 else f"{found[0]} ({len(found)})" for found in alike.values()]
    more = [f"and {len(parts) - _REASONS} other reasons"] if len(parts) > _REASONS else []
    return LeftOut(n=len(reasons), ids=list(reasons), reason="; ".join(parts[:_REASONS] + more))


def _headline(name: str, metrics: Mapping[str, Metric], own: Mapping[Verdict, Mapping[str, Metric]]) -> Headline:
    if name != "accuracy":
        return Headline(name=name, values={verdict: of[name] for verdict, of in own.items() if name in of})
    shares: dict[Verdict, str] = {"strict": "accuracy", "official": "official", "judge": "judge"}
    values = {verdict: metrics[share] for verdict, share in shares.items() if share in metrics and metrics[share].n}
    return Headline(name=name, values=values)


def group_results(tasks: Mapping[str, TaskResult]) -> dict[str, GroupResult]:
    """The groups' means, of those groups that have one and all of whose columns were measured by the strict verdict."""
    found: dict[str, GroupResult] = {}
    for name, group in groups().items():
        columns: dict[str, dict[Verdict, float]] = {}
        means: dict[Verdict, Metric] = {}
        for verdict in _VERDICTS:
            measured = {task: _metrics_under(verdict, result) for task, result in tasks.items()}
            values = {task: {of: metric.value for of, metric in one.items()} for task, one in measured.items()}
            of_group = group_mean(group, values, {task: _headline_name(result) for task, result in tasks.items()})
            if of_group.mean is None:
                continue
            for label, value in of_group.columns.items():
                if value is not None:  # none is, where there is a mean
                    columns.setdefault(label, {})[verdict] = value
            means[verdict] = _mean_metric(group, of_group.mean, measured, tasks)
        if "strict" in means:
            found[name] = GroupResult(columns=columns, mean=means)
    return found


def _headline_name(result: TaskResult) -> str:
    return result.headline.name if result.headline else "accuracy"


def _metrics_under(verdict: Verdict, result: TaskResult) -> dict[str, Metric]:
    """A task's own metrics under a verdict, and its headline."""
    headline = result.headline.values.get(verdict) if result.headline else None
    return result.benchmark.get(verdict, {}) | ({_headline_name(result): headline} if headline else {})


def _mean_metric(
    group: Group, value: float, measured: Mapping[str, Mapping[str, Metric]], tasks: Mapping[str, TaskResult]
) -> Metric:
    """The mean with its interval: half-widths add up as those of independent numbers do."""
    parts = [
        (measured[term.task][term.metric or _headline_name(tasks[term.task])], share)
        for term, share in group.weights().items()
    ]
    halves = [share * (part.ci95[1] - part.ci95[0]) / 2 for part, share in parts if part.ci95 is not None]
    half = math.hypot(*halves)
    ci95 = (max(0.0, value - half), min(1.0, value + half)) if len(halves) == len(parts) else None
    return Metric(value=value, ci95=ci95, n=sum(part.n for part, _ in parts))


def run_id(protocol: Mapping[str, Any]) -> str:
    """16 hex digits that name a protocol: the same command on the same weights is the same run."""
    decisive = {name: value for name, value in protocol.items() if name != "command"}
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
        note(
            f"note: {folder / RESULTS_NAME} held the results of another run ({earlier.protocol['command']}), and this "
            "one's take their place. Its records stay, so that the same command brings it back; --output keeps runs "
            "apart"
        )


def write_asked(folder: Path, asked: Mapping[str, Asked]) -> None:
    """Write which records belong to each task of the run, atomically."""
    data = {task: one.model_dump() for task, one in asked.items()}
    write_atomically(folder / ASKED_NAME, [json.dumps(data) + "\n"])


def read_asked(folder: Path, tasks: Iterable[str]) -> dict[str, Asked]:
    """Which records belong to each of the tasks. Raises ResultsError, also for a run of before that was written."""
    path = folder / ASKED_NAME
    try:
        data = parse_json(read_text(path))
        return {task: Asked.model_validate(data[task]) for task in tasks}
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        raise ResultsError(
            f"{path}, which says what the run asked, cannot be read ({type(error).__name__}): run the evaluation "
            "again, it asks nothing twice"
        ) from error
