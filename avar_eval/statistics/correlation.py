"""Correlation of pairs."""

from collections.abc import Sequence
from dataclasses import dataclass


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
