"""Estimates against references (scipy, statsmodels, cases worked by hand) and by their properties."""

import json
import subprocess
import sys
from math import sqrt
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, bootstrap

from avar_eval import statistics
from avar_eval.statistics import Estimate, clustered_proportion, clustered_standard_error, mean

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


@settings(max_examples=15, deadline=None)
@given(st.lists(moderate, min_size=2, max_size=30))
def test_mean_stays_within_its_values_and_repeats_exactly(values: list[float]) -> None:
    estimate = mean(values)
    assert estimate == mean(values)
    assert estimate.value == pytest.approx(np.mean(values), rel=1e-9, abs=1e-6)
    assert estimate.ci95 is not None
    low, high = estimate.ci95
    assert min(values) <= low <= high <= max(values)


@settings(max_examples=10, deadline=None)
@given(moderate, st.integers(2, 30))
def test_mean_of_a_constant_is_that_constant(value: float, n: int) -> None:
    assert mean([value] * n) == Estimate(value, (value, value), n)


def test_mean_agrees_with_scipys_percentile_bootstrap() -> None:
    values = np.random.default_rng(7).gamma(2.0, 4.0, size=200)
    reference = bootstrap(
        (values,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(1), batch=1000
    ).confidence_interval
    estimate = mean(values.tolist())
    spread = reference.high - reference.low
    assert estimate.ci95 == pytest.approx((reference.low, reference.high), abs=0.03 * spread)


def test_mean_draws_in_blocks_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    values = [float(i % 7) for i in range(50)]
    whole = mean(values)
    monkeypatch.setattr(statistics, "BOOTSTRAP_BLOCK", 50 * 333)
    blocked = mean(values)
    assert blocked.ci95 == pytest.approx(whole.ci95, abs=0.05)
    assert blocked.value == whole.value


def test_clustered_standard_error_by_hand() -> None:
    # Clusters (1,1), (0,0), (1,0): the share is 1/2, their residuals sum to 1, −1 and 0; 3/2 · 2 = 3, √3 / 6.
    values, clusters = [True, True, False, False, True, False], ["a", "a", "b", "b", "c", "c"]
    assert clustered_standard_error(values, clusters) == pytest.approx(sqrt(3) / 6)
    # Independent variance 1/4 / 5 = 1/20; design effect (3/36) / (1/20) = 5/3; effective size 6 / (5/3) = 3.6.
    z2 = NormalDist().inv_cdf(0.975) ** 2
    half = sqrt(z2 * (0.25 / 3.6 + z2 / (4 * 3.6**2))) / (1 + z2 / 3.6)
    estimate = clustered_proportion(values, clusters)
    assert estimate.value == 0.5
    assert estimate.n == 6
    assert estimate.ci95 == pytest.approx((0.5 - half, 0.5 + half))


def test_clustered_standard_error_is_statsmodels() -> None:
    api = pytest.importorskip("statsmodels.api")
    generator = np.random.default_rng(3)
    clusters = generator.integers(0, 40, size=300)
    values = generator.random(300) < generator.random(40)[clusters]
    fit = api.OLS(values.astype(float), np.ones(300)).fit(cov_type="cluster", cov_kwds={"groups": clusters})
    assert clustered_standard_error(values.tolist(), clusters.tolist()) == pytest.approx(fit.bse[0], rel=1e-9)
    estimate = clustered_proportion(values.tolist(), clusters.tolist())
    # Far from 0 and 1 and with many clusters Wilson's interval and value ± 1.96 errors nearly coincide.
    assert estimate.ci95 == pytest.approx(tuple(fit.conf_int()[0]), abs=0.01)


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
