"""A benchmark's own shares: values, numbers and intervals against the jackknife written out response by response."""

import random
import time
from collections.abc import Callable, Hashable, Sequence
from math import sqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import bootstrap
from statsmodels.stats.proportion import proportion_confint

from avar_eval.statistics import JACKKNIFE_GROUPS, Estimate, deal_to_groups
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
    """Kott's delete-a-group jackknife, each replicate computed anew, and Wilson's interval of statsmodels."""
    groups, count = deal_to_groups([row[1] for row in rows])
    whole = written_out(rows, right)[name]
    if whole is None or count < 2:
        return None
    without, changed = [], 0
    for group in range(count):
        left = [place for place in range(len(rows)) if groups[place] != group]
        value = written_out([rows[place] for place in left], [right[place] for place in left]).get(name)
        without += [] if value is None else [value]
        turned = [whole == 0 if groups[place] == group else one for place, one in enumerate(right)]
        changed += whole in (0, 1) and written_out(rows, turned)[name] != whole
    if len(without) < 2:
        return None
    variance = (len(without) - 1) / len(without) * sum((value - np.mean(without)) ** 2 for value in without)
    n = len(responses_of(rows, name))
    size = min(n, whole * (1 - whole) / variance) if variance > 1e-15 and 0 < whole < 1 else changed
    if not size:
        return None
    low, high = proportion_confint(whole * size, size, method="wilson")
    return float(low), float(high)


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
def test_intervals_are_those_of_replicates_computed_anew(made: list[tuple[str, str, str, bool]]) -> None:
    rows, right = [row[:3] for row in made], [row[3] for row in made]
    for name, estimate in share_estimates([(parts_of(rows), right, [row[1] for row in rows])]).items():
        if estimate.value not in (0, 1) or name in ("all", "figures", "questions"):
            expected = interval(rows, right, name)
            assert (estimate.ci95 is None) == (expected is None), name
            assert estimate.ci95 is None or estimate.ci95 == pytest.approx(expected, abs=1e-9), name


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
    size = min(n, found.value * (1 - found.value) / error**2)  # type: ignore[operator]
    assert found.ci95 == pytest.approx(proportion_confint(2.5 / 6 * size, size, method="wilson"))


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


def test_many_clusters_are_dealt_to_groups() -> None:
    group, count = deal_to_groups(list(range(1000)) * 2)
    assert count == JACKKNIFE_GROUPS
    assert (group[:1000] == group[1000:]).all()
    assert np.bincount(group).tolist() == [10] * JACKKNIFE_GROUPS


def test_sixty_thousand_responses_take_a_moment(record_property: Callable[[str, object], None]) -> None:
    """DynaMath with 13 samples: one replicate a group over Python lists took 80 s."""
    generator = random.Random(0)
    rows = [(str(place // 10), str(place // 10), f"c{place % 9}") for place in range(65_130)]
    right = [generator.random() < 0.5 for _ in rows]
    before = time.process_time()
    share_estimates([(parts_of(rows), right, [row[1] for row in rows])])
    seconds = time.process_time() - before
    record_property("seconds", seconds)
    assert seconds < 5
