"""A task's numbers from its judged responses: each verdict's share, the benchmark's own metrics, several samples.

Light: plain Python on plain data, for a run that has just ended and for responses that are judged again later.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from typing import Any, Final

import numpy as np

from avar_eval.answers.markup import plain
from avar_eval.outcomes import MISSING, Outcome, Verdict
from avar_eval.statistics import Estimate, Linear, cluster_codes, clustered_proportion, pass_at_k
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
    def stratum(self) -> Callable[[str], str] | None:
        """The group of rows, all of which are always asked, that a row is in, by its id; None if there are none."""
        hook = getattr(task_hooks(self.entry.name), "stratum", None)
        return None if hook is None else cache(lambda row_id: str(hook(self.rows[row_id])))

    @cached_property
    def question(self) -> Callable[[str], str]:
        """What a row has in common with rows of other tasks, by its id; by default its cluster in this one."""
        hook = getattr(task_hooks(self.entry.name), "question", None)
        if hook is None:
            return cache(lambda row_id: f"{self.entry.name}: {self.cluster(row_id)}")
        return cache(lambda row_id: str(hook(self.rows[row_id])))

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

    @cached_property
    def guess_chance(self) -> Callable[[str], float | None]:
        """How probably the published rule is right on a row where it guesses, by its id; None where it does not."""
        hook = getattr(task_hooks(self.entry.name), "guess_chance", None)
        return cache(lambda row_id: None if hook is None else hook(self.rows[row_id]))


def response_metrics(benchmark: Benchmark, outcomes: Sequence[Outcome]) -> dict[str, Estimate]:
    """Shares of responses (0..1): accuracy (strict), official, truncated, unparsed, timeout; with a judge, its own.

    A verdict's share is of the responses on which there is one. Where the published rule guesses among k options, its
    verdict is worth 1/k, what the guess is worth on average: `official_guessed` is the share of such responses. With
    several samples of a row: `pass@k` and `majority`.
    """
    answered = [outcome for outcome in outcomes if outcome.state != MISSING]

    def share(of: Callable[[Outcome], float | None], among: Sequence[Outcome] = answered) -> Estimate:
        return _share(benchmark, [(outcome.row_id, of(outcome)) for outcome in among])

    metrics = {
        "accuracy": share(lambda outcome: outcome.correct, outcomes),
        "official": share(benchmark.official_chance, outcomes),
        "truncated": share(lambda outcome: outcome.cut or outcome.state == "truncated"),
        "unparsed": share(lambda outcome: outcome.state == "unparsed"),
        "timeout": share(lambda outcome: outcome.state == "timeout"),
    }
    if hasattr(task_hooks(benchmark.entry.name), "guess_chance"):
        metrics["official_guessed"] = share(
            lambda outcome: outcome.official is None and benchmark.official_chance(outcome) is not None
        )
    judged = [outcome for outcome in answered if outcome.judge]
    if judged:
        metrics["judge"] = share(lambda outcome: outcome.verdict("judge"), outcomes)
        metrics["judge_error"] = share(
            lambda outcome: outcome.judge is not None and outcome.judge.state == "judge_error", judged
        )
    return metrics | _sample_metrics(benchmark, outcomes)


def _share(benchmark: Benchmark, values: Sequence[tuple[str, float | None]]) -> Estimate:
    """The share of the values that are known, each with its row's id."""
    known = [(row_id, value) for row_id, value in values if value is not None]
    return clustered_proportion(
        [value for _, value in known],
        [benchmark.cluster(row_id) for row_id, _ in known],
        None if benchmark.stratum is None else [benchmark.stratum(row_id) for row_id, _ in known],
    )


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
    metrics = {}
    for k in sorted({2**power for power in range(1, drawn.bit_length())} - {1} | {drawn}):
        chances = [pass_at_k(sum(one.correct for one in row), len(row), k) for row in by_row.values()]
        metrics[f"pass@{k}"] = _share(benchmark, list(zip(by_row, chances, strict=True)))
    metrics["majority"] = _share(benchmark, [(row_id, majority_correct(row)) for row_id, row in by_row.items()])
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
        if samples := _by_sample(benchmark, outcomes, name):
            shares = benchmark.shares(tuple(map(tuple, samples)))
            found[name] = shares.estimates([list(of.values()) for of in samples])
    return found


def _by_sample(benchmark: Benchmark, outcomes: Sequence[Outcome], name: Verdict) -> list[dict[str, float]]:
    """Of each sample the rows on which there is that verdict, and how right they are."""
    samples: dict[int, dict[str, float]] = {}
    for outcome in outcomes:
        right = verdict_value(benchmark, outcome, name)
        if right is not None:
            samples.setdefault(outcome.sample, {})[outcome.row_id] = right
    return list(samples.values())


def verdict_value(benchmark: Benchmark, outcome: Outcome, name: Verdict) -> float | None:
    """How right a response is by a verdict: 1 or 0, a guess of the published rule 1/k; None where that is unknown."""
    return benchmark.official_chance(outcome) if name == "official" else outcome.verdict(name)


def score_by_question(
    benchmark: Benchmark, outcomes: Sequence[Outcome], name: Verdict, metric: str
) -> tuple[Linear, list[str]] | None:
    """A metric under a verdict as a sum over questions, which rows of several tasks may share, and those questions.

    metric: "accuracy", the verdict's share, or one of the benchmark's own. None where it is unknown.
    """
    samples = _by_sample(benchmark, outcomes, name)
    if metric != "accuracy":
        if not samples or not hasattr(task_hooks(benchmark.entry.name), "parts"):
            return None
        shares = benchmark.shares(tuple(map(tuple, samples)))
        found = shares.shares([list(of.values()) for of in samples]).get(metric)
        if found is None or found.linear is None:
            return None
        question = {benchmark.cluster(row_id): benchmark.question(row_id) for of in samples for row_id in of}
        return found.linear, [question[str(cluster)] for cluster in shares.keys]
    known = [(row_id, right) for of in samples for row_id, right in of.items()]
    if not known:
        return None
    values = np.array([right for _, right in known])
    questions = [benchmark.question(row_id) for row_id, _ in known]
    codes = cluster_codes(questions, len(questions))
    keys = list(dict.fromkeys(questions))
    if benchmark.stratum is None:
        return Linear.mean(values, codes), keys
    strata = [benchmark.stratum(row_id) for row_id, _ in known]
    return Linear.stratified_mean(values, codes, cluster_codes(strata, len(strata))), keys
