"""A task's numbers from its judged responses: each verdict's share, the benchmark's own metrics, several samples.

Light: plain Python on plain data, for a run that has just ended and for responses that are judged again later.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from typing import Any, Final

from avar_eval.answers.markup import plain
from avar_eval.outcomes import MISSING, Outcome, Verdict
from avar_eval.statistics import Estimate, clustered_proportion, pass_at_k
from avar_eval.tasks.catalog import TaskEntry, task_hooks
from avar_eval.tasks.shares import Parts, Shares

VERDICTS: Final[tuple[Verdict, ...]] = ("strict", "official", "judge")


@dataclass(frozen=True)
class Benchmark:
    """A task and its rows by id: what the numbers of its responses depend on."""

    entry: TaskEntry
    rows: Mapping[str, Mapping[str, Any]]

    @cached_property
    def cluster(self) -> Callable[[str], str]:
        """The unit that rows which are not independent have in common, by a row's id; by default the row itself."""
        hook = getattr(task_hooks(self.entry.name), "cluster", None)
        return cache(lambda row_id: row_id if hook is None else str(hook(self.rows[row_id])))

    @cached_property
    def shares(self) -> Callable[[tuple[tuple[str, ...], ...]], Shares]:
        """The benchmark's own shares of responses to these rows, given as the rows of each sample.

        Those of the last few are kept: many models answer the same rows, and each verdict may be on others.
        """
        parts: Callable[[Sequence[Mapping[str, Any]]], Parts] = task_hooks(self.entry.name).parts
        return lru_cache(len(VERDICTS))(
            lambda asked: Shares(
                [(parts([self.rows[row_id] for row_id in of]), [self.cluster(row_id) for row_id in of]) for of in asked]
            )
        )

    def official_chance(self, outcome: Outcome) -> float | None:
        """The published rule's verdict, 1 or 0; how probably it is right where it guesses; None where it has none."""
        if outcome.official is not None or outcome.state == MISSING:
            return None if outcome.official is None else float(outcome.official)
        return self.guess_chance(outcome.row_id)

    def guess_chance(self, row_id: str) -> float | None:
        """How probably the published rule is right on a row where it guesses; None where it does not."""
        hook = getattr(task_hooks(self.entry.name), "guess_chance", None)
        return None if hook is None else hook(self.rows[row_id])


def response_metrics(benchmark: Benchmark, outcomes: Sequence[Outcome]) -> dict[str, Estimate]:
    """Shares of responses (0..1): accuracy (strict), official, truncated, unparsed, timeout; with a judge, its own.

    A verdict's share is of the responses on which there is one. Where the published rule guesses among k options, its
    verdict is worth 1/k, what the guess is worth on average: `official_guessed` is the share of such responses. With
    several samples of a row: `pass@k` and `majority`.
    """
    clusters = [benchmark.cluster(outcome.row_id) for outcome in outcomes]
    answered = [outcome for outcome in outcomes if outcome.state != MISSING]
    clusters_answered = [benchmark.cluster(outcome.row_id) for outcome in answered]

    def share(values: Sequence[bool]) -> Estimate:
        return clustered_proportion(values, clusters_answered)

    metrics = {
        "accuracy": clustered_proportion([outcome.correct for outcome in outcomes], clusters),
        "official": _share_without_missing([benchmark.official_chance(outcome) for outcome in outcomes], clusters),
        "truncated": share([outcome.cut or outcome.state == "truncated" for outcome in answered]),
        "unparsed": share([outcome.state == "unparsed" for outcome in answered]),
        "timeout": share([outcome.state == "timeout" for outcome in answered]),
    }
    if hasattr(task_hooks(benchmark.entry.name), "guess_chance"):
        guessed = [outcome.official is None and benchmark.official_chance(outcome) is not None for outcome in answered]
        metrics["official_guessed"] = share(guessed)
    judged = [outcome for outcome in answered if outcome.judge]
    if judged:
        metrics["judge"] = _share_without_missing([outcome.verdict("judge") for outcome in outcomes], clusters)
        metrics["judge_error"] = clustered_proportion(
            [outcome.judge is not None and outcome.judge.state == "judge_error" for outcome in judged],
            [benchmark.cluster(outcome.row_id) for outcome in judged],
        )
    return metrics | _sample_metrics(benchmark, outcomes)


def _share_without_missing(values: Sequence[float | None], clusters: Sequence[str]) -> Estimate:
    """The share of the values that are known."""
    known = [(value, cluster) for value, cluster in zip(values, clusters, strict=True) if value is not None]
    return clustered_proportion([value for value, _ in known], [cluster for _, cluster in known])


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

    With several samples of a row, the mean over samples. Intervals: `Shares.estimates` over the benchmark's clusters.
    """
    found: dict[Verdict, dict[str, Estimate]] = {}
    for name in VERDICTS if hasattr(task_hooks(benchmark.entry.name), "parts") else ():
        samples: dict[int, dict[str, float]] = {}
        for outcome in outcomes:
            right = benchmark.official_chance(outcome) if name == "official" else outcome.verdict(name)
            if right is not None:
                samples.setdefault(outcome.sample, {})[outcome.row_id] = right
        if samples:
            shares = benchmark.shares(tuple(map(tuple, samples.values())))
            found[name] = shares.estimates([list(of.values()) for of in samples.values()])
    return found
