"""Paired differences and tests against scipy, statsmodels and cases worked by hand."""

from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, norm, permutation_test, ttest_1samp, ttest_rel

from avar_eval.statistics import Linear, holm, mcnemar, mean, paired_test, simultaneous, tango_interval
from avar_eval.statistics import permutation_test as flip_test

pairs = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=80)


def answers(seed: int, n: int) -> tuple[list[bool], list[bool]]:
    generator = np.random.default_rng(seed)
    right = generator.random(n) < 0.6
    return right.tolist(), np.where(generator.random(n) < 0.2, ~right, right).tolist()


def changes(of: list[tuple[bool, bool]]) -> tuple[int, int]:
    return of.count((False, True)), of.count((True, False))


@settings(deadline=None)
@given(pairs)
def test_mcnemar_is_the_exact_test_less_half_of_what_was_observed(of: list[tuple[bool, bool]]) -> None:
    contingency = pytest.importorskip("statsmodels.stats.contingency_tables")
    gained, lost = changes(of)
    table = [[of.count((x, y)) for y in (True, False)] for x in (True, False)]
    exact = contingency.mcnemar(table, exact=True).pvalue
    observed = binom.pmf(gained, gained + lost, 0.5) if gained + lost else 0.0
    expected = exact - observed if gained != lost else 1 - observed / 2
    assert mcnemar(gained, lost) == pytest.approx(expected, rel=1e-9)


def test_published_example_of_paired_proportions() -> None:
    """Airway hyper-responsiveness of 21 children (Fagerland, Lydersen and Laake 2013 and 2014): 7 against 1."""
    assert mcnemar(7, 1) == pytest.approx(0.039, abs=5e-4)
    assert tango_interval(7, 1, 21) == pytest.approx((0.026, 0.517), abs=5e-4)


@settings(deadline=None)
@given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 60))
def test_tangos_ends_have_the_critical_score(gained: int, lost: int, more: int) -> None:
    n = gained + lost + more

    def score(difference: float) -> float:
        """By maximising the likelihood numerically, q the probability of a loss."""
        losses = np.linspace(max(0.0, -difference), (1 - difference) / 2, 20_001)[1:-1]
        likelihood = (gained * np.log(losses + difference) if gained else 0) + (lost * np.log(losses) if lost else 0)
        likelihood = likelihood + more * np.log(1 - 2 * losses - difference)
        likeliest = losses[np.argmax(likelihood)]
        return float((gained - lost - n * difference) / np.sqrt(n * (2 * likeliest + difference * (1 - difference))))

    low, high = tango_interval(gained, lost, n)
    assert low <= (gained - lost) / n <= high
    assert score(low) == pytest.approx(1.96, abs=0.01)
    assert score(high) == pytest.approx(-1.96, abs=0.01)


def test_extreme_tables_have_intervals() -> None:
    assert tango_interval(20, 0, 20)[1] == 1
    assert tango_interval(0, 20, 20)[0] == -1
    low, high = tango_interval(0, 0, 50)
    assert -low == pytest.approx(high)
    assert 0.05 < high < 0.1


def test_mcnemar_of_many_pairs_does_not_overflow() -> None:
    assert 0.008 < mcnemar(3000, 2800) < 0.01
    assert mcnemar(0, 0) == 1.0


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 11)), min_size=2, max_size=60), st.booleans())
def test_the_interval_lies_beside_0_exactly_where_p_is_small(of: list[tuple[bool, bool, int]], alone: bool) -> None:
    a, b, clusters = map(list, zip(*of, strict=True))
    found = paired_test(a, b, None if alone else clusters)
    assert found.difference.value == pytest.approx(np.mean(b) - np.mean(a))
    assert found.difference.n == len(of)
    if found.difference.ci95 is not None:
        low, high = found.difference.ci95
        assert low <= found.difference.value <= high  # type: ignore[operator]
        assert found.p is not None
        assert (found.p < 0.05) == (not low <= 0 <= high)


def test_independent_verdicts_are_tested_by_mcnemar_and_others_by_permutation() -> None:
    a, b = answers(1, 60)
    alone = paired_test(a, b)
    assert alone.test == "McNemar mid-p"
    assert alone.p == mcnemar(
        sum(y > x for x, y in zip(a, b, strict=True)), sum(y < x for x, y in zip(a, b, strict=True))
    )
    assert alone.error == pytest.approx(np.std(np.subtract(b, a, dtype=float)) / np.sqrt(60))
    assert paired_test(a, b, range(60)) == alone
    assert paired_test(a, b, [place // 2 for place in range(60)]).test == "permutation"
    assert paired_test([0.25, 1.0, 0.0], [1.0, 0.25, 0.0]).test == "permutation"


def test_the_interval_of_many_clusters_is_close_to_students() -> None:
    generator = np.random.default_rng(3)
    clusters = np.repeat(np.arange(60), 4)
    difference = generator.normal(size=240) + generator.normal(size=60)[clusters]
    found = paired_test([0.0] * 240, difference.tolist(), clusters.tolist())
    reference = mean(difference.tolist(), clusters.tolist())
    assert found.difference.ci95 == pytest.approx(reference.ci95, abs=0.03)
    assert not found.too_few


def test_above_some_thousands_of_clusters_the_t_test_takes_over() -> None:
    a, b = answers(5, 2500)
    halves = [(x + 0.5) / 2 for x in a]
    found = paired_test(halves, b)
    assert found.test == "t"
    reference = ttest_rel(b, halves)
    assert found.p == pytest.approx(reference.pvalue)
    interval = reference.confidence_interval(0.95)
    assert found.difference.ci95 == pytest.approx((interval.low, interval.high))


def test_too_few_clusters_are_said_to_be() -> None:
    for count, too_few in ((2, True), (5, True), (6, False)):
        clusters = [place % count for place in range(60)]
        found = paired_test([0] * 60, [1] * 60, clusters)
        assert (found.too_few, found.p) == (too_few, 2 / 2**count)
        assert (found.difference.ci95 is None) == too_few
    assert paired_test([], []).p is None
    assert paired_test([1], [1], ["one"]).p in (None, 1.0)


@pytest.mark.parametrize("n", [2, 5, 9])
def test_few_pairs_are_permuted_exactly_as_scipy_does(n: int) -> None:
    generator = np.random.default_rng(n)
    a, b = generator.normal(size=n), generator.normal(size=n) + 0.5
    reference = permutation_test(
        (a, b), lambda x, y, axis: np.mean(x - y, axis=axis), permutation_type="samples", vectorized=True
    )
    assert paired_test(a.tolist(), b.tolist()).p == pytest.approx(reference.pvalue)


def test_many_pairs_are_permuted_at_random_and_repeat() -> None:
    a, b = answers(4, 400)
    pairs_of = [place // 2 for place in range(400)]
    found = paired_test(a, b, pairs_of)
    assert found == paired_test(a, b, pairs_of)
    assert found.p == pytest.approx(
        ttest_1samp(np.subtract(b, a, dtype=float).reshape(-1, 2).sum(1), 0).pvalue, abs=0.03
    )
    assert paired_test([0.5] * 400, [0.0] * 400).p == 1 / 10_001
    assert paired_test(a, a, pairs_of).p == 1.0


def test_pairs_of_a_cluster_are_exchanged_together() -> None:
    a, b = [1.0] * 8, [0.5] * 8
    assert paired_test(a, b).p == 2 / 2**8
    assert paired_test(a, b, [i // 4 for i in range(8)]).p == 2 / 2**2


def test_one_of_several_has_the_interval_that_it_has_alone() -> None:
    generator = np.random.default_rng(2)
    one = Linear.mean(generator.normal(size=40), np.arange(40))
    ((p, half),) = simultaneous([one])
    assert half == pytest.approx(one.half_width(), rel=0.02)
    assert (p < 0.05) == (abs(one.value) > half)
    twice = simultaneous([one, one])
    assert twice[0][1] == pytest.approx(half, rel=0.02)  # the same difference again costs nothing


def test_independent_differences_cost_as_much_as_sidak_says() -> None:
    generator = np.random.default_rng(2)
    several = [Linear.mean(generator.normal(size=2000), np.arange(2000)) for _ in range(10)]
    level = 0.95 ** (1 / 10)
    for one, (_, half) in zip(several, simultaneous(several), strict=True):
        assert half == pytest.approx(one.half_width(level), rel=0.04)
    flat = Linear.mean(np.zeros(50), np.arange(50))
    assert simultaneous([flat]) == [(1.0, inf)]


@settings(deadline=None, max_examples=25)  # theirs takes 50 ms
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_statsmodels(ps: list[float]) -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    assert holm(ps) == pytest.approx(multitest.multipletests(ps, method="holm")[1].tolist())


def test_holm_by_hand() -> None:
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([]) == []


def test_pairs_need_equal_lengths() -> None:
    with pytest.raises(ValueError, match="not paired"):
        paired_test([True], [True, False])


def test_strata_take_what_differs_between_them_out_of_a_difference() -> None:
    """Better in half of 30 subjects, worse in the others: the textbook's stratified error, and the interval of it."""
    generator = np.random.default_rng(8)
    strata = np.repeat(np.arange(30), 30)
    chance = np.where(strata % 2, 0.25, 0.05)
    change = np.where(generator.random(900) < chance, 1.0, np.where(generator.random(900) < 0.3 - chance, -1.0, 0.0))
    a, b = (change < 0).astype(float).tolist(), (change > 0).astype(float).tolist()
    found, plain = paired_test(a, b, range(900), strata.tolist()), paired_test(a, b)
    error = np.sqrt(sum((1 / 30) ** 2 * change[strata == one].var(ddof=1) / 30 for one in range(30)))
    assert (found.test, plain.test) == ("permutation", "McNemar mid-p")
    assert found.difference.value == pytest.approx(plain.difference.value)
    assert found.error == pytest.approx(error)
    assert plain.error is not None
    assert error < 0.95 * plain.error
    value = found.difference.value
    assert value is not None
    assert found.difference.ci95 == pytest.approx((value - 1.96 * error, value + 1.96 * error), abs=0.06 * error)
    assert found.p == pytest.approx(2 * norm.sf(abs(value) / error), abs=0.02)


def test_of_one_stratum_nothing_is_taken_out() -> None:
    a, b = answers(1, 60)
    assert paired_test(a, b, range(60), ["all"] * 60) == paired_test(a, b)


def test_a_mean_of_categories_is_permuted_within_them() -> None:
    """Of six categories that differ in how much better b is: the flips have the variance that the error has."""
    generator = np.random.default_rng(5)
    rows = [generator.normal(shift, 1, 50) for shift in (-2, -1, 0, 0, 1, 2)]
    parts = [(1 / 6, Linear.mean(of, np.arange(50) + 50 * number)) for number, of in enumerate(rows)]
    mean_of = Linear.weighted(parts)
    assert float(mean_of.exchanged.sum()) == pytest.approx(mean_of.value)
    assert mean_of.variance == pytest.approx(sum(of.var(ddof=1) / 50 for of in rows) / 36)
    found = flip_test(mean_of, 300)
    assert found.error is not None
    assert found.p == pytest.approx(2 * norm.sf(abs(mean_of.value) / found.error), abs=0.02)
