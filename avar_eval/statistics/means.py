"""Averages of values without an upper bound, such as VAS: mean, geometric mean, median, ratio of sums.

For the mean of values whose tail may be heavy no interval can be honest: whatever the sample, a rare enough value
beyond all that were seen can hold any part of the mean (Bahadur and Savage 1956, "The nonexistence of certain
statistical procedures in nonparametric problems"). `mean` gives the t interval, `top_share` tells where it must not be
believed. The others do not depend on the tail.
"""

from collections.abc import Hashable, Sequence
from math import ceil, exp
from typing import Final

import numpy as np

from avar_eval.statistics.estimate import UNKNOWN, Array, Estimate, cluster_codes
from avar_eval.statistics.linear import Linear

HEAVY: Final = 0.1
"""The part of a sum that 1 % of its terms may hold."""


def mean(values: Sequence[float], clusters: Sequence[Hashable] | None = None) -> Estimate:
    """Arithmetic mean (unit of the values) with the cluster-robust t interval of `avar_eval.statistics.linear`.

    Without clusters it is the textbook's t interval. Of no values the mean is None; of fewer than two clusters, and of
    values that are all equal, which say nothing of their spread, there is no interval. Raises ValueError for NaN or
    infinity, and when lengths differ.
    """
    observed = np.asarray(values, dtype=np.float64)
    codes = cluster_codes(clusters, observed.size)
    if observed.size == 0:
        return UNKNOWN
    if not np.isfinite(observed).all():
        raise ValueError("cannot average values that are not finite")
    # Rounding in a sum can leave the range of the values by one unit in the last place: clipping keeps constants exact.
    value = float(np.clip(observed.mean(), observed.min(), observed.max()))
    half = Linear.mean(observed, codes).half_width()
    if np.isnan(half) or bool((observed == observed[0]).all()):
        return Estimate(value, None, observed.size)
    return Estimate(value, (value - half, value + half), observed.size)


def mean_of_ratios(values: Sequence[float], clusters: Sequence[Hashable] | None = None) -> Estimate:
    """`mean` of values from 0 on that have no upper bound: its interval ends at 0, and there is none for a heavy tail.

    Heavy is what `is_heavy` says: there the t interval would cover far less than 95 %, as would any other.
    """
    found, top = mean(values, clusters), top_share(values)
    if found.ci95 is None or is_heavy(top.value, top.n):
        return Estimate(found.value, None, found.n)
    return Estimate(found.value, (max(0.0, found.ci95[0]), found.ci95[1]), found.n)


def geometric_mean(values: Sequence[float], clusters: Sequence[Hashable] | None = None) -> Estimate:
    """exp of the mean of logarithms, which tame a heavy tail, its interval exp of theirs.

    Where a value is 0, so is the mean, without an interval. Raises ValueError for negative values and those that are
    not finite.
    """
    observed = np.asarray(values, dtype=np.float64)
    if observed.size and not (np.isfinite(observed).all() and observed.min() >= 0):
        raise ValueError("cannot take logarithms of values that are negative or not finite")
    if observed.size and observed.min() == 0:
        return Estimate(0.0, None, observed.size)
    logs = mean(np.log(observed).tolist(), clusters)
    if logs.value is None:
        return logs
    value = float(np.clip(exp(logs.value), observed.min(), observed.max()))
    return Estimate(value, logs.ci95 and (exp(logs.ci95[0]), exp(logs.ci95[1])), logs.n)


def median(values: Sequence[float], clusters: Sequence[Hashable] | None = None) -> Estimate:
    """The median, between order statistics that need no law of the values.

    Of independent values those ends are the exact ones (binomial; Thompson 1936). Of clusters they are the quantiles at
    the ends of the cluster-robust interval of the share of values below the median, at 1/2 (Woodruff 1952). None where
    values are too few: of fewer than six even the extremes miss the median too often.
    """
    observed = np.sort(np.asarray(values, dtype=np.float64))
    n = observed.size
    if n == 0:
        return UNKNOWN
    value = float(np.median(observed))
    codes = cluster_codes(clusters, n)
    if np.unique(codes).size == n:
        from scipy.special import bdtr, bdtrik  # scipy.stats takes a second to import

        # the rank below which so many values lie below the median in less than 2.5 %; bdtrik is continuous
        rank = ceil(float(bdtrik(0.025, n, 0.5)))
        rank -= rank > 0 and float(bdtr(rank - 1, n, 0.5)) >= 0.025
        return Estimate(value, None if rank < 1 else (float(observed[rank - 1]), float(observed[n - rank])), n)
    unsorted = np.asarray(values, dtype=np.float64)
    below = (unsorted < value) + 0.5 * (unsorted == value)
    half = Linear.mean(below, codes).half_width()
    if np.isnan(half) or half >= 0.5:
        return Estimate(value, None, n)
    low = float(np.quantile(observed, 0.5 - half, method="lower"))
    high = float(np.quantile(observed, 0.5 + half, method="higher"))
    return Estimate(value, (low, high), n)


def ratio_of_means(
    above: Sequence[float], below: Sequence[float], clusters: Sequence[Hashable] | None = None
) -> Estimate:
    """Σ above / Σ below over rows, with its linearised cluster-robust interval.

    The residuals above − ratio · below, over the mean of `below`, take the place of values (Cochran 1977, section 6.3);
    ends are taken on the logarithm, so they lie above 0. No row can hold more of either sum than it has, so what is
    bounded, as shares of attention are, has an honest interval, however heavy the tail of the rows' own ratios. None
    without rows or where the sum below is 0; no interval where the sum above is.
    """
    numerator, denominator = np.asarray(above, dtype=np.float64), np.asarray(below, dtype=np.float64)
    codes = cluster_codes(clusters, numerator.size)
    if numerator.size == 0 or denominator.sum() <= 0:
        return UNKNOWN
    ratio = float(numerator.sum() / denominator.sum())
    residuals = (numerator - ratio * denominator) / denominator.mean()
    half = Linear.mean(residuals, codes).half_width()
    if np.isnan(half) or half <= 0 or ratio == 0:
        return Estimate(ratio, None, numerator.size)
    return Estimate(ratio, (ratio * exp(-half / ratio), ratio * exp(half / ratio)), numerator.size)


def top_share(values: Sequence[float]) -> Estimate:
    """The part (0..1) of the values' sum that the largest 1 % of them hold, at least one of them. No interval."""
    observed: Array = np.sort(np.asarray(values, dtype=np.float64))
    if observed.size == 0 or observed.sum() <= 0:
        return Estimate(None, None, observed.size)
    return Estimate(float(observed[-ceil(observed.size / 100) :].sum() / observed.sum()), None, observed.size)


def is_heavy(share: float | None, n: int) -> bool:
    """Whether a few of n values make their mean: 1 % hold over 10 % of the sum, or of fewer than 100 one that much more
    than its part. share: what `top_share` gives.
    """
    return share is not None and share > HEAVY * max(1.0, 100 / max(n, 1))
