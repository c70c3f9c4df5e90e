"""Statistics that are sums over clusters: means, shares of units, means of such. Their error, and how sure it is.

Responses to one question, or questions about one picture, are not independent; clusters are. The variance is CV3, the
delete-one-cluster jackknife (MacKinnon, Nielsen and Webb 2023, "Cluster-robust inference: a guide to empirical
practice"), which for a mean has a closed form: a cluster's residuals sum to e_g, its share of the observations is w_g,
and leaving it out moves the mean by e_g / N / (1 − w_g), so that

    variance = (G − 1) / G · Σ_g (e_g / N / (1 − w_g))²

Of clusters of equal size, single observations among them, that is G / (G − 1) · Σ e_g² / N², the textbook's. Few or
unequal clusters say less of the variance than their number suggests. Student's t therefore has G* − 1 degrees of
freedom (Satterthwaite; Imbens and Kolesár 2016, "Robust standard errors in small samples"; Carter, Schnepel and
Steigerwald 2017), where G* = (Σ γ_g)² / Σ γ_g² and γ_g = n_g (1 + (n_g − 1) ρ) is what a cluster of n_g observations
adds to the variance, at the intraclass correlation ρ that the observations have (analysis of variance, 0..1).
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from avar_eval.statistics.estimate import Array, Codes


@dataclass(frozen=True)
class Linear:
    """A statistic by cluster, in the unit of the observations.

    cluster: the clusters' numbers. total: what each adds to the value. weight: its share of the observations, summing
    to 1. moved: how far leaving it out moves the value, times sqrt((G − 1) / G). expected: its part of the variance by
    its size. of_parts: whether it is put together of parts with means of their own (strata, categories, tasks), all of
    which are always asked.
    """

    cluster: Codes
    total: Array
    weight: Array
    moved: Array
    expected: Array
    of_parts: bool = False

    @classmethod
    def mean(cls, values: Array, clusters: Codes) -> "Linear":
        """The mean of the values. Its variance is nan where one cluster has all of them."""
        found, place, size = np.unique(clusters, return_inverse=True, return_counts=True)
        n, count = values.size, found.size
        sums: Array = np.bincount(place, values, count).astype(np.float64)
        weight = size / n
        residuals = sums - values.mean() * size
        if count < 2:
            return cls(found, sums / n, weight, np.full(1, np.nan), np.ones(1))
        moved = residuals / n / (1 - weight) * np.sqrt((count - 1) / count)
        added = size * (1 + (size - 1) * _intraclass_correlation(values, sums, size))
        return cls(found, sums / n, weight, moved, added * (moved @ moved) / added.sum())

    @classmethod
    def stratified_mean(cls, values: Array, clusters: Codes, strata: Codes) -> "Linear":
        """The mean of the values in strata (`usable_strata`): only what differs within them is error."""
        usable = usable_strata(clusters, strata)
        if usable is None:
            return cls.mean(values, clusters)
        chosen = [usable == stratum for stratum in np.unique(usable)]
        return cls.weighted([(of.sum() / values.size, cls.mean(values[of], clusters[of])) for of in chosen])

    @classmethod
    def weighted(cls, parts: Sequence[tuple[float, "Linear"]]) -> "Linear":
        """Σ weight · part: such as the mean of several shares, of which a cluster may be in many."""
        found, place = np.unique(np.concatenate([part.cluster for _, part in parts]), return_inverse=True)

        def joined(name: str, power: int = 1) -> Array:
            values = np.concatenate([weight**power * getattr(part, name) for weight, part in parts])
            return np.bincount(place, values, found.size).astype(np.float64)

        several = len(parts) > 1 or any(part.of_parts for _, part in parts)
        return cls(found, joined("total"), joined("weight"), joined("moved"), joined("expected", power=2), several)

    @classmethod
    def stacked(cls, parts: Sequence[tuple[float, "Linear", Sequence[Hashable]]]) -> "Linear":
        """Σ weight · part of parts whose clusters have the numbers of their own keys: equal keys are one cluster."""
        numbers: dict[Hashable, int] = {}
        recoded = []
        for weight, part, keys in parts:
            codes = np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)
            recoded.append((weight, replace(part, cluster=codes[part.cluster])))
        return cls.weighted(recoded)

    def minus(self, other: "Linear", keys: Sequence[Hashable], other_keys: Sequence[Hashable]) -> "Linear":
        """The difference from the same statistic of another model's responses to the same questions."""
        both = [(1.0, self, keys), (-1.0, other, other_keys)]
        weights = Linear.stacked([(abs(sign) / 2, part, of) for sign, part, of in both]).weight
        return replace(Linear.stacked(both), weight=weights, of_parts=self.of_parts or other.of_parts)

    @property
    def value(self) -> float:
        """The statistic."""
        return float(self.total.sum())

    @property
    def exchanged(self) -> Array:
        """What of each cluster changes sign where two models' answers to it are exchanged; it sums to the value.

        Of parts it is the cluster's share of the value and what leaving it out moves: so how the parts differ, which is
        no error, is not exchanged (wild bootstrap on jackknifed residuals: MacKinnon, Nielsen and Webb 2023, "Fast and
        reliable jackknife and bootstrap methods for cluster-robust inference"), and the squares sum to `variance`.
        """
        if not self.of_parts:
            return self.total
        return self.moved + self.weight * (self.value - float(self.moved.sum()))

    @property
    def variance(self) -> float:
        """Its estimated variance; nan where it cannot be had."""
        return float(self.moved @ self.moved)

    @property
    def dof(self) -> float:
        """Degrees of freedom of Student's t, G* − 1, at least 1."""
        expected = self.expected / (self.expected.max() or 1)
        return max(1.0, float(expected.sum() ** 2 / ((expected @ expected) or 1)) - 1)

    @property
    def size(self) -> float:
        """How many clusters of equal size are worth as much (Kish): 1 / Σ weight²."""
        return float(1 / (self.weight @ self.weight))

    def half_width(self, level: float = 0.95) -> float:
        """Half the width of the t interval at that level; nan without a variance."""
        from scipy.special import stdtrit

        return float(stdtrit(self.dof, (1 + level) / 2)) * float(np.sqrt(self.variance))


def usable_strata(clusters: Codes, strata: Codes) -> Codes | None:
    """Strata that say what differs within them; clusters lie within strata, all of which are always asked.

    Those of one cluster, which do not, are taken as one. None if there are no two.
    """
    of_cluster = np.unique(np.stack([strata, clusters]), axis=1)[0]
    alone = np.bincount(of_cluster, minlength=int(strata.max()) + 1) == 1
    joined: Codes = np.where(alone[strata], strata.max() + 1, strata)
    return None if alone.sum() == 1 or np.unique(joined).size == 1 else joined


def _intraclass_correlation(values: Array, sums: Array, size: Codes) -> float:
    """How alike the observations of a cluster are, 0..1: the estimate of one-way analysis of variance; 1 if unknown."""
    n, count = values.size, size.size
    if n == count:
        return 0.0
    centred = sums - values.mean() * size
    between = float((centred**2 / size).sum())
    within = max(0.0, float(((values - values.mean()) ** 2).sum()) - between) / (n - count)
    between /= count - 1
    usual = (n - float((size**2).sum()) / n) / (count - 1)
    whole = between + (usual - 1) * within
    return min(1.0, max(0.0, (between - within) / whole)) if whole > 0 else 1.0
