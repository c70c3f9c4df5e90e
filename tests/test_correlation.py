"""Pearson and Spearman over families: equal to scipy's where models are alone, and what they find where nothing is."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr, rankdata, spearmanr

from avar_eval.diagnosis.correlate_points import Point, one_a_training
from avar_eval.results.schema import Metric
from avar_eval.statistics.correlation import Correlation, Pairs, disattenuated, pearson, reliability, spearman

Array = np.ndarray


def measured(x: Array, y: Array, families: list[object] | None = None, error: float = 0.0) -> Pairs:
    errors = np.full(len(x), error)
    return Pairs(np.asarray(x, float), np.asarray(y, float), errors, errors, families or list(range(len(x))))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.floats(-100, 100, width=32)), min_size=3, max_size=12))
def test_coefficients_are_scipys(pairs: list[tuple[int, float]]) -> None:
    x, y = (np.array(of, float) for of in zip(*pairs, strict=True))
    if np.ptp(x) == 0 or np.ptp(y) < 1e-6:
        assert pearson(measured(x, np.zeros(len(x)))) == Correlation(None, None, None, None, len(x), len(x))
        return
    assert pearson(measured(x, y)).r == pytest.approx(pearsonr(x, y).statistic, abs=1e-6)
    assert spearman(measured(x, y)).r == pytest.approx(spearmanr(x, y).statistic, abs=1e-9)


def test_ranks_of_a_resample_are_those_of_its_members() -> None:
    from avar_eval.statistics.correlation import _ranks

    generator = np.random.default_rng(0)
    for _ in range(50):
        values, weights = generator.integers(0, 5, 9).astype(float), generator.integers(0, 4, 9)
        members = np.repeat(np.arange(9), weights)
        found = _ranks(values[None], weights[None].astype(float))[0]
        np.testing.assert_allclose(found[members], rankdata(values[members]))


def test_the_order_of_models_is_without_effect() -> None:
    generator = np.random.default_rng(3)
    x, y = generator.normal(size=6), generator.normal(size=6)
    families: list[object] = ["a", "a", "b", "c", "d", "d"]
    of = measured(x, y, families, error=0.3)
    found = {pearson(of.at(list(order))) for order in list(permutations(range(6)))[::60]}
    assert (
        len({(round(one.r or 0, 12), one.ci95 and round(one.ci95[0], 9), one.p and round(one.p, 9)) for one in found})
        == 1
    )
    assert len({one.ci95_rows and round(one.ci95_rows[1], 9) for one in found}) == 1


def test_what_cannot_be_had_is_none() -> None:
    line = measured(np.arange(4.0), np.arange(4.0), ["a"] * 4)
    assert pearson(line) == Correlation(1.0, None, None, None, 4, 1)
    assert spearman(measured(np.arange(5.0), np.arange(5.0) % 3)).ci95 is None
    assert pearson(measured(np.arange(2.0), np.arange(2.0))).r is None


def test_unrelated_drifts_of_checkpoints_are_found_in_5_of_100_and_not_in_98() -> None:
    """Twelve trainings in which both measures drift on their own: one alone, one point of each, all by training."""
    generator = np.random.default_rng(5)
    alone, one_each, every = [], [], []
    for _ in range(300):
        drifts = generator.normal(size=(2, 12, 1)) * np.arange(10) + 0.3 * generator.normal(size=(2, 12, 10))
        alone.append(pearsonr(drifts[0, 0], drifts[1, 0]).pvalue < 0.05)
        points = [
            Point(
                model=f"run-{run}/checkpoint-{step}",
                family=f"run-{run}",
                training=f"run-{run}",
                step=step,
                measures={name: Metric(value=drifts[place, run, step]) for place, name in enumerate("xy")},
            )
            for run in range(12)
            for step in range(10)
        ]
        chosen = one_a_training(points)
        assert [point.step for point in chosen] == [9] * 12
        for of, found in ((chosen, one_each), (points, every)):
            x, y = (np.array([point.value(name) for point in of]) for name in "xy")
            p = pearson(measured(x, y, [point.family for point in of])).p
            assert p is not None
            found.append(p < 0.05)
    assert np.mean(alone) > 0.8
    assert 0.02 <= np.mean(one_each) <= 0.085
    assert np.mean(every) <= 0.085


@pytest.mark.parametrize("sizes", [(1,) * 10, (1,) * 5, (4, 3, 3), (7, 1, 1, 1), (6, 3, 2, 1, 1, 1, 1, 1)])
def test_intervals_cover_and_nothing_is_found_where_nothing_is(sizes: tuple[int, ...]) -> None:
    """Families whose members are alike in both measures, for reasons that have nothing to do with each other."""
    generator = np.random.default_rng(len(sizes))
    families = np.repeat(np.arange(len(sizes)), sizes)
    textbook, found, covers = [], [], []
    for _ in range(250):
        x, y = (
            generator.normal(size=len(sizes))[families] * 0.8**0.5 + generator.normal(size=len(families)) * 0.2**0.5
            for _ in "xy"
        )
        of = pearson(measured(x, y, families.tolist()))
        assert of.p is not None
        assert of.ci95 is not None
        textbook.append(pearsonr(x, y).pvalue < 0.05)
        found.append(of.p < 0.05)
        covers.append(of.ci95[0] <= 0 <= of.ci95[1])
        assert covers[-1] != found[-1]
    assert np.mean(found) <= 0.09
    assert np.mean(covers) >= 0.91
    if max(sizes) > 1:
        assert np.mean(textbook) > 0.1


def test_a_correlation_that_is_there_is_found() -> None:
    generator = np.random.default_rng(2)
    found = []
    for _ in range(100):
        x = generator.normal(size=20)
        of = pearson(measured(x, 0.8 * x + 0.6 * generator.normal(size=20)))
        assert of.p is not None
        found.append(of.p < 0.05)
    assert np.mean(found) > 0.95


def test_error_of_the_points_makes_r_smaller_and_is_taken_out() -> None:
    generator = np.random.default_rng(4)
    truth = generator.normal(size=4000)
    x, y = truth + 0.5 * generator.normal(size=4000), truth + 1.0 * generator.normal(size=4000)
    of = Pairs(x, y, np.full(4000, 0.5), np.full(4000, 1.0), list(range(4000)))
    found = pearson(of)
    assert found.r == pytest.approx(1 / np.sqrt(1.25 * 2), abs=0.02)
    assert found.r is not None
    without = disattenuated(found.r, of)
    assert without is not None
    assert without == pytest.approx((1.0, 0.8, 0.5), abs=0.03)
    assert reliability(np.array([1.0, 2.0, 3.0]), np.array([0.1, 0.0, 0.1])) is None
    assert reliability(np.array([1.0, 2.0, 3.0]), np.full(3, 5.0)) is None
    assert disattenuated(0.5, measured(x[:10], y[:10])) is None
