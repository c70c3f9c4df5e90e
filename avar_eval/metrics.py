"""A task's numbers from its judged responses: each verdict's share, the benchmark's own metrics, several samples.

Light: plain Python on plain data, for a run that has just ended and for responses that are judged again later.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from avar_eval.answers.markup import plain
from avar_eval.outcomes import MISSING, Outcome, Verdict
from avar_eval.stats import Estimate, clustered_proportion, jackknifed_shares, pass_at_k
from avar_eval.tasks.catalog import TaskEntry, hooks_of

OwnMetrics = Callable[[Sequence[Mapping[str, Any]], Sequence[bool]], Mapping[str, float | None]]
"""(rows, whether each was answered right) -> share by name; see `hooks_of`."""


@dataclass(frozen=True)
class Benchmark:
    """A task and its rows by id: what the numbers of its responses depend on."""

    entry: TaskEntry
    rows: Mapping[str, Mapping[str, Any]]

    def cluster(self, row_id: str) -> str:
        """The unit that rows which are not independent have in common; by default the row itself."""
        hook = getattr(hooks_of(self.entry.name), "cluster", None)
        return row_id if hook is None else str(hook(self.rows[row_id]))

    @cached_property
    def own_metrics(self) -> OwnMetrics | None:
        """The benchmark's own metrics, if it has any."""
        hook: OwnMetrics | None = getattr(hooks_of(self.entry.name), "metrics", None)
        return hook


def response_metrics(benchmark: Benchmark, outcomes: Sequence[Outcome]) -> dict[str, Estimate]:
    """Shares of responses (0..1): accuracy (strict), official, truncated, unparsed, timeout; with a judge, its own.

    A verdict's share is of the responses on which there is one. With several samples of a row: `pass@k` and `majority`.
    """
    clusters = [benchmark.cluster(outcome.row_id) for outcome in outcomes]
    answered = [outcome for outcome in outcomes if outcome.state != MISSING]
    clusters_answered = [benchmark.cluster(outcome.row_id) for outcome in answered]

    def share(values: Sequence[bool]) -> Estimate:
        return clustered_proportion(values, clusters_answered)

    metrics = {
        "accuracy": clustered_proportion([outcome.correct for outcome in outcomes], clusters),
        "official": _verdict_share(outcomes, clusters, "official"),
        "truncated": share([outcome.cut or outcome.state == "truncated" for outcome in answered]),
        "unparsed": share([outcome.state == "unparsed" for outcome in answered]),
        "timeout": share([outcome.state == "timeout" for outcome in answered]),
    }
    judged = [outcome for outcome in answered if outcome.judge]
    if judged:
        metrics["judge"] = _verdict_share(outcomes, clusters, "judge")
        metrics["judge_error"] = clustered_proportion(
            [outcome.judge is not None and outcome.judge.state == "judge_error" for outcome in judged],
            [benchmark.cluster(outcome.row_id) for outcome in judged],
        )
    return metrics | _sample_metrics(benchmark, outcomes)


def _verdict_share(outcomes: Sequence[Outcome], clusters: Sequence[str], name: Verdict) -> Estimate:
    known = [
        (verdict, cluster)
        for outcome, cluster in zip(outcomes, clusters, strict=True)
        if (verdict := outcome.verdict(name)) is not None
    ]
    return clustered_proportion([verdict for verdict, _ in known], [cluster for _, cluster in known])


def _sample_metrics(benchmark: Benchmark, outcomes: Sequence[Outcome]) -> dict[str, Estimate]:
    """pass@k for powers of two up to the number of samples and for that number, and majority; none of one sample.

    The number of samples is the smallest that any row has.
    """
    by_row: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        by_row.setdefault(outcome.row_id, []).append(outcome)
    drawn = min(map(len, by_row.values()), default=0)
    if drawn < 2:
        return {}
    clusters = [benchmark.cluster(row_id) for row_id in by_row]
    metrics = {}
    for k in sorted({2**power for power in range(1, drawn.bit_length())} - {1} | {drawn}):
        chances = [pass_at_k(sum(one.correct for one in row), len(row), k) for row in by_row.values()]
        metrics[f"pass@{k}"] = clustered_proportion(chances, clusters)
    metrics["majority"] = clustered_proportion([majority_correct(row) for row in by_row.values()], clusters)
    return metrics


def majority_correct(samples: Sequence[Outcome]) -> bool:
    """Whether the answer that most samples of a row give is right; of equally frequent ones the first drawn.

    Answers are the same if their extracted texts are, apart from case, markup and white space. Samples without an
    answer have no vote; a row without any vote is not right.
    """
    votes: Counter[str] = Counter()
    right: dict[str, bool] = {}
    for outcome in sorted(samples, key=lambda outcome: outcome.sample):
        if outcome.state == "scored" and outcome.extracted is not None:
            answer = plain(outcome.extracted).casefold()
            votes[answer] += 1
            right.setdefault(answer, outcome.correct)
    return bool(votes) and right[votes.most_common(1)[0][0]]


def benchmark_metrics(benchmark: Benchmark, outcomes: Sequence[Outcome]) -> dict[Verdict, dict[str, Estimate]]:
    """The benchmark's own metrics under each verdict that there is; empty if it has none of its own.

    With several samples of a row, the mean over samples. Intervals: `jackknifed_shares` over the benchmark's clusters.
    """
    found: dict[Verdict, dict[str, Estimate]] = {}
    names: tuple[Verdict, ...] = ("strict", "official", "judge")
    for name in names if benchmark.own_metrics else ():
        known = [outcome for outcome in outcomes if outcome.verdict(name) is not None]
        if known:
            found[name] = _own_metrics(benchmark, known, [bool(outcome.verdict(name)) for outcome in known])
    return found


def _own_metrics(benchmark: Benchmark, outcomes: Sequence[Outcome], right: Sequence[bool]) -> dict[str, Estimate]:
    metrics = benchmark.own_metrics
    assert metrics is not None
    rows = [benchmark.rows[outcome.row_id] for outcome in outcomes]
    samples = [outcome.sample for outcome in outcomes]
    several = len(set(samples)) > 1

    def shares(places: Sequence[int], values: Sequence[bool]) -> Mapping[str, float | None]:
        if not several:
            return metrics([rows[place] for place in places], values)
        by_sample: dict[int, tuple[list[Mapping[str, Any]], list[bool]]] = {}
        for place, value in zip(places, values, strict=True):
            chosen = by_sample.setdefault(samples[place], ([], []))
            chosen[0].append(rows[place])
            chosen[1].append(value)
        return _means([metrics(*part) for part in by_sample.values()])

    return jackknifed_shares(shares, right, [benchmark.cluster(outcome.row_id) for outcome in outcomes])


def _means(parts: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """The mean of each name over the parts in which it is known; None if in none."""
    means: dict[str, float | None] = {}
    for name in dict.fromkeys(name for part in parts for name in part):
        known = [value for part in parts if (value := part.get(name)) is not None]
        means[name] = sum(known) / len(known) if known else None
    return means
