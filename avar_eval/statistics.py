"""Estimates with 95 % intervals: proportions, means, clustered responses, correlation; paired differences, their tests.

Everything here is a pure function of its arguments; the bootstrap draws from a fixed seed. Units are those of
the input: a proportion is a fraction 0..1, never a percentage.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import comb, sqrt
from statistics import NormalDist

import numpy as np
from jaxtyping import Int

BOOTSTRAP_RESAMPLES = 10_000
BOOTSTRAP_SEED = 0
BOOTSTRAP_BLOCK = 1_000_000
"""Values drawn at a time: bounds the bootstrap's memory near 16 MB whatever the number of values."""

JACKKNIFE_GROUPS = 200
"""Groups that clusters are dealt to: bounds how often a statistic is computed; its error's own error is then 5 %."""

PERMUTATIONS = 10_000
"""Sign changes drawn by `paired_permutation`; all of them are tried where there are fewer."""

Z_95 = NormalDist().inv_cdf(0.975)


Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


@dataclass(frozen=True)
class Estimate:
    """A measured value, its 95 % interval and the number of observations behind it.

    `value` is None when nothing was observed, `ci95` (low, high) is None when an interval cannot be had. Both
    are in the unit of the observations.
    """

    value: float | None
    ci95: tuple[float, float] | None
    n: int

    def to_json(self) -> dict[str, float | int | list[float] | None]:
        """The estimate as results.json holds it: {"value", "ci95": [low, high] or null, "n"}."""
        return {"value": self.value, "ci95": None if self.ci95 is None else list(self.ci95), "n": self.n}


def mean(values: Sequence[float]) -> Estimate:
    """Arithmetic mean (unit of the values) with a percentile bootstrap interval.

    10,000 resamples from a fixed seed, so the same values in the same order give the same interval. Of no
    values the mean is None, of fewer than two there is no interval. Raises ValueError for NaN or infinity.
    """
    observed = np.asarray(values, dtype=np.float64)
    n = observed.size
    if n == 0:
        return Estimate(None, None, 0)
    if not np.isfinite(observed).all():
        raise ValueError("cannot average values that are not finite")
    least, greatest = observed.min(), observed.max()
    # Rounding in a sum can leave the range of the values by one unit in the last place: clipping keeps constants exact.
    value = float(np.clip(observed.mean(), least, greatest))
    if n < 2:
        return Estimate(value, None, n)
    means = np.clip(_resampled_means(observed), least, greatest)
    low, high = np.quantile(means, [0.025, 0.975])
    return Estimate(value, (float(low), float(high)), n)


def clustered_proportion(values: Sequence[float], clusters: Sequence[Hashable]) -> Estimate:
    """Share of true values (fraction 0..1) of responses in clusters: samples of a question, questions of an image.

    A value may itself be a share, 0..1, as a question's probability of being answered: it varies less than a coin, for
    which the interval is made, so the interval is then too wide rather than too narrow.

    The standard error is the cluster-robust sandwich of an intercept-only regression with the factor G / (G − 1)
    for G clusters, as in statsmodels' `cov_type="cluster"`. Its square over that of n independent responses is the
    design effect, and the interval is Wilson's at the effective size n / design effect: unlike value ± 1.96 standard
    errors it stays within 0..1 and does not shrink to a point at 0 or 1. **When every cluster has one member, it is
    the plain Wilson score interval** (Wilson 1927, no continuity correction). Two choices on the cautious side: the
    effective size never exceeds n, and when all values are equal, which says nothing of the clusters, it is G.

    `n` is the number of values. Of one cluster there is no interval, of no values the value is None. Raises
    ValueError when `values` and `clusters` differ in length.
    """
    n = len(values)
    if n != len(clusters):
        raise ValueError(f"{n} values but {len(clusters)} clusters")
    if n == 0:
        return Estimate(None, None, 0)
    share = sum(values) / n
    if len(set(clusters)) == n:
        return Estimate(share, _wilson(share, n), n)
    size = _effective_size(values, clusters, share)
    return Estimate(share, None if size is None else _wilson(share, size), n)


def clustered_standard_error(values: Sequence[float], clusters: Sequence[Hashable]) -> float | None:
    """Cluster-robust standard error of the mean of the values, in their unit; None with fewer than two clusters.

    sqrt(G / (G − 1) · Σ_g (Σ_{i in g} (x_i − x̄))²) / n, the sandwich of `clustered_proportion`.
    """
    average = sum(values) / len(values) if values else 0.0
    residuals: dict[Hashable, float] = {}
    for value, cluster in zip(values, clusters, strict=True):
        residuals[cluster] = residuals.get(cluster, 0.0) + value - average
    count = len(residuals)
    if count < 2:
        return None
    return sqrt(count / (count - 1) * sum(residual**2 for residual in residuals.values())) / len(values)


def deal_to_groups(clusters: Sequence[Hashable]) -> tuple[Int[np.ndarray, " values"], int]:
    """The group of each value, and how many there are: clusters dealt from a fixed seed to at most JACKKNIFE_GROUPS."""
    numbers: dict[Hashable, int] = {}
    cluster = np.fromiter((numbers.setdefault(one, len(numbers)) for one in clusters), np.int64, len(clusters))
    count = min(len(numbers), JACKKNIFE_GROUPS)
    group = np.empty(len(numbers), dtype=np.int64)
    group[np.random.default_rng(BOOTSTRAP_SEED).permutation(len(numbers))] = np.arange(len(numbers)) % max(count, 1)
    return group[cluster], count


def jackknifed(share: float | None, without: Sequence[float], changeable: int, n: int) -> Estimate:
    """A share (0..1) that is any function of n clustered responses, from what it is without each group of clusters.

    The standard error is that of the delete-a-group jackknife (Kott 2001; with one cluster a group the
    delete-one-cluster jackknife), and from it comes Wilson's interval at the size of equal error, at most n. Not the
    bootstrap: a cluster drawn twice would be one question with twice the variants. changeable: where a share of 0 or 1
    has no error to measure, its size.
    """
    if share is None or len(without) < 2:
        return Estimate(share, None, n)
    average = sum(without) / len(without)
    variance = (len(without) - 1) / len(without) * sum((part - average) ** 2 for part in without)
    size = min(n, share * (1 - share) / variance) if variance and 0 < share < 1 else changeable
    return Estimate(share, _wilson(share, size) if size else None, n)


def paired_difference(a: Sequence[float], b: Sequence[float], clusters: Sequence[Hashable] | None = None) -> Estimate:
    """Mean of a − b (unit of the values) over pairs of observations of the same thing, `n` the number of pairs.

    The interval is value ± t · standard error, cluster-robust as in `clustered_standard_error`, with Student's t of
    G − 1 degrees of freedom for G clusters; without `clusters` every pair is one, and it is the paired t interval. Of
    fewer than two clusters, or where all differences are equal, which says nothing of their spread, there is none.
    Raises ValueError when lengths differ.
    """
    from scipy.special import stdtrit

    differences = _differences(a, b)
    n = differences.size
    if n == 0:
        return Estimate(None, None, 0)
    value = float(differences.mean())
    sums = _cluster_sums(differences - value, clusters)
    if sums.size < 2 or bool((differences == differences[0]).all()):
        return Estimate(value, None, n)
    error = sqrt(sums.size / (sums.size - 1) * float(sums @ sums)) / n
    half = float(stdtrit(sums.size - 1, 0.975)) * error
    return Estimate(value, (value - half, value + half), n)


def mcnemar(a: Sequence[bool], b: Sequence[bool]) -> float:
    """Two-sided p of McNemar's exact test that pairs change as often from true to false as from false to true.

    Binomial over the pairs that differ; 1 where none does. Pairs must be independent. Raises ValueError when lengths
    differ.
    """
    pairs = [(bool(x), bool(y)) for x, y in zip(a, b, strict=True)]
    only_a, only_b = pairs.count((True, False)), pairs.count((False, True))
    n = only_a + only_b
    tail = sum(comb(n, k) for k in range(min(only_a, only_b) + 1))
    return min(1.0, float(2 * tail / 2**n))


def paired_permutation(
    a: Sequence[float], b: Sequence[float], seed: int = 0, clusters: Sequence[Hashable] | None = None
) -> float:
    """Two-sided p of the paired permutation (sign-flip) test that a and b may be exchanged in every pair.

    The statistic is the absolute mean difference; the pairs of a cluster are exchanged together. Exact where there are
    at most PERMUTATIONS exchanges, else over as many drawn from `seed`, with the observed one counted among them, so
    that p is never 0. 1 for no pairs. Raises ValueError when lengths differ.
    """
    sums = _cluster_sums(_differences(a, b), clusters)
    sums = sums[sums != 0]
    observed = abs(float(sums.sum())) * (1 - 1e-12)  # sums in another order differ in the last digits
    if 2**sums.size <= PERMUTATIONS:
        signs = 1 - 2 * (np.arange(2**sums.size)[:, None] >> np.arange(sums.size) & 1)
        return float((abs(signs @ sums) >= observed).mean())
    generator, extreme = np.random.default_rng(seed), 1
    block = max(1, BOOTSTRAP_BLOCK // sums.size)
    for start in range(0, PERMUTATIONS, block):
        drawn = generator.integers(2, size=(min(block, PERMUTATIONS - start), sums.size), dtype=np.int8)
        extreme += int((abs((1 - 2 * drawn) @ sums) >= observed).sum())
    return extreme / (PERMUTATIONS + 1)


@dataclass(frozen=True)
class Correlation:
    """Pearson's r of n pairs, its 95 % interval and two-sided p; None where they are not defined."""

    r: float | None
    ci95: tuple[float, float] | None
    p: float | None
    n: int


def pearson(x: Sequence[float], y: Sequence[float]) -> Correlation:
    """Pearson's correlation of pairs, with the interval of Fisher's z, tanh(artanh r ± 1.96 / sqrt(n − 3)).

    The interval needs four pairs, r and p three (of two, r is always 1 or −1); none of them is defined where all x or
    all y are equal. Raises ValueError when lengths differ.
    """
    from scipy.stats import pearsonr

    n = len(x)
    if n != len(y):
        raise ValueError(f"{n} values are not paired with {len(y)}")
    if n < 3 or len(set(x)) == 1 or len(set(y)) == 1:
        return Correlation(None, None, None, n)
    found = pearsonr(x, y)
    interval = found.confidence_interval(0.95)
    ci95 = (float(interval.low), float(interval.high)) if n > 3 else None
    return Correlation(float(found.statistic), ci95, float(found.pvalue), n)


def holm(ps: Sequence[float]) -> list[float]:
    """p values of several tests, adjusted by Holm's step-down method (1979), in their order."""
    adjusted, greatest = [0.0] * len(ps), 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=lambda index: ps[index])):
        greatest = max(greatest, min(1.0, (len(ps) - rank) * ps[index]))
        adjusted[index] = greatest
    return adjusted


def pass_at_k(right: int, drawn: int, k: int) -> float:
    """Probability (0..1) that one of k responses is right, estimated without bias from `right` of `drawn` >= k.

    1 − C(drawn − right, k) / C(drawn, k), Eq. 1 of arXiv 2107.03374. Raises ValueError unless 1 <= k <= drawn.
    """
    if not 1 <= k <= drawn:
        raise ValueError(f"pass@{k} cannot be had from {drawn} responses")
    return 1 - comb(drawn - right, k) / comb(drawn, k)


def _differences(a: Sequence[float], b: Sequence[float]) -> Array:
    if len(a) != len(b):
        raise ValueError(f"{len(a)} values are not paired with {len(b)}")
    return np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)


def _cluster_sums(values: Array, clusters: Sequence[Hashable] | None) -> Array:
    """The sum of each cluster's values, in the order in which clusters first appear."""
    if clusters is None:
        return values
    sums: dict[Hashable, float] = {}
    for value, cluster in zip(values.tolist(), clusters, strict=True):
        sums[cluster] = sums.get(cluster, 0.0) + value
    return np.array(list(sums.values()))


def _effective_size(values: Sequence[float], clusters: Sequence[Hashable], share: float) -> float | None:
    """How many independent responses would give the clustered standard error; None with fewer than two clusters."""
    error = clustered_standard_error(values, clusters)
    if error is None:
        return None
    independent_variance = share * (1 - share) / (len(values) - 1)
    if independent_variance == 0:
        return len(set(clusters))
    return len(values) / max(1.0, error**2 / independent_variance)


def _wilson(share: float, n: float) -> tuple[float, float]:
    """Wilson score interval of a share seen in n trials; n may be an effective size, so it need not be whole."""
    z2 = Z_95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 / (1 + z2 / n) * sqrt(share * (1 - share) / n + z2 / (4 * n**2))
    # At 0 and 1 the bound is exact in algebra but not in floating point.
    low = 0.0 if share == 0 else max(0.0, centre - half)
    high = 1.0 if share == 1 else min(1.0, centre + half)
    return low, high


def _resampled_means(observed: Array) -> Array:
    """Means of resamples with replacement, drawn in blocks so that memory does not grow with the number of values."""
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    block = max(1, BOOTSTRAP_BLOCK // observed.size)
    means = np.empty(BOOTSTRAP_RESAMPLES)
    for start in range(0, BOOTSTRAP_RESAMPLES, block):
        stop = min(start + block, BOOTSTRAP_RESAMPLES)
        drawn = generator.integers(observed.size, size=(stop - start, observed.size), dtype=np.int32)
        means[start:stop] = observed[drawn].mean(axis=1)
    return means
