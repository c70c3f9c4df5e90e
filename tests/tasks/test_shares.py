"""A benchmark's own shares: values, numbers and errors against the jackknife written out response by response."""

import random
import time
from collections.abc import Callable, Hashable, Sequence
from math import sqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import bootstrap, t
from statsmodels.stats.proportion import proportion_confint

from avar_eval.statistics import Estimate
from avar_eval.statistics.proportions import wilson
from avar_eval.tasks.shares import MeanOf, Parts, Shares, Units, by_category, share_values

Row = tuple[str, str, str]
"""question, figure (the cluster), category"""


def share_estimates(samples: Sequence[tuple[Parts, Sequence[float], Sequence[Hashable]]]) -> dict[str, Estimate]:
    shares = Shares([(parts, clusters) for parts, _, clusters in samples])
    return shares.estimates([right for _, right, _ in samples])


def parts_of(rows: Sequence[Row]) -> Parts:
    every = range(len(rows))
    named = by_category([[category] for _, _, category in rows], "in ")
    found = {"all": Units.of(every), "figures": Units.of(every, [figure for _, figure, _ in rows])}
    found |= {"questions": Units.of(every, [question for question, _, _ in rows])} | named
    return found | {"mean": MeanOf(tuple(named), known=True), "every": MeanOf(("all", "figures", "questions"))}


def written_out(rows: Sequence[Row], right: Sequence[bool]) -> dict[str, float | None]:
    """The same shares without arrays."""

    def all_right(keys: Sequence[Hashable]) -> float | None:
        units: dict[Hashable, list[bool]] = {}
        for key, one in zip(keys, right, strict=True):
            units.setdefault(key, []).append(one)
        return sum(map(all, units.values())) / len(units) if units else None

    found: dict[str, float | None] = {
        "all": sum(right) / len(right) if rows else None,
        "figures": all_right([figure for _, figure, _ in rows]),
        "questions": all_right([question for question, _, _ in rows]),
    }
    for name in sorted({category for _, _, category in rows}):
        chosen = [one for row, one in zip(rows, right, strict=True) if row[2] == name]
        found[f"in {name}"] = sum(chosen) / len(chosen)
    categories = [found[name] for name in found if name.startswith("in ")]
    found["mean"] = sum(categories) / len(categories) if categories else None  # type: ignore[arg-type]
    found["every"] = None if not rows else (found["all"] + found["figures"] + found["questions"]) / 3  # type: ignore[operator]
    return found


def interval(rows: Sequence[Row], right: Sequence[bool], name: str) -> tuple[float, float] | None:
    """Of a share of units that lie within clusters: the delete-one-cluster jackknife, each replicate computed anew."""
    clusters = sorted({row[1] for row in responses_of(rows, name)})
    whole = written_out(rows, right)[name]
    if whole is None or len(clusters) < 2:
        return None
    without = []
    for cluster in clusters:
        left = [place for place in range(len(rows)) if rows[place][1] != cluster]
        value = written_out([rows[place] for place in left], [right[place] for place in left]).get(name)
        if value is None:
            return None
        without.append(value)
    variance = (len(without) - 1) / len(without) * sum((value - whole) ** 2 for value in without)
    return whole - 1.96 * sqrt(variance), whole + 1.96 * sqrt(variance)


def responses_of(rows: Sequence[Row], name: str) -> Sequence[Row]:
    return [row for row in rows if row[2] == name.removeprefix("in ")] if name.startswith("in ") else rows


cases = st.lists(
    st.tuples(st.sampled_from("pqrs"), st.sampled_from("tuvwxyz"), st.sampled_from(["art", "law"]), st.booleans()),
    min_size=1,
    max_size=14,
)


@given(made=cases)
def test_shares_are_those_written_out(made: list[tuple[str, str, str, bool]]) -> None:
    rows, right = [row[:3] for row in made], [row[3] for row in made]
    expected = written_out(rows, right)
    found = share_values(parts_of(rows), right)
    assert found == pytest.approx(expected)
    estimates = share_estimates([(parts_of(rows), right, [row[1] for row in rows])])
    for name, estimate in estimates.items():
        assert estimate.value == pytest.approx(expected[name])
        assert estimate.n == len(responses_of(rows, name))


@given(made=cases)
def test_the_variance_is_that_of_replicates_computed_anew(made: list[tuple[str, str, str, bool]]) -> None:
    rows, right = [row[:3] for row in made], [row[3] for row in made]
    within = {name: part for name, part in parts_of(rows).items() if name not in ("questions", "mean", "every")}
    figures = Shares([(within, [row[1] for row in rows])])
    for name, share in figures.shares([right]).items():
        expected = interval(rows, right, name)
        assert share.linear is not None
        error = np.sqrt(share.linear.variance)
        assert np.isnan(error) == (expected is None), name
        if expected is not None:
            found = share.linear.value - 1.96 * error, share.linear.value + 1.96 * error
            assert found == pytest.approx(expected, abs=1e-9), name


def test_clusters_that_have_a_unit_in_common_are_one() -> None:
    """Two figures of which the same question is asked: what is right on both goes up and down with either."""
    figures = [place // 2 for place in range(40)]
    questions = [place // 4 for place in range(40)]
    generator = np.random.default_rng(0)
    right = (generator.random(40) < 0.6).tolist()
    parts: Parts = {"questions": Units.of(range(40), questions), "all": Units.of(range(40))}
    assert share_estimates([(parts, right, figures)]) == share_estimates([(parts, right, questions)])


def test_the_mean_of_categories_has_the_variance_of_independent_ones() -> None:
    generator = np.random.default_rng(4)
    right = (generator.random(300) < 0.5).astype(float)
    categories = [f"c{place % 6}" for place in range(300)]
    named = by_category([[name] for name in categories])
    parts: Parts = named | {"mean": MeanOf(tuple(named))}
    linear = Shares([(parts, range(300))]).shares([right.tolist()])["mean"].linear
    assert linear is not None
    expected = sum(right[place::6].var(ddof=1) / 50 for place in range(6)) / 36
    assert linear.variance == pytest.approx(expected)


def test_the_interval_is_the_bootstraps() -> None:
    generator = np.random.default_rng(1)
    values = [bool(v) for v in generator.random(400) < np.repeat(generator.random(100), 4)]
    found = share_estimates([({"share": Units.of(range(400))}, values, [place // 4 for place in range(400)])])["share"]
    means = np.asarray(values, dtype=float).reshape(100, 4).mean(axis=1)
    reference = bootstrap((means,), np.mean, random_state=np.random.default_rng(0)).confidence_interval
    assert found.ci95 == pytest.approx((reference.low, reference.high), abs=0.01)


def test_a_part_has_the_interval_of_its_own_responses() -> None:
    """53 responses among 303 are no more certain for the other 250."""
    generator = random.Random(0)
    levels = ["level 1"] * 53 + ["level 2"] * 250
    right = [generator.random() < 0.4 for _ in levels]
    found = share_estimates([(by_category([[level] for level in levels]), right, range(303))])["level 1"]
    alone = share_estimates([({"level 1": Units.of(range(53))}, right[:53], range(53))])["level 1"]
    assert found.n == alone.n == 53
    assert found.value == alone.value
    assert found.ci95 is not None
    assert alone.ci95 is not None
    assert found.ci95 == pytest.approx(alone.ci95, abs=0.02)
    assert alone.ci95 == pytest.approx(proportion_confint(sum(right[:53]), 53, method="wilson"), abs=0.005)


def test_verdicts_may_be_chances() -> None:
    chances = [1, 0.25, 0, 0.25, 1, 0]
    found = share_estimates([({"share": Units.of(range(6))}, chances, range(6))])["share"]
    assert found.value == pytest.approx(2.5 / 6)
    values, n = np.array(chances), 6
    error = sqrt(values.var(ddof=1) / n)
    size = found.value * (1 - found.value) / error**2  # type: ignore[operator]
    assert found.ci95 == pytest.approx(wilson(2.5 / 6, size, t.ppf(0.975, n - 1)))


def test_samples_are_averaged() -> None:
    samples: list[tuple[Parts, list[float], list[Any]]] = [
        ({"share": Units.of(range(4))}, [1, 1, 0, 0], ["a", "b", "c", "d"]),
        ({"share": Units.of(range(4))}, [1, 0, 0, 0], ["a", "b", "c", "d"]),
    ]
    found = share_estimates(samples)["share"]
    assert (found.value, found.n) == (0.375, 8)
    alone = share_estimates([({"share": Units.of(range(4))}, [1, 0.5, 0, 0], list("abcd"))])["share"]
    assert found.ci95 is not None
    assert alone.ci95 is not None
    assert found.ci95 == pytest.approx(alone.ci95, abs=0.15)


def test_a_hundred_thousand_responses_take_a_moment(record_property: Callable[[str, object], None]) -> None:
    """DynaMath with 20 samples: one replicate a group over Python lists took 80 s."""
    generator = random.Random(0)
    rows = [(str(place // 10), str(place // 10), f"c{place % 9}") for place in range(100_200)]
    right = [generator.random() < 0.5 for _ in rows]
    before = time.thread_time()
    share_estimates([(parts_of(rows), right, [row[1] for row in rows])])
    seconds = time.thread_time() - before
    record_property("seconds", seconds)
    assert seconds < 2
