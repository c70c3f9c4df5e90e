"""Paired differences and tests against scipy, statsmodels and cases worked by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import permutation_test, ttest_rel

from avar_eval.statistics import Estimate, holm, mcnemar, paired_difference, paired_permutation

pairs = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=80)


def columns(of: list[tuple[bool, bool]]) -> tuple[list[bool], list[bool]]:
    return [a for a, _ in of], [b for _, b in of]


def answers(seed: int, n: int) -> tuple[list[bool], list[bool]]:
    generator = np.random.default_rng(seed)
    right = generator.random(n) < 0.6
    return right.tolist(), np.where(generator.random(n) < 0.2, ~right, right).tolist()


@settings(deadline=None)
@given(pairs)
def test_mcnemar_is_statsmodels_exact_test(of: list[tuple[bool, bool]]) -> None:
    contingency = pytest.importorskip("statsmodels.stats.contingency_tables")
    table = [[of.count((x, y)) for y in (True, False)] for x in (True, False)]
    assert mcnemar(*columns(of)) == pytest.approx(contingency.mcnemar(table, exact=True).pvalue, rel=1e-9)


def test_mcnemar_of_many_pairs_does_not_overflow() -> None:
    a, b = [True] * 3000 + [False] * 2800, [False] * 3000 + [True] * 2800
    assert 0.008 < mcnemar(a, b) < 0.01
    assert mcnemar([], []) == mcnemar([True], [True]) == 1.0


def test_difference_without_clusters_is_the_paired_t_interval() -> None:
    a, b = answers(1, 60)
    interval = ttest_rel(np.array(a, float), np.array(b, float)).confidence_interval(0.95)
    estimate = paired_difference(a, b)
    assert estimate.value == pytest.approx(np.mean(a) - np.mean(b))
    assert estimate.ci95 == pytest.approx((interval.low, interval.high))
    assert estimate == paired_difference(a, b, range(60))


def test_difference_with_clusters_is_statsmodels() -> None:
    api = pytest.importorskip("statsmodels.api")
    a, b = answers(2, 120)
    clusters = np.random.default_rng(3).integers(0, 25, size=120)
    difference = np.array(a, float) - np.array(b, float)
    fit = api.OLS(difference, np.ones(120)).fit(cov_type="cluster", cov_kwds={"groups": clusters}, use_t=True)
    assert paired_difference(a, b, clusters.tolist()).ci95 == pytest.approx(tuple(fit.conf_int()[0]))


def test_a_difference_without_spread_has_no_interval() -> None:
    assert paired_difference([], []) == Estimate(None, None, 0)
    assert paired_difference([1.0], [0.0]) == Estimate(1.0, None, 1)
    assert paired_difference([True, False], [True, False]) == Estimate(0.0, None, 2)
    assert paired_difference([1.0, 0.0], [0.0, 0.0], ["one", "one"]).ci95 is None


@pytest.mark.parametrize("n", [2, 5, 9])
def test_few_pairs_are_permuted_exactly_as_scipy_does(n: int) -> None:
    generator = np.random.default_rng(n)
    a, b = generator.normal(size=n), generator.normal(size=n) + 0.5
    reference = permutation_test(
        (a, b), lambda x, y, axis: np.mean(x - y, axis=axis), permutation_type="samples", vectorized=True
    )
    assert paired_permutation(a.tolist(), b.tolist()) == pytest.approx(reference.pvalue)


def test_many_pairs_are_permuted_at_random_and_repeat_with_the_seed() -> None:
    a, b = answers(4, 400)
    p = paired_permutation(a, b, seed=1)
    assert p == paired_permutation(a, b, seed=1)
    assert p == pytest.approx(mcnemar(a, b), abs=0.02)
    assert paired_permutation([True] * 400, [False] * 400) == 1 / 10_001
    assert paired_permutation(a, a) == 1.0


def test_pairs_of_a_cluster_are_exchanged_together() -> None:
    a, b = [1.0] * 8, [0.0] * 8
    assert paired_permutation(a, b) == 2 / 2**8
    assert paired_permutation(a, b, clusters=[i // 4 for i in range(8)]) == 2 / 2**2


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_statsmodels(ps: list[float]) -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    assert holm(ps) == pytest.approx(multitest.multipletests(ps, method="holm")[1].tolist())


def test_holm_by_hand() -> None:
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([]) == []


@pytest.mark.parametrize("test", [mcnemar, paired_difference, paired_permutation])
def test_pairs_need_equal_lengths(test: object) -> None:
    with pytest.raises(ValueError, match=r"not paired|shorter|longer"):
        test([True], [True, False])  # type: ignore[operator]
