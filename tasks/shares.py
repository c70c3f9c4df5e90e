"""A benchmark's own shares: what each is a share of, and its interval from clustered responses.

A benchmark says once, from its rows alone, which units a share is of: single responses, or several that must all be
right, such as the ten variants of a question. The share of any verdict, the number of responses behind it and its error
(linear in clusters, see `avar_eval.statistics.linear`) are then a few sums over arrays, whatever the number of
responses.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float, Int

from avar_eval.statistics import Estimate, Linear, are_coins, cluster_codes, proportion


@dataclass(frozen=True)
class Units:
    """A share of units. A unit is right if all of its responses are.

    unit, place: which response (its place among those that are judged) belongs to which unit, from 0. whole: whether a
    unit has all the responses that it should; one that has not is not right, and where none has, the share is unknown.
    """

    unit: Int[np.ndarray, " members"]
    place: Int[np.ndarray, " members"]
    whole: Bool[np.ndarray, " units"]

    @classmethod
    def of(cls, places: Iterable[int], keys: Iterable[Hashable] | None = None) -> "Units":
        """Each response alone, or those of one key together."""
        members = np.fromiter(places, dtype=np.int64)
        if keys is None:
            return cls(np.arange(members.size), members, np.ones(members.size, dtype=bool))
        numbers: dict[Hashable, int] = {}
        unit = np.fromiter((numbers.setdefault(key, len(numbers)) for key in keys), dtype=np.int64, count=members.size)
        return cls(unit, members, np.ones(len(numbers), dtype=bool))


@dataclass(frozen=True)
class MeanOf:
    """The unweighted mean of other shares, by their names: of all of them, or (`known`) of those that are known."""

    names: tuple[str, ...]
    known: bool = False


Parts = Mapping[str, Units | MeanOf]
"""name -> what the share is of; a MeanOf stands after what it is a mean of"""


def by_category(categories: Sequence[Sequence[str]], prefix: str = "") -> dict[str, Units]:
    """`prefix` + category -> the responses in it, in alphabetical order. categories: of each row, none or several."""
    places: dict[str, list[int]] = {}
    for place, of_row in enumerate(categories):
        for category in of_row:
            places.setdefault(f"{prefix}{category}", []).append(place)
    return {name: Units.of(found) for name, found in sorted(places.items())}


def share_values(parts: Parts, right: Sequence[float]) -> dict[str, float | None]:
    """The shares (0..1) by name, None for one of nothing. right: of each response whether it is, or how probably."""
    found = Shares([(parts, range(len(right)))]).shares([right])
    return {name: share.value for name, share in found.items()}


@dataclass(frozen=True)
class Share:
    """One share (0..1) of judged responses; None for one of nothing. linear: by cluster. units: what it is a share of.

    coins: whether each of them is right or not, and counted alike.
    """

    value: float | None
    linear: Linear | None
    units: int
    coins: bool


class Shares:
    """A benchmark's own shares of certain responses, and all that is known before any of them is judged.

    Many verdicts on the same rows, of several rules or several models, then cost a few sums each.

    keys: the clusters; the number of one in `Share.linear` is its place. Clusters that have a unit in common are one.
    """

    def __init__(self, samples: Sequence[tuple[Parts, Sequence[Hashable]]]) -> None:
        """samples: parts, and the cluster of each response; one such pair for each response that is drawn to a row."""
        given = [cluster for _, of in samples for cluster in of]
        codes = cluster_codes(given, len(given))
        starts = np.cumsum([0, *(len(of) for _, of in samples)])
        by_sample = [codes[start:stop] for start, stop in pairwise(starts)]
        joined = _joined([parts for parts, _ in samples], by_sample)
        self.keys: list[Hashable] = list(dict.fromkeys(given))
        self._samples = [(parts, joined[codes]) for (parts, _), codes in zip(samples, by_sample, strict=True)]
        self._n: dict[str, int] = {}
        for parts, _ in samples:
            for name, places in _places(parts).items():
                self._n[name] = self._n.get(name, 0) + len(places)

    def shares(self, right: Sequence[Sequence[float]]) -> dict[str, Share]:
        """The mean of each share over samples. right: of each sample's responses whether they are, or how probably."""
        found: dict[str, list[Share]] = {}
        for (parts, clusters), of in zip(self._samples, right, strict=True):
            one: dict[str, Share] = {}
            values = np.asarray(of, dtype=np.float64)
            for name, part in parts.items():
                if isinstance(part, MeanOf):
                    one[name] = _mean([one[of] for of in part.names], known=part.known)
                else:
                    one[name] = _share(part, values, clusters)
                found.setdefault(name, []).append(one[name])
        return {name: of[0] if len(of) == 1 else _over_samples(of) for name, of in found.items()}

    def estimates(self, right: Sequence[Sequence[float]]) -> dict[str, Estimate]:
        """The shares with their intervals (`proportion`); `n` counts the responses that each is of."""
        return {
            name: Estimate(None, None, self._n[name])
            if share.value is None or share.linear is None
            else proportion(share.value, share.linear, self._n[name], share.units, coins=share.coins)
            for name, share in self.shares(right).items()
        }


def _joined(parts: Sequence[Parts], clusters: Sequence[Int[np.ndarray, " responses"]]) -> Int[np.ndarray, " clusters"]:
    """Of each cluster the first of those that it has a unit in common with, directly or through others."""
    pairs = []
    for of_sample, codes in zip(parts, clusters, strict=True):
        for part in of_sample.values():
            if isinstance(part, Units) and part.whole.size < part.unit.size:
                first = np.zeros(part.whole.size, dtype=np.int64)
                first[part.unit[::-1]] = codes[part.place[::-1]]
                apart = codes[part.place] != first[part.unit]
                pairs.append(np.stack([codes[part.place][apart], first[part.unit][apart]]))
    count = max((int(codes.max()) + 1 for codes in clusters if codes.size), default=0)
    if not sum(of.size for of in pairs):
        return np.arange(count)
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ends = np.concatenate(pairs, axis=1)
    graph = coo_array((np.ones(ends.shape[1]), (ends[0], ends[1])), shape=(count, count))
    _, component = connected_components(graph, directed=False)
    joined: Int[np.ndarray, " clusters"] = np.unique(component, return_index=True)[1][component]
    return joined


def _places(parts: Parts) -> dict[str, frozenset[int]]:
    """The responses that each share is of."""
    found: dict[str, frozenset[int]] = {}
    for name, part in parts.items():
        if isinstance(part, MeanOf):
            found[name] = frozenset().union(*(found[of] for of in part.names))
        else:
            found[name] = frozenset(part.place.tolist())
    return found


def _share(units: Units, right: Float[np.ndarray, " responses"], clusters: Int[np.ndarray, " responses"]) -> Share:
    count = units.whole.size
    if not units.whole.any():
        return Share(None, None, count, coins=True)
    wrong = np.bincount(units.unit, 1 - right[units.place], count)
    scores = np.where(units.whole, np.clip(1 - wrong, 0, 1), 0.0)
    cluster = np.zeros(count, dtype=np.int64)
    cluster[units.unit] = clusters[units.place]
    return Share(float(scores.sum() / count), Linear.mean(scores, cluster), count, are_coins(right))


def _mean(parts: Sequence[Share], *, known: bool) -> Share:
    found = [part.linear for part in parts if part.linear is not None]
    units = sum(part.units for part in parts)
    if not found or (len(found) < len(parts) and not known):
        return Share(None, None, units, coins=False)
    values = [part.value for part in parts if part.value is not None]
    mean = Linear.weighted([(1 / len(found), linear) for linear in found])
    return Share(sum(values) / len(values), mean, units, coins=False)


def _over_samples(parts: Sequence[Share]) -> Share:
    mean = _mean(parts, known=True)
    return Share(mean.value, mean.linear, mean.units, all(part.coins for part in parts))
