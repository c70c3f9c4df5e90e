"""Two models on the same rows: their difference, one test of it, and an interval that agrees with the test.

Each test is inverted: the interval holds the differences that the test does not reject, so that it lies beside 0 where
p < .05, and holds 0 elsewhere.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import copysign, inf, isnan, sqrt
from typing import Final, Literal

import numpy as np

from avar_eval.statistics.estimate import Z_95, Array, Estimate, cluster_codes
from avar_eval.statistics.linear import Linear, usable_strata

PERMUTATIONS: Final = 10_000
"""Sign changes that are drawn; all of them are tried where there are fewer."""
_MOST_PERMUTED: Final = 2_000
"""Clusters above which the t test takes the place of permutations, to which it is then equal to three digits."""
_BLOCK: Final = 10_000_000
"""Signs drawn at a time: bounds memory."""
_LEVEL: Final = 0.05
_DRAWS: Final = 40_000
"""Of the multivariate t law."""

TestName = Literal["McNemar mid-p", "permutation", "t"]


@dataclass(frozen=True)
class PairedTest:
    """What is known of the difference b − a.

    difference: in the unit of the observations, n the number of pairs. p: two-sided, of `test`. error: the difference's
    standard error (None: unknown), dof its degrees of freedom. too_few: whether p could not come below .05 whatever the
    rows' values; there is no interval then.
    """

    difference: Estimate
    p: float | None
    test: TestName
    error: float | None
    dof: float
    clusters: int
    too_few: bool


def paired_test(
    a: Sequence[float],
    b: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    strata: Sequence[Hashable] | None = None,
) -> PairedTest:
    """Whether b differs from a, over pairs of observations of the same thing. Raises ValueError if lengths differ.

    Independent pairs of verdicts, 0 or 1: McNemar's mid-p and Tango's interval (`mcnemar`, `tango_interval`). Clusters,
    strata, chances and other numbers: `permutation_test` by cluster. strata: as in `clustered_proportion`, groups of
    pairs all of which are always asked; that b is better in some and worse in others is no error of the difference.
    """
    if len(a) != len(b):
        raise ValueError(f"{len(a)} values are not paired with {len(b)}")
    firsts, seconds = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    codes = cluster_codes(clusters, firsts.size)
    if strata is not None and firsts.size:
        of_pair = cluster_codes(strata, firsts.size)
        if usable_strata(codes, of_pair) is not None:
            return permutation_test(Linear.stratified_mean(seconds - firsts, codes, of_pair), firsts.size)
    verdicts = np.concatenate([firsts, seconds])
    if firsts.size and np.unique(codes).size == firsts.size and bool(((verdicts == 0) | (verdicts == 1)).all()):
        n, gained, lost = firsts.size, int((seconds > firsts).sum()), int((seconds < firsts).sum())
        p = mcnemar(gained, lost)
        value = (gained - lost) / n
        error = sqrt(max(0.0, gained + lost - (gained - lost) ** 2 / n)) / n
        ci95 = _agreeing(tango_interval(gained, lost, n), value, p)
        return PairedTest(Estimate(value, ci95, n), p, "McNemar mid-p", error, n - 1, n, too_few=False)
    if firsts.size == 0:
        return PairedTest(Estimate(None, None, 0), None, "permutation", None, 0, 0, too_few=True)
    return permutation_test(Linear.mean(seconds - firsts, codes), firsts.size)


def mcnemar(gained: int, lost: int) -> float:
    """Two-sided mid-p of McNemar's test that pairs change as often for the better as for the worse.

    The exact binomial p less half of the probability of what was observed: unlike the exact test, which is far below
    its level, it holds it at all sizes (Fagerland, Lydersen and Laake 2013, BMC Medical Research Methodology 13:91). 1
    where no pair changes. Pairs must be independent.
    """
    from scipy.special import bdtr  # scipy.stats takes a second to import

    n, fewer = gained + lost, min(gained, lost)
    if n == 0:
        return 1.0
    up_to, below = float(bdtr(fewer, n, 0.5)), float(bdtr(fewer - 1, n, 0.5)) if fewer else 0.0
    return 1 - (up_to - below) / 2 if gained == lost else up_to + below


def tango_interval(gained: int, lost: int, n: int, critical: float = Z_95) -> tuple[float, float]:
    """Score interval (−1..1) of the difference (gained − lost) / n of n independent pairs (Tango 1998).

    Differences d whose score statistic (gained − lost − n d) / sqrt(n (2 q + d (1 − d))) is within ± critical, where q
    is the probability of a loss that is likeliest if the difference is d. It covers at all sizes, also where no pair
    changes (Fagerland, Lydersen and Laake 2014, "Recommended tests and confidence intervals for paired binomial
    proportions").
    """
    from scipy.optimize import brentq

    def score(difference: float) -> float:
        middle = -gained - lost + (2 * n - gained + lost) * difference
        least = -lost * difference * (1 - difference)
        loss = (sqrt(max(0.0, middle**2 - 8 * n * least)) - middle) / (4 * n)
        variance = n * (2 * loss + difference * (1 - difference))
        away = gained - lost - n * difference
        if away == 0:
            return 0.0
        return copysign(inf, away) if variance <= 0 else away / sqrt(variance)

    value = (gained - lost) / n

    def end(outermost: float, sign: int) -> float:
        # next to the outermost difference, of which the statistic has no variance
        outer = outermost * (1 - 1e-12)
        if value == outermost or abs(score(outer)) <= critical:
            return outermost
        return float(brentq(lambda difference: score(difference) + sign * critical, value, outer))

    return end(-1.0, -1), end(1.0, 1)


def permutation_test(difference: Linear, n: int, seed: int = 0) -> PairedTest:
    """Whether a difference that is a sum over clusters is 0: the sign-flip test that a and b may be exchanged in each.

    The pairs of a cluster are exchanged together (`Linear.exchanged`). Exact where there are at most PERMUTATIONS
    exchanges, else over as many drawn from `seed`, with the observed one counted among them, so that p is never 0. The
    interval holds the differences d for which the test that clusters' differences from d may change signs has p >= .05.
    Over some thousands of clusters it is the t test of `Linear`, to which the permutations then come.

    p is None where there is nothing to exchange: no two clusters.
    """
    total, weight, count = difference.exchanged, difference.weight, difference.cluster.size
    value = difference.value
    error = None if isnan(difference.variance) else sqrt(difference.variance)
    if count < 2 or error is None:
        return PairedTest(Estimate(value, None, n), None, "permutation", None, 0, count, too_few=True)
    if not np.any(total):
        return PairedTest(Estimate(value, None, n), 1.0, "permutation", error, difference.dof, count, too_few=False)
    if count > _MOST_PERMUTED:
        from scipy.special import stdtr

        half, p = difference.half_width(), 2 * float(stdtr(difference.dof, -abs(value) / error)) if error else 0.0
        return PairedTest(
            Estimate(value, (value - half, value + half), n), p, "t", error, difference.dof, count, too_few=False
        )
    flips = _Flips.of(total, weight, seed)
    p = flips.p(0.0)
    too_few = 2.0 ** (1 - count) >= _LEVEL
    ci95 = None if too_few else flips.interval(value, 20 * max(error, 1e-12))
    return PairedTest(Estimate(value, ci95, n), p, "permutation", error, difference.dof, count, too_few)


@dataclass(frozen=True)
class _Flips:
    """What clusters add up to under each exchange: their totals, and their weights. exact: whether all are there."""

    totals: Array
    weights: Array
    value: float
    exact: bool

    @classmethod
    def of(cls, total: Array, weight: Array, seed: int) -> "_Flips":
        both = np.stack([total, weight], 1)
        count = total.size
        if 2**count <= PERMUTATIONS:
            signs = 1.0 - 2.0 * (np.arange(2**count)[:, None] >> np.arange(count) & 1)
            sums = signs @ both
        else:
            generator, block, parts = np.random.default_rng(seed), max(1, _BLOCK // count), []
            for start in range(0, PERMUTATIONS, block):
                size = (min(block, PERMUTATIONS - start), count)
                bits = np.unpackbits(generator.integers(256, size=(size[0], -(-count // 8)), dtype=np.uint8), axis=1)
                parts.append((1.0 - 2.0 * bits[:, :count]) @ both)
            sums = np.concatenate(parts)
        return cls(sums[:, 0], sums[:, 1], float(total.sum()), 2**count <= PERMUTATIONS)

    def p(self, difference: float) -> float:
        """Two-sided p of that difference."""
        observed = abs(self.value - difference) * (1 - 1e-12)  # sums in another order differ in the last digits
        extreme = int((abs(self.totals - difference * self.weights) >= observed).sum())
        return extreme / self.totals.size if self.exact else (extreme + 1) / (self.totals.size + 1)

    def interval(self, value: float, far: float) -> tuple[float, float]:
        """The differences that are not rejected."""
        rejects_0 = self.p(0.0) < _LEVEL

        def end(outer: float) -> float:
            inner = value
            if inner < 0 < outer or outer < 0 < inner:
                inner, outer = (inner, 0.0) if rejects_0 else (0.0, outer)
            for _ in range(60):
                middle = (inner + outer) / 2
                inner, outer = (inner, middle) if self.p(middle) < _LEVEL else (middle, outer)
            return outer if rejects_0 and outer == 0 else inner

        return _agreeing((end(value - far), end(value + far)), value, self.p(0.0))


def _agreeing(interval: tuple[float, float], value: float, p: float) -> tuple[float, float]:
    """With 0 inside where p >= .05, and outside elsewhere: at the very edge two ways to compute may disagree."""
    low, high = interval
    if p >= _LEVEL:
        return min(low, 0.0), max(high, 0.0)
    least = np.finfo(np.float64).eps
    return (max(low, least), high) if value > 0 else (low, min(high, -least))


def simultaneous(differences: Sequence[Linear], seed: int = 0, level: float = 0.95) -> list[tuple[float, float]]:
    """p and the half width of each of several differences, such that all intervals hold together in 95 %.

    Max-t (Hothorn, Bretz and Westfall 2008, "Simultaneous inference in general parametric models"): the differences
    over their errors are held against the greatest of as many numbers from Student's multivariate t law with the
    correlation that the clusters' influences on them have, drawn from `seed`. Differences of the same rows go together,
    so this costs less than Bonferroni. p < .05 exactly where the interval lies beside 0. One without a variance has p 1
    and an infinite half width.
    """
    found = [(1.0, inf)] * len(differences)
    known = [index for index, one in enumerate(differences) if one.variance > 0]
    if not known:
        return found
    errors = np.sqrt([differences[index].variance for index in known])
    clusters, place = np.unique(np.concatenate([differences[index].cluster for index in known]), return_inverse=True)
    column = np.repeat(np.arange(len(known)), [differences[index].cluster.size for index in known])
    influence = np.zeros((clusters.size, len(known)))
    influence[place, column] = np.concatenate([differences[index].moved for index in known])
    influence /= errors
    values, vectors = np.linalg.eigh(influence.T @ influence)
    root = vectors * np.sqrt(np.clip(values, 0, None))
    generator = np.random.default_rng(seed)
    dof = min(differences[index].dof for index in known)
    spread = np.sqrt(generator.chisquare(dof, _DRAWS) / dof)
    greatest = abs(generator.standard_normal((_DRAWS, len(known))) @ root.T).max(1) / spread
    critical = float(np.quantile(greatest, level, method="higher"))
    for index, error in zip(known, errors.tolist(), strict=True):
        p = (1 + int((greatest > abs(differences[index].value) / error).sum())) / (_DRAWS + 1)
        found[index] = p, critical * error
    return found


def holm(ps: Sequence[float]) -> list[float]:
    """p values of several tests, adjusted by Holm's step-down method (1979), in their order."""
    adjusted, greatest = [0.0] * len(ps), 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=lambda index: ps[index])):
        greatest = max(greatest, min(1.0, (len(ps) - rank) * ps[index]))
        adjusted[index] = greatest
    return adjusted
