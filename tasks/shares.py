"""A benchmark's own shares: what each is a share of, and its interval from clustered responses.

A benchmark says once, from its rows alone, which units a share is of: single responses, or several that must all be
right, such as the ten variants of a question. The share of any verdict, the number of responses behind it and the
jackknife's 200 replicates are then a few sums over arrays, whatever the number of responses.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from avar_eval.statistics import Estimate, deal_to_groups, jackknifed


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
    grouped = _in_groups(parts, np.zeros(len(right), dtype=np.int64), 1)
    return {name: found.value for name, found in _evaluated(grouped, right).items()}


class Shares:
    """A benchmark's own shares of certain responses, and all that is known before any of them is judged.

    Many verdicts on the same rows, of several rules or several models, then cost a few sums each.
    """

    def __init__(self, samples: Sequence[tuple[Parts, Sequence[Hashable]]]) -> None:
        """samples: parts, and the cluster of each response; one such pair for each response that is drawn to a row."""
        groups, count = deal_to_groups([cluster for _, of in samples for cluster in of])
        self._samples: list[Mapping[str, _Grouped | MeanOf]] = []
        self._n: dict[str, int] = {}
        start = 0
        for parts, of in samples:
            self._samples.append(_in_groups(parts, groups[start : start + len(of)], count))
            start += len(of)
            for name, places in _places(parts).items():
                self._n[name] = self._n.get(name, 0) + len(places)

    def estimates(self, right: Sequence[Sequence[float]]) -> dict[str, Estimate]:
        """The mean of each share over samples, with the interval of the delete-a-group jackknife (`jackknifed`).

        right: of each sample's responses whether they are, or how probably. `n` of an estimate counts the responses
        that its share is of. A share of 0 or 1 has no error to measure; its interval is that of as many trials as there
        are groups that could have changed it.
        """
        found: dict[str, list[_Found]] = {}
        for grouped, of in zip(self._samples, right, strict=True):
            for name, one in _evaluated(grouped, of).items():
                found.setdefault(name, []).append(one)
        return {name: _estimate(_mean(of, known=True), self._n[name]) for name, of in found.items()}


def _places(parts: Parts) -> dict[str, frozenset[int]]:
    """The responses that each share is of."""
    found: dict[str, frozenset[int]] = {}
    for name, part in parts.items():
        if isinstance(part, MeanOf):
            found[name] = frozenset().union(*(found[of] for of in part.names))
        else:
            found[name] = frozenset(part.place.tolist())
    return found


@dataclass(frozen=True)
class _Found:
    """A share, what it is without each group (nan: of nothing), the groups that could change it if it is 0 or 1."""

    value: float | None
    without: Float[np.ndarray, " groups"]
    changeable: Bool[np.ndarray, " groups"]


@dataclass(frozen=True)
class _Grouped:
    """Units, and which of their responses each group of the jackknife takes away.

    unit, of: the unit and the group of each pair that has responses in common; pair: of each response, its pair.
    gone: whether the group has all that the pair's unit consists of. number: units that are left without each group.
    measured: whether one of those is whole.
    """

    units: Units
    pair: Int[np.ndarray, " members"]
    unit: Int[np.ndarray, " pairs"]
    of: Int[np.ndarray, " pairs"]
    gone: Bool[np.ndarray, " pairs"]
    number: Int[np.ndarray, " groups"]
    measured: Bool[np.ndarray, " groups"]

    @classmethod
    def by(cls, units: Units, group: Int[np.ndarray, " responses"], count: int) -> "_Grouped":
        """group: of each response, from 0 to count."""
        whole, size = units.whole, units.whole.size
        pairs, pair = np.unique(units.unit * count + group[units.place], return_inverse=True)
        unit, of = pairs // count, pairs % count
        gone = np.bincount(pair, minlength=pairs.size) == np.bincount(units.unit, minlength=size)[unit]
        number = size - np.bincount(of[gone], minlength=count)
        measured = whole.sum() - np.bincount(of[gone & whole[unit]], minlength=count) > 0
        return cls(units, pair, unit, of, gone, number, measured)

    def evaluated(self, right: Float[np.ndarray, " responses"]) -> _Found:
        """The share where the responses are right as given."""
        units, unit, whole, count = self.units, self.unit, self.units.whole, self.number.size
        missed = 1 - right[units.place]
        wrong = np.bincount(units.unit, missed, whole.size)
        scores = np.where(whole, np.clip(1 - wrong, 0, 1), 0.0)
        # what is left of each unit with each group that has a part of it
        left_wrong = wrong[unit] - np.bincount(self.pair, missed, unit.size)
        left = np.where(self.gone | ~whole[unit], 0.0, np.clip(1 - left_wrong, 0, 1))
        total = scores.sum() + np.bincount(self.of, left - scores[unit], count)
        without = np.where(self.measured, total / np.maximum(self.number, 1), np.nan)
        value = float(scores.sum() / whole.size) if whole.any() else None
        turned = whole[unit] if value == 1 else whole[unit] & (left_wrong < 0.5)
        return _Found(value, without, np.bincount(self.of, turned, count) > 0)


def _in_groups(parts: Parts, group: Int[np.ndarray, " responses"], count: int) -> dict[str, _Grouped | MeanOf]:
    return {name: part if isinstance(part, MeanOf) else _Grouped.by(part, group, count) for name, part in parts.items()}


def _evaluated(grouped: Mapping[str, _Grouped | MeanOf], right: Sequence[float]) -> dict[str, _Found]:
    values = np.asarray(right, dtype=np.float64)
    found: dict[str, _Found] = {}
    for name, part in grouped.items():
        if isinstance(part, MeanOf):
            found[name] = _mean([found[of] for of in part.names], known=part.known)
        else:
            found[name] = part.evaluated(values)
    return found


def _mean(parts: Sequence[_Found], *, known: bool) -> _Found:
    values = [part.value for part in parts if part.value is not None]
    stacked = np.stack([part.without for part in parts])
    there = ~np.isnan(stacked)
    enough = there.any(0) if known else there.all(0)
    without = np.where(enough, np.where(there, stacked, 0).sum(0) / np.maximum(there.sum(0), 1), np.nan)
    return _Found(
        sum(values) / len(values) if values and (known or len(values) == len(parts)) else None,
        without,
        np.logical_or.reduce([part.changeable for part in parts]),
    )


def _estimate(found: _Found, n: int) -> Estimate:
    without = found.without[~np.isnan(found.without)].tolist()
    changeable = int(found.changeable.sum()) if found.value in (0, 1) else 0
    return jackknifed(found.value, without, changeable, n)
