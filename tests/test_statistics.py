"""Estimates against references (scipy, statsmodels, cases worked by hand) and by their properties."""

import json
import subprocess
import sys
from math import sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, gmean, t, ttest_1samp

from avar_eval.statistics import (
    Estimate,
    Linear,
    clustered_proportion,
    geometric_mean,
    is_heavy,
    mean,
    mean_of_ratios,
    median,
    ratio_of_means,
    top_share,
)
from avar_eval.statistics.proportions import wilson

moderate = st.floats(-1e6, 1e6, allow_nan=False)
counts = st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
clustered = st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=1, max_size=40)


def proportion(values: list[bool]) -> Estimate:
    """Of values that have nothing in common."""
    return clustered_proportion(values, range(len(values)))


def outcomes(successes: int, n: int) -> list[bool]:
    return [True] * successes + [False] * (n - successes)


@settings(deadline=None)
@given(counts)
def test_proportion_is_wilsons_interval(trials: tuple[int, int]) -> None:
    successes, n = trials
    estimate = proportion(outcomes(successes, n))
    reference = binomtest(successes, n).proportion_ci(confidence_level=0.95, method="wilson")
    assert estimate.value == successes / n
    assert estimate.n == n
    assert estimate.ci95 == pytest.approx((reference.low, reference.high), abs=1e-12)


@settings(deadline=None)
@given(counts)
def test_proportion_contains_its_value_and_mirrors(trials: tuple[int, int]) -> None:
    successes, n = trials
    estimate, mirrored = proportion(outcomes(successes, n)), proportion(outcomes(n - successes, n))
    assert estimate.value is not None
    assert estimate.ci95 is not None
    assert mirrored.ci95 is not None
    low, high = estimate.ci95
    assert 0 <= low <= estimate.value <= high <= 1
    assert (1 - high, 1 - low) == pytest.approx(mirrored.ci95, abs=1e-12)


def test_nothing_observed_is_unknown_not_zero() -> None:
    unknown = Estimate(None, None, 0)
    assert mean([]) == clustered_proportion([], []) == unknown


def test_mean_of_one_value_has_no_interval() -> None:
    assert mean([3.5]) == Estimate(3.5, None, 1)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_mean_refuses_values_that_are_not_finite(bad: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        mean([1.0, bad])


@settings(deadline=None)
@given(st.lists(moderate, min_size=2, max_size=30))
def test_mean_without_clusters_is_the_t_interval(values: list[float]) -> None:
    estimate = mean(values)
    assert estimate.value == pytest.approx(np.mean(values), rel=1e-9, abs=1e-6)
    if len(set(values)) == 1:
        assert estimate == Estimate(values[0], None, len(values))  # says nothing of their spread
        return
    reference = ttest_1samp(values, 0).confidence_interval(0.95)
    assert estimate.ci95 == pytest.approx((reference.low, reference.high), rel=1e-6, abs=1e-4)
    assert estimate == mean(values, range(len(values)))


@settings(deadline=None)
@given(st.lists(st.tuples(moderate, st.integers(0, 5)), min_size=3, max_size=40))
def test_the_variance_is_that_of_leaving_out_one_cluster_after_the_other(rows: list[tuple[float, int]]) -> None:
    values, clusters = np.array([value for value, _ in rows]), np.array([cluster for _, cluster in rows])
    found = Linear.mean(values, clusters)
    names = np.unique(clusters)
    if names.size < 2:
        assert np.isnan(found.variance)
        return
    without = np.array([values[clusters != name].mean() for name in names])
    expected = (names.size - 1) / names.size * ((without - values.mean()) ** 2).sum()
    assert found.variance == pytest.approx(expected, rel=1e-6, abs=1e-6 * float(abs(values).max() ** 2))
    assert found.value == pytest.approx(values.mean(), rel=1e-9, abs=1e-6)
    assert 1 <= found.dof <= names.size - 1 + 1e-9 or names.size == 2


def test_clusters_of_equal_size_have_the_variance_of_statsmodels() -> None:
    api = pytest.importorskip("statsmodels.api")
    generator = np.random.default_rng(3)
    clusters = np.repeat(np.arange(30), 8)
    values = generator.normal(size=240) + generator.normal(size=30)[clusters]
    fit = api.OLS(values, np.ones(240)).fit(cov_type="cluster", cov_kwds={"groups": clusters}, use_t=True)
    estimate = mean(values.tolist(), clusters.tolist())
    assert Linear.mean(values, clusters).variance == pytest.approx(fit.bse[0] ** 2)
    assert estimate.ci95 == pytest.approx(tuple(fit.conf_int()[0]))


def test_degrees_of_freedom_fall_with_unequal_clusters() -> None:
    generator = np.random.default_rng(0)
    equal, unequal = np.repeat(np.arange(10), 20), np.concatenate([np.zeros(110, int), np.repeat(np.arange(1, 10), 10)])
    values = generator.normal(size=200)
    assert Linear.mean(values, equal).dof == pytest.approx(9)
    assert Linear.mean(values, unequal).dof < 5


def test_geometric_mean_is_of_logarithms() -> None:
    values = np.random.default_rng(1).lognormal(size=50).tolist()
    estimate, logs = geometric_mean(values), mean(np.log(values).tolist())
    assert estimate.value == pytest.approx(gmean(values))
    assert logs.ci95 is not None
    assert estimate.ci95 == pytest.approx(tuple(np.exp(logs.ci95)))
    assert geometric_mean([2.0, 0.0]) == Estimate(0.0, None, 2)
    assert geometric_mean([]) == Estimate(None, None, 0)
    with pytest.raises(ValueError, match="negative"):
        geometric_mean([1.0, -1.0])


@pytest.mark.parametrize("n", [6, 20, 101, 500])
def test_median_lies_between_the_order_statistics_of_the_sign_test(n: int) -> None:
    values = np.random.default_rng(n).permutation(n).astype(float)  # 0, 1, …: a value is its rank
    estimate = median(values.tolist())
    assert estimate.value == (n - 1) / 2
    assert estimate.ci95 is not None
    low, high = estimate.ci95
    missed = 2 * binom.cdf(low, n, 0.5)  # fewer than that are below the median
    assert missed <= 0.05 < 2 * binom.cdf(low + 1, n, 0.5)
    assert low + high == n - 1


def test_median_of_few_values_or_clusters_has_no_interval() -> None:
    assert median([1.0, 2.0, 3.0, 4.0, 5.0]) == Estimate(3.0, None, 5)
    assert median([1.0, 2.0, 3.0, 4.0], ["a", "a", "b", "b"]).ci95 is None
    assert median([]) == Estimate(None, None, 0)


def test_median_of_clusters_is_wider() -> None:
    values = np.repeat(np.random.default_rng(5).normal(size=40), 5)
    alone, together = median(values.tolist()), median(values.tolist(), np.repeat(np.arange(40), 5).tolist())
    assert alone.ci95 is not None
    assert together.ci95 is not None
    assert together.ci95[1] - together.ci95[0] > 1.5 * (alone.ci95[1] - alone.ci95[0])


def test_ratio_of_means_is_the_ratio_of_sums_with_the_delta_methods_interval() -> None:
    generator = np.random.default_rng(6)
    below = generator.random(80) + 0.5
    above = 0.4 * below + 0.1 * generator.random(80)
    estimate = ratio_of_means(above.tolist(), below.tolist())
    ratio = above.sum() / below.sum()
    assert estimate.value == pytest.approx(ratio)
    error = np.sqrt(np.var(above - ratio * below, ddof=1) / 80) / below.mean()
    assert estimate.ci95 is not None
    middle = np.log(estimate.ci95).mean()
    assert middle == pytest.approx(np.log(ratio))
    assert np.log(estimate.ci95[1] / ratio) == pytest.approx(t.ppf(0.975, 79) * error / ratio)
    assert ratio_of_means([1.0], [0.0]) == Estimate(None, None, 0)


def test_a_few_values_that_make_the_mean_are_marked_and_leave_it_without_interval() -> None:
    values = [1.0] * 99 + [100.0]
    top = top_share(values)
    assert top == Estimate(pytest.approx(100 / 199), None, 100)
    assert is_heavy(top.value, top.n)
    assert mean_of_ratios(values) == Estimate(mean(values).value, None, 100)
    plain = [1.0, 2.0] * 50
    assert not is_heavy(top_share(plain).value, 100)
    assert mean_of_ratios(plain) == mean(plain)
    assert not is_heavy(top_share([1.0, 2.0, 3.0]).value, 3)  # a third is no more than its part
    assert is_heavy(top_share([1.0] * 19 + [30.0]).value, 20)


def test_clustered_proportion_by_hand() -> None:
    # Clusters (1,1), (0,0), (1,0) of two: residuals sum to 1, −1 and 0; variance 3/2 · 2 / 36; size 1/4 / (1/12).
    values, clusters = [True, True, False, False, True, False], ["a", "a", "b", "b", "c", "c"]
    critical2 = t.ppf(0.975, 2) ** 2
    half = sqrt(critical2 * (0.25 / 3 + critical2 / (4 * 3**2))) / (1 + critical2 / 3)
    estimate = clustered_proportion(values, clusters)
    assert estimate.value == 0.5
    assert estimate.n == 6
    assert estimate.ci95 == pytest.approx((0.5 - half, 0.5 + half))


@pytest.mark.parametrize("spread", [1, 7, 31])
@pytest.mark.parametrize(("size", "count"), [(30, 30), (10, 501), (4, 50)])
def test_ends_rise_with_the_share_also_where_hardly_anything_happens(size: int, count: int, spread: int) -> None:
    """However the events lie: in one cluster, or each in another."""
    n = size * count
    clusters = [place // size for place in range(n)]
    where = [place * spread % n for place in range(n)]
    found = []
    for events in range(60):
        happened = set(where[:events])
        found.append(clustered_proportion([place in happened for place in range(n)], clusters).ci95)
    ends = [ci95 for ci95 in found if ci95 is not None]
    assert len(ends) == 60
    if spread == size + 1 or (spread > size and size == 10):
        apart = ends[:count]  # as long as each lies in a cluster of its own
        assert [low for low, _ in apart] == pytest.approx(sorted(low for low, _ in apart))
        assert [high for _, high in apart] == pytest.approx(sorted(high for _, high in apart))
    assert all(high >= ends[0][1] for _, high in ends)
    assert ends[0] == proportion([False] * count).ci95


def test_near_1_is_as_near_0() -> None:
    clusters = [place // 30 for place in range(900)]
    few, most = (
        clustered_proportion([(place < 3) == of for place in range(900)], clusters).ci95 for of in (True, False)
    )
    assert few is not None
    assert most == pytest.approx((1 - few[1], 1 - few[0]))


def test_strata_take_what_differs_between_them_out_of_the_error() -> None:
    generator = np.random.default_rng(8)
    strata = np.repeat(np.arange(30), 30)
    values = (generator.random(900) < np.linspace(0.1, 0.9, 30)[strata]).astype(float)
    estimate = clustered_proportion(values.tolist(), range(900), strata.tolist())
    variance = sum((1 / 30) ** 2 * values[strata == one].var(ddof=1) / 30 for one in range(30))
    size = values.mean() * (1 - values.mean()) / variance
    critical = t.ppf(0.975, Linear.stratified_mean(values, np.arange(900), strata).dof)
    assert estimate.ci95 == pytest.approx(wilson(float(values.mean()), size, critical))
    plain = proportion(values.astype(bool).tolist())
    assert plain.ci95 is not None
    assert estimate.ci95 is not None
    assert estimate.ci95[1] - estimate.ci95[0] < 0.95 * (plain.ci95[1] - plain.ci95[0])


def test_strata_of_single_rows_are_taken_together() -> None:
    values = [True, False, True, True, False, True]
    assert clustered_proportion(values, range(6), list("abcdef")).ci95 == proportion(values).ci95
    assert clustered_proportion(values, range(6), list("aaabbc")).ci95 is not None


def test_chances_vary_less_than_coins() -> None:
    chances = [0.5] * 60 + [0.6] * 40
    estimate = clustered_proportion(chances, range(100))
    assert estimate.ci95 is not None
    assert estimate.ci95[1] - estimate.ci95[0] < 0.03
    plain = mean(chances).ci95
    assert estimate.ci95 == pytest.approx(plain, abs=1e-3)


@settings(deadline=None)
@given(clustered)
def test_clusters_never_narrow_the_interval_and_their_names_do_not_matter(rows: list[tuple[bool, int]]) -> None:
    values, clusters = [value for value, _ in rows], [cluster for _, cluster in rows]
    estimate, plain = clustered_proportion(values, clusters), proportion(values)
    assert estimate == clustered_proportion(values, [f"image {cluster}" for cluster in clusters])
    assert (estimate.value, estimate.n) == (plain.value, plain.n)
    if len(set(clusters)) == 1 and len(values) > 1:
        assert estimate.ci95 is None
        return
    assert estimate.ci95 is not None
    assert plain.ci95 is not None
    assert estimate.value is not None
    assert 0 <= estimate.ci95[0] <= estimate.value <= estimate.ci95[1] <= 1
    if len(set(clusters)) < len(values):  # Student's t is wider than 1.96
        assert estimate.ci95[1] - estimate.ci95[0] >= plain.ci95[1] - plain.ci95[0] - 1e-12


def test_equal_answers_everywhere_count_as_one_observation_a_cluster() -> None:
    estimate = clustered_proportion([True] * 12, [i // 4 for i in range(12)])
    assert estimate.ci95 == proportion([True] * 3).ci95
    assert estimate.n == 12


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="2 values but 1 clusters"):
        clustered_proportion([True, False], ["a"])


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(11)
    clusters = np.repeat(np.arange(50), 4)
    covered = 0
    for _ in range(300):
        values = (generator.random(200) < np.repeat(generator.beta(2, 1, size=50), 4)).tolist()
        interval = clustered_proportion(values, clusters.tolist()).ci95
        assert interval is not None
        covered += interval[0] <= 2 / 3 <= interval[1]
    assert 0.90 <= covered / 300 <= 0.99


def test_an_estimate_is_what_results_json_holds() -> None:
    assert json.loads(json.dumps(Estimate(0.5, (0.25, 0.75), 8).to_json())) == {
        "value": 0.5,
        "ci95": [0.25, 0.75],
        "n": 8,
    }
    assert Estimate(None, None, 0).to_json() == {"value": None, "ci95": None, "n": 0}


def test_importing_stats_loads_neither_scipy_nor_torch() -> None:
    code = "import sys, avar_eval.statistics; print(sorted({'scipy', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
