"""How often intervals cover the truth and tests reject a null, on data whose truth is known.

    python tests/benchmarks/coverage.py [--cells GLOB] [--sets 2000]

Every cell draws data sets from one law and gives them to the product's own functions. Two processes take some minutes.
A cell holds if it is within 93-97 % (a test: 3-7 %), or from 92 % on where there are fewer than 50 observations or 20
clusters (20 that are worth as much, if they are unequal); where it does not, the line says why. Chance alone moves a
cell of 2,000 data sets by 1 point in 95 %.
"""

import argparse
import csv
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from avar_eval.outcomes import Outcome
from avar_eval.results.metrics import Benchmark, response_metrics
from avar_eval.results.schema import LeftOut
from avar_eval.results.summary import group_results, task_result
from avar_eval.statistics import (
    Linear,
    Pairs,
    clustered_proportion,
    geometric_mean,
    mean,
    mean_of_ratios,
    median,
    paired_test,
    pass_at_k,
    pearson,
    ratio_of_means,
    simultaneous,
)
from avar_eval.tasks.catalog import catalog, task_hooks
from avar_eval.tasks.shares import Shares

Generator = np.random.Generator
Interval = tuple[float, float] | None
Draw = Callable[[Generator], tuple[Interval, float] | bool]
"""One data set: its interval and the truth, or whether a test rejected."""
Bar = Literal["covers", "covers, few", "rejects", "rejects, few", "says"]
"""covers: 93-97 %. covers, few: from 92 %. rejects: 3-7 %. rejects, few: up to 7 %. says: no bar."""

CELLS: dict[str, tuple[Bar, str, Draw]] = {}


def cell(name: str, bar: Bar = "covers", why: str = "") -> Callable[[Draw], Draw]:
    """Register a law; why: what makes it leave the bar, where it is known to."""

    def register(draw: Draw) -> Draw:
        CELLS[name] = bar, why, draw
        return draw

    return register


# Values without an upper bound: VAS


def sizes_of(kind: str, clusters: int) -> list[int]:
    """How many rows a cluster has. hallusion: figures of a set times questions. one: one has as many as all others."""
    if kind == "hallusion":
        return [(4, 6, 8, 9, 10, 12, 15, 16, 18, 20)[number % 10] for number in range(clusters)]
    if kind == "one":
        return [5 * (clusters - 1), *[5] * (clusters - 1)]
    if kind == "unequal":
        return [(1, 2, 3, 5, 8, 10, 14, 20, 30, 45)[number % 10] for number in range(clusters)]
    return [int(kind)] * clusters


def labels(kind: str, clusters: int) -> np.ndarray[Any, Any]:
    """The cluster of each row."""
    return np.repeat(np.arange(clusters), sizes_of(kind, clusters))


HEAVY = {
    "lognormal": (lambda g, shape: np.exp(2 * g.standard_normal(shape)), 1.0, 1.0),
    "Pareto 1.2": (lambda g, shape: g.pareto(1.2, shape) + 1, float(np.exp(1 / 1.2)), float(2 ** (1 / 1.2))),
}
"""Law -> draws, geometric mean, median."""

for law, (draws, true_geometric, true_median) in HEAVY.items():

    @cell(f"VAS {law}, n 200: mean", "says", "no interval of a heavy tail's mean can cover (Bahadur and Savage 1956)")
    def _(g: Generator, draws: Any = draws, law: str = law) -> tuple[Interval, float]:
        return mean(draws(g, 200).tolist()).ci95, {"lognormal": float(np.exp(2)), "Pareto 1.2": 6.0}[law]

    @cell(f"VAS {law}, n 200: geometric mean")
    def _(g: Generator, draws: Any = draws, true: float = true_geometric) -> tuple[Interval, float]:
        return geometric_mean(draws(g, 200).tolist()).ci95, true

    @cell(f"VAS {law}, n 200: median")
    def _(g: Generator, draws: Any = draws, true: float = true_median) -> tuple[Interval, float]:
        return median(draws(g, 200).tolist()).ci95, true

    for name, kind, count in (("HallusionBench", "hallusion", 60), ("DynaMath", "10", 50), ("few", "10", 12)):
        bar: Bar = "covers" if count >= 20 else "covers, few"

        def clustered(g: Generator, kind: str, count: int, law: str) -> tuple[np.ndarray[Any, Any], list[int]]:
            """Rows of a cluster share half of the variance of the logarithm, or half of Pareto's exponential one."""
            label = labels(kind, count)
            if law == "lognormal":
                logs = np.sqrt(2) * (g.standard_normal(count)[label] + g.standard_normal(label.size))
            else:  # a cluster's value is everybody's in half of the rows
                own, shared = (g.exponential(1 / 1.2, size) for size in (label.size, count))
                logs = np.where(g.random(label.size) < 0.5, own, shared[label])
            return np.exp(logs), label.tolist()

        @cell(f"VAS {law}, clusters as {name}: geometric mean", bar)
        def _(g: Generator, kind: str = kind, count: int = count, law: str = law, true: float = true_geometric,
              clustered: Any = clustered) -> tuple[Interval, float]:  # fmt: skip
            values, label = clustered(g, kind, count, law)
            return geometric_mean(values.tolist(), label).ci95, true

        @cell(f"VAS {law}, clusters as {name}: median", bar)
        def _(g: Generator, kind: str = kind, count: int = count, law: str = law, true: float = true_median,
              clustered: Any = clustered) -> tuple[Interval, float]:  # fmt: skip
            values, label = clustered(g, kind, count, law)
            return median(values.tolist(), label).ci95, true


@cache
def _avar_tiny() -> dict[str, np.ndarray[Any, Any]]:
    """Where avar-tiny looked in its 500 responses to shapes, as a run's records have it, by column.

    `avar-eval --model avar-tiny --tasks shapes --attention-samples 500`; image and system: shares of attention, means
    over layers, heads and the question's tokens.
    """
    with Path(__file__).with_name("avar_tiny_attention.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0] if name != "row"}


SELDOM = "3 of the 500 are twice to four times the others: samples that miss them know nothing of them"
FEW_MAKE_IT = "1 % of the responses hold 14 % of the sum: where a run shows it, there is no interval"


def _geometric(of: np.ndarray[Any, Any]) -> float:
    return float(np.exp(np.log(of).mean()))


OF_AVAR_TINY: dict[str, tuple[str, Callable[..., Any], Callable[[Any], Any], Bar, str]] = {
    "VAS, mean": ("vas", mean_of_ratios, np.mean, "covers", SELDOM),
    "VAS, geometric mean": ("vas", geometric_mean, _geometric, "covers", ""),
    "VAS, median": ("vas", median, np.median, "covers", ""),
    "VAS of the response, mean": ("vas_response", mean_of_ratios, np.mean, "says", FEW_MAKE_IT),
    "VAS of the response, geometric mean": ("vas_response", geometric_mean, _geometric, "covers", ""),
    "VAS of the response, median": ("vas_response", median, np.median, "covers", ""),
}
for name, (column, estimate, truth, bar, why) in OF_AVAR_TINY.items():

    @cell(f"avar-tiny itself, 200 of its 500 responses: {name}", bar, why)
    def _(g: Generator, column: str = column, estimate: Any = estimate, truth: Any = truth) -> tuple[Interval, float]:
        """The 500 stand for all questions there are: drawn with replacement."""
        values = _avar_tiny()[column]
        return estimate(g.choice(values, 200).tolist()).ci95, float(truth(values))


@cell("avar-tiny itself, 200 of its 500 responses: ratio of sums")
def _(g: Generator) -> tuple[Interval, float]:
    image, system = (_avar_tiny()[name] for name in ("image", "system"))
    drawn = g.integers(0, 500, 200)
    return ratio_of_means(image[drawn].tolist(), system[drawn].tolist()).ci95, float(image.mean() / system.mean())


@cell("ratio of sums, rows' ratios Pareto 1.2, n 200")
def _(g: Generator) -> tuple[Interval, float]:
    """Shares of attention that are bounded though their ratio is not: system = 1 / (1 + ratio)."""
    ratio = g.pareto(1.2, 200)
    return ratio_of_means((ratio / (1 + ratio)).tolist(), (1 / (1 + ratio)).tolist()).ci95, _pareto_ratio()


@cache
def _pareto_ratio() -> float:
    ratio = np.random.default_rng(99).pareto(1.2, 20_000_000)
    return float((ratio / (1 + ratio)).mean() / (1 / (1 + ratio)).mean())


@cell("ratio of sums, clusters as HallusionBench")
def _(g: Generator) -> tuple[Interval, float]:
    label = labels("hallusion", 60)
    system = 0.2 + 0.6 * g.beta(2, 2, label.size)
    return ratio_of_means(
        (system * np.exp(0.5 * g.standard_normal(60)[label])).tolist(), system.tolist(), label.tolist()
    ).ci95, float(np.exp(0.125))


# Shares


def coins(g: Generator, share: float, correlation: float, label: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Beta-binomial: the same share in the long run, correlated within clusters."""
    count = int(label.max()) + 1
    if correlation == 0:
        return g.random(label.size) < share
    scale = 1 / correlation - 1
    return g.random(label.size) < g.beta(share * scale, (1 - share) * scale, count)[label]


for n in (50, 100, 900):
    for share in (0.5, 0.9):

        @cell(f"share {share}, {n} questions", "covers", "counts come in steps: Wilson's own 97.0 % at 45 of 50")
        def _(g: Generator, n: int = n, share: float = share) -> tuple[Interval, float]:
            return clustered_proportion((g.random(n) < share).tolist(), range(n)).ci95, share


NEAR_0 = "few right or wrong answers say little of the clusters, which may answer as one: the far end stays cautious"

for count, kind in [(3, "10"), (5, "10"), (5, "unequal"), (8, "unequal"), (8, "one"), (12, "10"), (12, "one"),
                    (20, "10"), (20, "unequal"), (20, "one"), (50, "unequal"), (501, "10")]:  # fmt: skip
    for share in (0.5, 0.85):
        sizes = np.array(sizes_of(kind, count))
        enough = sizes.sum() ** 2 / (sizes**2).sum() >= 20  # Kish's: half of all rows in one are worth four clusters

        @cell(f"share {share}, {count} clusters of {kind}", "covers" if enough else "covers, few", NEAR_0)
        def _(g: Generator, count: int = count, kind: str = kind, share: float = share) -> tuple[Interval, float]:
            label = labels(kind, count)
            return clustered_proportion(coins(g, share, 0.3, label).tolist(), label.tolist()).ci95, share


for share in (0.002, 0.005, 0.02):
    for correlation in (0.0, 0.05, 0.3):

        @cell(f"share {share}, 5,010 in 501 clusters, correlation {correlation}", "covers", NEAR_0)
        def _(g: Generator, share: float = share, correlation: float = correlation) -> tuple[Interval, float]:
            label = labels("10", 501)
            return clustered_proportion(coins(g, share, correlation, label).tolist(), label.tolist()).ci95, share


@cell("MMMU: 30 subjects of 30, always asked")
def _(g: Generator) -> tuple[Interval, float]:
    rows = _mmmu_rows()
    shares = np.linspace(0.25, 0.9, 30)
    right = g.random(900) < np.repeat(shares, 30)
    outcomes = [Outcome(row, 0, "scored", "", bool(one), bool(one)) for row, one in zip(rows, right, strict=True)]
    return response_metrics(Benchmark(catalog()["mmmu"], rows), outcomes)["accuracy"].ci95, float(shares.mean())


@cache
def _mmmu_rows() -> dict[str, dict[str, Any]]:
    subjects = [f"Subject_{number}" for number in range(30)]
    names = [f"validation_{subject}_{number}" for subject in subjects for number in range(30)]
    return {name: {"id": name, "options": "['1', '2']"} for name in names}


for k in (1, 2, 3, 4):

    @cell(f"pass@{k} of 4 samples, 200 questions")
    def _(g: Generator, k: int = k) -> tuple[Interval, float]:
        chance = g.beta(1, 1, 200)
        right = g.binomial(4, chance)
        values = [pass_at_k(int(one), 4, k) for one in right]
        return clustered_proportion(values, range(200)).ci95, 1 - 1 / (k + 1)


# Benchmarks' own scores


@cache
def _hallusion() -> tuple[list[dict[str, Any]], Shares]:
    """60 sets of 2 to 5 figures, of each of which the same 1 to 4 questions are asked."""
    rows = [
        {
            "category": "VD",
            "subcategory": "chart",
            "set_id": str(of_set),
            "figure_id": str(figure),
            "question_id": str(one),
        }
        for of_set in range(60)
        for figure in range(2 + of_set % 4)
        for one in range(1 + of_set % 3 + (of_set % 5 == 0))
    ]
    hooks = task_hooks("hallusion")
    return rows, Shares([(hooks.parts(rows), [hooks.cluster(row) for row in rows])])


def hallusion(g: Generator) -> tuple[Any, list[dict[str, Any]]]:
    """Answers that go up and down with the set, the figure and the question."""
    rows, _ = _hallusion()
    effects: dict[Any, float] = {}

    def effect(*key: str) -> float:
        return effects.setdefault(key, float(g.standard_normal()))

    logits = [
        0.8 + 0.7 * effect(row["set_id"]) + 0.5 * effect(row["set_id"], "f", row["figure_id"])
        + 0.5 * effect(row["set_id"], "q", row["question_id"])
        for row in rows
    ]  # fmt: skip
    return (g.random(len(rows)) < 1 / (1 + np.exp(-np.array(logits)))).astype(float), rows


@cache
def _hallusion_truth() -> dict[str, float]:
    g = np.random.default_rng(77)
    _, shares = _hallusion()
    found = [shares.shares([hallusion(g)[0].tolist()]) for _ in range(3000)]
    return {name: float(np.mean([one[name].value for one in found])) for name in ("aAcc", "fAcc", "qAcc", "mean")}


for name in ("aAcc", "fAcc", "qAcc", "mean"):

    @cell(f"HallusionBench by set: {name}", "covers", "an effective size above the number of units is not believed")
    def _(g: Generator, name: str = name) -> tuple[Interval, float]:
        right, _ = hallusion(g)
        return _hallusion()[1].estimates([right.tolist()])[name].ci95, _hallusion_truth()[name]


@cache
def _dynamath() -> Shares:
    rows = [
        {"id": str(number // 10), "variant": number % 10 + 1, "subject": "algebra", "knowledge_level": "high school"}
        for number in range(1000)
    ]
    hooks = task_hooks("dynamath")
    return Shares([(hooks.parts(rows), [hooks.cluster(row) for row in rows])])


for name, true in (("average", 0.6), ("worst", 0.0)):

    @cell(f"DynaMath, 100 questions of 10 variants: {name}")
    def _(g: Generator, name: str = name, true: float = true) -> tuple[Interval, float]:
        chance = np.where(g.random(100) < 0.4, 0.97, (0.6 - 0.4 * 0.97) / 0.6)
        right = g.random(1000) < np.repeat(chance, 10)
        worst = 0.4 * 0.97**10 + 0.6 * ((0.6 - 0.4 * 0.97) / 0.6) ** 10
        return _dynamath().estimates([right.astype(float).tolist()])[name].ci95, true or worst


@cell("MMStar: mean of six categories of 50")
def _(g: Generator) -> tuple[Interval, float]:
    shares = np.array([0.3, 0.4, 0.5, 0.6, 0.7, 0.85])
    right = g.random(300) < np.repeat(shares, 50)
    return _mmstar().estimates([right.astype(float).tolist()])["mean"].ci95, float(shares.mean())


@cache
def _mmstar() -> Shares:
    from avar_eval.tasks.mmstar.task import CATEGORIES

    rows = [{"category": name} for name in CATEGORIES for _ in range(50)]
    return Shares([(task_hooks("mmstar").parts(rows), range(300))])


@cell("mean of MMMU-Pro's settings on the same questions")
def _(g: Generator) -> tuple[Interval, float]:
    rows = dict(list(_mmmu_rows().items())[:200])
    ability = g.standard_normal(200)
    results, judged = {}, {}
    for task in ("mmmu_pro_standard10", "mmmu_pro_vision"):
        benchmark = Benchmark(catalog()[task], rows)
        right = g.random(200) < 1 / (1 + np.exp(-2 * ability))
        outcomes = [Outcome(row, 0, "scored", "", bool(one), None) for row, one in zip(rows, right, strict=True)]
        results[task] = task_result(benchmark, outcomes, {}, LeftOut())
        judged[task] = benchmark, outcomes
    return group_results(results, judged)["mmmu_pro"].mean["strict"].ci95, 0.5


AVAR7 = {
    "mathvista": ({"metadata": {"task": "VQA", "skills": ["arithmetic"]}}, 200, 0.8),
    "mathvision": ({"subject": "algebra", "level": 1}, 300, -1.0),
    "mathverse_vo": ({"metadata": {"subject": "plane", "subfield": "area"}}, 150, 0.0),
}
"""Task of the paper's mean whose questions are its own -> a row's columns, how many there are, how easy they are."""
_EFFECTS = np.linspace(-1.5, 1.5, 30)
"""How easy a subject's questions are."""


@cache
def _avar7() -> tuple[dict[str, Benchmark], dict[str, Any], dict[str, Any]]:
    """The tasks of the mean, and of each row the number of its question and how easy it is.

    A fifth of the published sizes; 116 of MMMU's 180 questions are among the 346 that MMMU-Pro asks in two settings.
    """
    from avar_eval.tasks.mmstar.task import CATEGORIES

    rows: dict[str, dict[str, dict[str, Any]]] = {
        task: {str(number): {**row, "problem_index": str(number)} for number in range(count)}
        for task, (row, count, _) in AVAR7.items()
    }
    ids = [f"validation_Subject_{number % 30}_{number}" for number in range(410)]
    rows["mmmu"] = {of: {"id": of, "options": "['1', '2']"} for of in ids[:180]}
    for task in ("mmmu_pro_standard10", "mmmu_pro_vision"):
        rows[task] = {of: {"id": of, "options": "['1', '2']"} for of in ids[64:]}
    rows["mmstar"] = {str(number): {"category": CATEGORIES[number % 6]} for number in range(240)}
    rows["hallusion_image"] = {str(number): row for number, row in enumerate(_hallusion()[0])}
    numbers: dict[str, int] = {}
    question, easy = {}, {}
    for task, of_task in rows.items():
        own = task not in ("mmmu", "mmmu_pro_standard10", "mmmu_pro_vision")
        keys = [f"{task} {row}" if own else row for row in of_task]
        question[task] = np.array([numbers.setdefault(key, len(numbers)) for key in keys])
        shift = AVAR7[task][2] if task in AVAR7 else 0.3 if own else -0.3
        of_group = _EFFECTS if not own else np.linspace(-1, 1, 6) if task == "mmstar" else np.zeros(1)
        easy[task] = shift + of_group[[int(row.split("_")[2]) if not own else int(row) for row in of_task] % np.int64(
            len(of_group))]  # fmt: skip
    return {task: Benchmark(catalog()[task], of) for task, of in rows.items()}, question, easy


@cache
def _avar7_truth() -> float:
    """Expected shares of a logit that is normal about how easy a question is, by Gauss and Hermite."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    _, _, easy = _avar7()
    means = {task: float((weights / weights.sum() @ (1 / (1 + np.exp(-(of + 1.5 * nodes[:, None]))))).mean())
             for task, of in easy.items()}  # fmt: skip
    pro = (means["mmmu_pro_standard10"] + means["mmmu_pro_vision"]) / 2
    of_tasks = [means[task] for task in (*AVAR7, "mmmu", "mmstar")]
    return float(np.mean([*of_tasks, pro, _hallusion_truth()["mean"]]))


@cell("mean of the paper's seven, some questions in three tasks")
def _(g: Generator) -> tuple[Interval, float]:
    benchmarks, question, easy = _avar7()
    ability = 1.5 * g.standard_normal(1 + max(int(of.max()) for of in question.values()))
    results, judged = {}, {}
    for task, benchmark in benchmarks.items():
        if task == "hallusion_image":
            right = hallusion(g)[0] == 1
        else:
            right = g.random(len(question[task])) < 1 / (1 + np.exp(-(easy[task] + ability[question[task]])))
        verdicts = zip(benchmark.rows, right.tolist(), strict=True)
        outcomes = [Outcome(row, 0, "scored", "", one, one) for row, one in verdicts]
        results[task] = task_result(benchmark, outcomes, {}, LeftOut())
        judged[task] = benchmark, outcomes
    return group_results(results, judged)["avar7"].mean["strict"].ci95, _avar7_truth()


# Tests and differences


def pair(
    g: Generator, n: int, discordant: float, difference: float
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Verdicts of two models on n rows."""
    kind = g.choice(4, n, p=[(discordant + difference) / 2, (discordant - difference) / 2, 0.6 * (1 - discordant),
                             0.4 * (1 - discordant)])  # fmt: skip
    return np.isin(kind, (1, 2)), np.isin(kind, (0, 2))


FEW = "so few rows change that p comes in steps: the mid-p test keeps below its level"

for n, discordant in ((50, 0.2), (100, 0.1), (100, 0.3), (1000, 0.2)):

    @cell(f"McNemar mid-p, {n} rows, {discordant:.0%} discordant", "rejects", FEW if n * discordant < 20 else "")
    def _(g: Generator, n: int = n, discordant: float = discordant) -> bool:
        p = paired_test(*pair(g, n, discordant, 0.0)).p
        return p is not None and p < 0.05

    @cell(f"difference of {n} rows, {discordant:.0%} discordant, none")
    def _(g: Generator, n: int = n, discordant: float = discordant) -> tuple[Interval, float]:
        return paired_test(*pair(g, n, discordant, 0.0)).difference.ci95, 0.0

    @cell(f"difference of {n} rows, {discordant:.0%} discordant, half of them net")
    def _(g: Generator, n: int = n, discordant: float = discordant) -> tuple[Interval, float]:
        return paired_test(*pair(g, n, discordant, discordant / 2)).difference.ci95, discordant / 2


def clustered_pair(g: Generator, kind: str, count: int, difference: float) -> tuple[Any, Any, list[int]]:
    """Two models whose difference goes up and down with the cluster."""
    label = labels(kind, count)
    base, shift = 0.8 * g.standard_normal(count), 0.8 * g.standard_normal(count)
    a = g.random(label.size) < 1 / (1 + np.exp(-base[label]))
    b = (
        g.random(label.size) < 1 / (1 + np.exp(-(base + shift)[label]))
        if difference == 0
        else g.random(label.size) < 0.65
    )
    return a, b, label.tolist()


for count, kind in ((8, "10"), (20, "10"), (20, "unequal"), (60, "hallusion")):

    @cell(f"permutation by cluster, {count} clusters of {kind}", "rejects" if count >= 20 else "rejects, few")
    def _(g: Generator, kind: str = kind, count: int = count) -> bool:
        label = labels(kind, count)
        shift = 0.8 * g.standard_normal(count)  # of either sign alike: the models may be exchanged
        sides = [g.random(label.size) < 1 / (1 + np.exp(-sign * shift[label] / 2)) for sign in (-1, 1)]
        p = paired_test(sides[0], sides[1], label.tolist()).p
        return p is not None and p < 0.05

    @cell(f"difference by cluster, {count} clusters of {kind}", "covers" if count >= 20 else "covers, few")
    def _(g: Generator, kind: str = kind, count: int = count) -> tuple[Interval, float]:
        a, b, label = clustered_pair(g, kind, count, 0.15)
        return paired_test(a, b, label).difference.ci95, 0.15


def stratified_pair(g: Generator, each: int, difference: float) -> tuple[Any, Any, list[int]]:
    """Two models on 30 subjects of so many questions; each is better in half of them."""
    strata = np.repeat(np.arange(30), each)
    gained = np.where(strata % 2, 0.18, 0.02) + difference / 2
    lost = np.where(strata % 2, 0.02, 0.18) - difference / 2
    drawn = g.random(strata.size)
    return drawn < lost, drawn >= 1 - gained, strata.tolist()


for each in (30, 4):

    @cell(f"difference within 30 subjects of {each}, none", "rejects")
    def _(g: Generator, each: int = each) -> bool:
        a, b, strata = stratified_pair(g, each, 0.0)
        p = paired_test(a, b, range(len(strata)), strata).p
        return p is not None and p < 0.05

    @cell(f"difference within 30 subjects of {each}, 4 points")
    def _(g: Generator, each: int = each) -> tuple[Interval, float]:
        a, b, strata = stratified_pair(g, each, 0.04)
        return paired_test(a, b, range(len(strata)), strata).difference.ci95, 0.04


@cell("sweep: any of 16 points without effect beside 0", "rejects", "points of the same rows go together")
def _(g: Generator) -> bool:
    plain = g.random((200, 1)) < 0.6
    steered = np.where(g.random((200, 16)) < 0.2, g.random((200, 16)) < 0.6, plain).astype(float)
    points = [Linear.mean(one - plain[:, 0], np.arange(200)) for one in steered.T]
    return any(abs(one.value) > half for one, (_, half) in zip(points, simultaneous(points), strict=True))


@cell("sweep: all of 16 intervals, pictures of 10 rows")
def _(g: Generator) -> tuple[Interval, float]:
    label = labels("10", 40)
    shift = 0.1 * g.standard_normal(40)[label]
    points = [Linear.mean(shift + 0.5 * g.standard_normal(400), label) for _ in range(16)]
    worst = max(abs(one.value) / half for one, (_, half) in zip(points, simultaneous(points), strict=True))
    return (-1.0, 1.0), worst


# Correlation over models: members of a family are alike in both measures, which have nothing to do with each other
ALIKE = "few families: t of few degrees keeps below the level"

for sizes, why in (
    ((1,) * 10, ""),
    ((1,) * 20, ""),
    ((6, 3, 2, 1, 1, 1, 1, 1), ""),
    ((4, 3, 3), ALIKE),
    ((7, 1, 1, 1), ALIKE),
):

    @cell(f"correlation over {sum(sizes)} models in {len(sizes)} families", "rejects", why)
    def _(g: Generator, sizes: tuple[int, ...] = sizes) -> bool:
        family = np.repeat(np.arange(len(sizes)), sizes)
        x, y = (0.9 * g.standard_normal(len(sizes))[family] + 0.4 * g.standard_normal(family.size) for _ in "xy")
        p = pearson(Pairs.of(x.tolist(), y.tolist(), family.tolist())).p
        return p is not None and p < 0.05

    @cell(f"correlation 0.6 over {sum(sizes)} models in {len(sizes)} families", "covers, few", why)
    def _(g: Generator, sizes: tuple[int, ...] = sizes) -> tuple[Interval, float]:
        family = np.repeat(np.arange(len(sizes)), sizes)
        x, z = (0.9 * g.standard_normal(len(sizes))[family] + 0.4 * g.standard_normal(family.size) for _ in "xy")
        return pearson(Pairs.of(x.tolist(), (0.6 * x + 0.8 * z).tolist(), family.tolist())).ci95, 0.6


@cell("correlation over 12 trainings of 10 checkpoints that drift", "rejects")
def _(g: Generator) -> bool:
    x, y = (g.standard_normal((12, 1)) * np.arange(10) + 0.3 * g.standard_normal((12, 10)) for _ in "xy")
    p = pearson(Pairs.of(x.ravel().tolist(), y.ravel().tolist(), np.repeat(np.arange(12), 10).tolist())).p
    return p is not None and p < 0.05


@dataclass(frozen=True)
class Found:
    """A cell's outcome. share: of data sets, 0..1. width: median of the intervals'. without: sets with no interval."""

    name: str
    share: float
    width: float | None
    without: int


def run(name: str, sets: int) -> Found:
    """One cell, from a seed of its own."""
    draw = CELLS[name][2]
    generator = np.random.default_rng([*name.encode()])
    hits, widths, without = 0, [], 0
    for _ in range(sets):
        drawn = draw(generator)
        if isinstance(drawn, bool):
            hits += drawn
            continue
        interval, truth = drawn
        if interval is None:
            without += 1
            continue
        hits += interval[0] <= truth <= interval[1]
        widths.append(interval[1] - interval[0])
    return Found(name, hits / max(1, sets - without), float(np.median(widths)) if widths else None, without)


def holds(found: Found) -> bool:
    """Whether a cell is within its bar."""
    bar = CELLS[found.name][0]
    low, high = {
        "covers": (0.93, 0.97),
        "covers, few": (0.92, 1.0),
        "rejects": (0.03, 0.07),
        "rejects, few": (0.0, 0.07),
        "says": (0.0, 1.0),
    }[bar]
    return low <= round(found.share, 3) <= high


def main() -> None:
    """Print a line a cell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", default="*", help="names of cells, with * and ?")
    parser.add_argument("--sets", type=int, default=2000, help="data sets a cell")
    arguments = parser.parse_args()
    chosen = [name for name in CELLS if fnmatch(name, arguments.cells)]
    if not chosen:
        sys.exit(f"no cell is named {arguments.cells}; there are: {'; '.join(CELLS)}")
    out = 0
    with ProcessPoolExecutor(2) as pool:
        for found in pool.map(run, chosen, [arguments.sets] * len(chosen)):
            bar, why, _ = CELLS[found.name]
            wanted = {"covers": "93-97", "covers, few": "92-", "rejects": "3-7", "rejects, few": "-7", "says": "none"}[
                bar
            ]
            held = "holds" if holds(found) else "DOES NOT HOLD"
            out += not holds(found)
            width = "" if found.width is None else f"width {found.width:.3g}"
            reason = f"  {why}" if why and (not holds(found) or bar == "says") else ""
            few = f"  ({found.without} sets without interval)" if found.without else ""
            print(
                f"{100 * found.share:5.1f} %  bar {wanted:5}  {held:13}  {found.name:62} {width}{few}{reason}",
                flush=True,
            )
    print(f"{len(chosen) - out} of {len(chosen)} cells hold, {arguments.sets} data sets each")


if __name__ == "__main__":
    main()
