"""A task's judged responses summed up, as results.json holds them: metrics, the benchmark's score, groups' means."""

import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from statistics import fmean
from typing import Any, Final, Literal

from avar_eval.attention.bands import Band, vas_band
from avar_eval.attention.summary import AttentionSummary
from avar_eval.outcomes import Outcome, Verdict
from avar_eval.results.metrics import (
    VERDICTS,
    Benchmark,
    benchmark_metrics,
    response_metrics,
    score_by_question,
)
from avar_eval.results.schema import UNKNOWN_METRIC, GroupResult, Headline, LeftOut, Metric, TaskResult
from avar_eval.statistics import (
    Estimate,
    Linear,
    geometric_mean,
    is_heavy,
    mean,
    mean_of_ratios,
    median,
    proportion,
    ratio_of_means,
    top_share,
)
from avar_eval.tasks.groups import group_mean, groups

VasQueries = Literal["turn", "text"]

_MOST_OF_ONE_PERCENT: Final = 0.5
"""Of Eq. 2's sum, that 1 % of its terms may hold before its mean says more of them than of the model."""
_REASONS = 5
"""Reasons for leaving out rows that are given in words."""


def task_result(
    benchmark: Benchmark,
    outcomes: Sequence[Outcome],
    attention: Mapping[str, Metric],
    left_out: LeftOut,
    *,
    band: bool = True,
) -> TaskResult:
    """A task's numbers from its judged responses; `attention` is what `attention_means` gives, or nothing.

    band: whether the paper's bands are of such a model (`has_band`): steering sets the attention that VAS measures.
    """
    metrics = {name: Metric.of(estimate) for name, estimate in response_metrics(benchmark, outcomes).items()}
    own: dict[Verdict, dict[str, Metric]] = {
        verdict: {name: Metric.of(estimate) for name, estimate in estimates.items()}
        for verdict, estimates in benchmark_metrics(benchmark, outcomes).items()
    }
    return TaskResult(
        metrics={"accuracy": metrics["accuracy"], "official": metrics["official"], **attention} | metrics,
        benchmark=own,
        headline=_headline(benchmark.entry.headline, metrics, own),
        vas_band=_band(attention) if band else None,
        left_out=left_out,
    )


def attention_means(
    attention: Sequence[AttentionSummary],
    clusters: Sequence[Hashable] | None = None,
    queries: VasQueries = "turn",
) -> dict[str, Metric]:
    """What a task's measured responses say of where the model looks, each number with its cluster-robust interval.

    - ratio_of_sums, the headline: attention on the image over attention on the system turn, each summed over layers,
      heads, queries and rows, every row's queries weighing as much as another row's. No head, token or row can make it
      explode: it is a ratio of two bounded means, so its interval holds (`ratio_of_means`).
    - vas: the mean of Eq. 2 (arXiv 2603.03825), the paper's number: a mean of ratios, which a few heads or rows can
      make. It has no interval where a few rows do (`mean_of_ratios`). Two marks tell by how much: vas_top_rows, the
      part of its sum that 1 % of the rows hold, and vas_top_terms, the part of a row's that 1 % of its layers, heads
      and queries hold (mean over rows).
    - vas_geometric_mean, vas_median: of Eq. 2 over the rows, whose intervals hold with a heavy tail, too.
    - vas_without_sink: Eq. 2 without position 0, the attention sink, among the system keys.
    - vas_text: Eq. 2 over the words of the user's turn, without its template tokens (`ChatMarkup.prompt_text`); None
      for records of before they were told apart.
    - vas_response: Eq. 2 over the response's tokens.

    clusters: of each response the unit that it has in common with others. queries: over which of a question's tokens
    all but vas_response and vas_text are: the user's whole turn, template tokens among them, as in the paper, or its
    text.
    """
    units: Sequence[Hashable] = range(len(attention)) if clusters is None else clusters
    asked = [(a.user if queries == "turn" else a.text, unit) for a, unit in zip(attention, units, strict=True)]

    def of(
        values: Sequence[tuple[float | None, Hashable]], estimate: Callable[..., Estimate] = mean_of_ratios
    ) -> Estimate:
        known = [(value, unit) for value, unit in values if value is not None]
        return estimate([value for value, _ in known], [unit for _, unit in known])

    vas = [(query.vas if query else None, unit) for query, unit in asked]
    shares = [(query.share_by_layer, unit) for query, unit in asked if query and query.ratio_of_sums is not None]
    estimates = {
        "vas": of(vas),
        "vas_response": of(
            [(a.response.vas if a.response else None, unit) for a, unit in zip(attention, units, strict=True)]
        ),
        "ratio_of_sums": ratio_of_means(
            [fmean(of_row["image"]) for of_row, _ in shares],
            [fmean(of_row["system"]) for of_row, _ in shares],
            [unit for _, unit in shares],
        ),
        "vas_without_sink": of([(query.vas_without_sink if query else None, unit) for query, unit in asked]),
        "vas_text": of([(a.text.vas if a.text else None, unit) for a, unit in zip(attention, units, strict=True)]),
        "vas_geometric_mean": of(vas, geometric_mean),
        "vas_median": of(vas, median),
        "vas_top_rows": top_share([value for value, _ in vas if value is not None]),
        "vas_top_terms": of([(query.top_share if query else None, unit) for query, unit in asked], mean),
    }
    return {name: Metric.of(estimate) for name, estimate in estimates.items()}


def has_band(protocol: Mapping[str, Any]) -> bool:
    """Whether a run's VAS is what the paper's bands are of: a model as it is, over the user's turn. By its card."""
    return protocol.get("steering") is None and vas_queries(protocol) == "turn"


def vas_queries(protocol: Mapping[str, Any]) -> VasQueries:
    """Over which tokens of a question a run's VAS is, by its protocol card."""
    return "text" if (protocol.get("attention") or {}).get("queries") == "text" else "turn"


def _band(attention: Mapping[str, Metric]) -> Band | None:
    """The paper's band of VAS; none where a few rows, layers, heads or queries make the mean."""
    vas, rows, terms = (attention.get(name, UNKNOWN_METRIC) for name in ("vas", "vas_top_rows", "vas_top_terms"))
    if vas.value is None or is_heavy(rows.value, rows.n) or (terms.value or 0) > _MOST_OF_ONE_PERCENT:
        return None
    return vas_band(vas.value)


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


def group_results(
    tasks: Mapping[str, TaskResult], judged: Mapping[str, tuple[Benchmark, Sequence[Outcome]]]
) -> dict[str, GroupResult]:
    """The groups' means, of those groups that have one and all of whose columns were measured by the strict verdict.

    judged: by task, what its numbers are of; a mean with a task that is not there has no interval.
    """
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
            terms = [(term.task, term.metric or _headline_name(tasks[term.task]), share)
                     for term, share in group.weights().items()]  # fmt: skip
            n = sum(measured[task][metric].n for task, metric, _ in terms)
            means[verdict] = Metric(
                value=of_group.mean, ci95=_mean_interval(of_group.mean, n, terms, verdict, judged), n=n
            )
        if "strict" in means:
            found[name] = GroupResult(columns=columns, mean=means)
    return found


def _headline_name(result: TaskResult) -> str:
    return result.headline.name if result.headline else "accuracy"


def _metrics_under(verdict: Verdict, result: TaskResult) -> dict[str, Metric]:
    """A task's own metrics under a verdict, and its headline."""
    headline = result.headline.values.get(verdict) if result.headline else None
    return result.benchmark.get(verdict, {}) | ({_headline_name(result): headline} if headline else {})


def _mean_interval(
    value: float,
    n: int,
    terms: Sequence[tuple[str, str, float]],
    verdict: Verdict,
    judged: Mapping[str, tuple[Benchmark, Sequence[Outcome]]],
) -> tuple[float, float] | None:
    """Of a mean of tasks' metrics, given with their weights: what a question adds to all of them is one sum."""
    parts = []
    for task, metric, weight in terms:
        found = score_by_question(*judged[task], verdict, metric) if task in judged else None
        if found is None:
            return None
        parts.append((weight, *found))
    return proportion(value, Linear.stacked(parts), n, coins=False).ci95
