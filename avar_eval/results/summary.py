"""A task's judged responses summed up, as results.json holds them: metrics, the benchmark's score, groups' means."""

import math
import re
from collections.abc import Mapping, Sequence

from avar_eval.attention.bands import vas_band
from avar_eval.attention.summary import AttentionSummary
from avar_eval.outcomes import Outcome, Verdict
from avar_eval.results.metrics import VERDICTS, Benchmark, benchmark_metrics, response_metrics
from avar_eval.results.schema import GroupResult, Headline, LeftOut, Metric, TaskResult
from avar_eval.statistics import mean
from avar_eval.tasks.groups import Group, group_mean, groups

_REASONS = 5
"""Reasons for leaving out rows that are given in words."""


def task_result(
    benchmark: Benchmark,
    outcomes: Sequence[Outcome],
    attention: Mapping[str, Metric],
    left_out: LeftOut,
) -> TaskResult:
    """A task's numbers from its judged responses; `attention` is what `attention_means` gives, or nothing."""
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


def attention_means(attention: Sequence[AttentionSummary]) -> dict[str, Metric]:
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
        for verdict in VERDICTS:
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
