"""Shares (0..1) of responses, with Wilson's interval at the size that the clusters are worth."""

from collections.abc import Hashable, Sequence
from math import comb, sqrt

import numpy as np

from avar_eval.statistics.estimate import UNKNOWN, Z_95, Array, Estimate, cluster_codes
from avar_eval.statistics.linear import Linear, usable_strata


def clustered_proportion(
    values: Sequence[float], clusters: Sequence[Hashable], strata: Sequence[Hashable] | None = None
) -> Estimate:
    """Share of true values (fraction 0..1) of responses in clusters: samples of a question, questions of an image.

    The interval is Wilson's at the effective size: share · (1 − share) over the cluster-robust variance of
    `avar_eval.statistics.linear`, with Student's t of its degrees of freedom in the place of 1.96. Unlike value ± 1.96
    standard errors it stays within 0..1 and does not shrink to a point at 0 or 1. **When every cluster has one member,
    it is the plain Wilson score interval** (Wilson 1927, no continuity correction). Three choices on the cautious side:

    - the design effect has a floor of 1: the effective size never exceeds n. Values that are shares themselves, 0..1,
      as a question's probability of being answered or a guess worth 1/k, vary less than coins, and have no such floor;
    - where all values are equal, which says nothing of the clusters, the size is their number (Kish's, if unequal);
    - near 0 and 1 a few events say little of the clusters, which may answer as one: the upper end is never below that
      of no event at all, the lower end never above that of nothing but events. So both ends rise with the number of
      events that lie in clusters of their own.

    strata: groups of rows all of which are always asked, as MMMU's 30 subjects are: what differs between them is no
    error of the share (Miller 2024, arXiv 2411.00640, section 3). Their clusters must be within them.

    `n` is the number of values. Of one cluster there is no interval, of no values the value is None. Raises
    ValueError when `values` and `clusters` differ in length.
    """
    codes = cluster_codes(clusters, len(values))
    if not len(values):
        return UNKNOWN
    observed, share = np.asarray(values, dtype=np.float64), sum(values) / len(values)
    if strata is not None:
        of_row = cluster_codes(strata, observed.size)
        if usable_strata(codes, of_row) is not None:
            return proportion(share, Linear.stratified_mean(observed, codes, of_row), observed.size, coins=False)
    return proportion(share, Linear.mean(observed, codes), observed.size, coins=are_coins(observed))


def are_coins(values: Array) -> bool:
    """Whether all are 0 or 1."""
    return bool(((values == 0) | (values == 1)).all())


def proportion(share: float, linear: Linear, n: int, units: int | None = None, *, coins: bool) -> Estimate:
    """A share (0..1) that is a sum over clusters, with the interval of `clustered_proportion`.

    n: responses that it is a share of. units: what each is 0 or 1 of, such as questions of several responses; by
    default the responses. coins: whether they are 0 or 1 and counted alike, so that the effective size cannot exceed
    them.
    """
    from scipy.special import stdtrit

    units = n if units is None else units
    if coins and linear.cluster.size == units:
        return Estimate(share, wilson(share, units), n)
    variance, certain = linear.variance, linear.size
    if np.isnan(variance):
        return Estimate(share, None, n)
    if variance <= 1e-18 or share in (0, 1):
        return Estimate(share, wilson(share, certain), n)
    size = share * (1 - share) / variance
    if coins:
        size = min(size, float(units))
    low, high = wilson(share, size, float(stdtrit(linear.dof, 0.975)))
    return Estimate(share, (min(low, wilson(1.0, certain)[0]), max(high, wilson(0.0, certain)[1])), n)


def wilson(share: float, n: float, critical: float = Z_95) -> tuple[float, float]:
    """Wilson's score interval of a share seen in n trials; n may be an effective size, so it need not be whole."""
    z2 = critical**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = critical / (1 + z2 / n) * sqrt(share * (1 - share) / n + z2 / (4 * n**2))
    # At 0 and 1 the bound is exact in algebra but not in floating point.
    low = 0.0 if share == 0 else max(0.0, centre - half)
    high = 1.0 if share == 1 else min(1.0, centre + half)
    return low, high


def pass_at_k(right: int, drawn: int, k: int) -> float:
    """Probability (0..1) that one of k responses is right, estimated without bias from `right` of `drawn` >= k.

    1 − C(drawn − right, k) / C(drawn, k), Eq. 1 of arXiv 2107.03374. Raises ValueError unless 1 <= k <= drawn.
    """
    if not 1 <= k <= drawn:
        raise ValueError(f"pass@{k} cannot be had from {drawn} responses")
    return 1 - comb(drawn - right, k) / comb(drawn, k)
