"""A benchmark's own shares: what each is a share of, and its interval from clustered responses.

A benchmark says once, from its rows alone, which units a share is of: single responses, or several that must all be
right, such as the ten variants of a question. The share of any verdict, the number of responses behind it and the
jackknife's 200 replicates are then a few sums over arrays, whatever the number of responses.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from avar_eval.stats import Estimate, deal_to_groups, jackknifed


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
    values, group = np.asarray(right, dtype=np.float64), np.zeros(len(right), dtype=np.int64)
    return {name: found.value for name, found in _evaluated(parts, values, group, 1).items()}


def share_estimates(
    samples: Sequence[tuple[Parts, Sequence[float], Sequence[Hashable]]],
) -> dict[str, Estimate]:
    """The mean of each share over `samples`, with the interval of the delete-a-group jackknife (`stats.jackknifed`).

    samples: parts, whether each response is right (or how probably), and its cluster; one such triple for each response
    that is drawn to a row. `n` of an estimate counts the responses that its share is of. A share of 0 or 1 has no error
    to measure; its interval is that of as many trials as there are groups that could have changed it.
    """
    clusters = [cluster for _, _, of in samples for cluster in of]
    groups, count = deal_to_groups(clusters)
    found: dict[str, list[_Found]] = {}
    start = 0
    for parts, right, of in samples:
        group = groups[start : start + len(of)]
        start += len(of)
        for name, one in _evaluated(parts, np.asarray(right, dtype=np.float64), group, count).items():
            found.setdefault(name, []).append(one)
    return {name: _estimate(_mean(of, known=True), sum(len(one.places) for one in of)) for name, of in found.items()}


@dataclass(frozen=True)
class _Found:
    """A share, what it is without each group (nan: of nothing), the groups that could change it if it is 0 or 1."""

    value: float | None
    without: Float[np.ndarray, " groups"]
    changeable: Bool[np.ndarray, " groups"]
    places: frozenset[int]


def _evaluated(
    parts: Parts, right: Float[np.ndarray, " responses"], group: Int[np.ndarray, " responses"], count: int
) -> dict[str, _Found]:
    found: dict[str, _Found] = {}
    for name, part in parts.items():
        if isinstance(part, MeanOf):
            found[name] = _mean([found[of] for of in part.names], known=part.known)
        else:
            found[name] = _of_units(part, right, group, count)
    return found


def _of_units(
    units: Units, right: Float[np.ndarray, " responses"], group: Int[np.ndarray, " responses"], count: int
) -> _Found:
    whole, size = units.whole, units.whole.size
    wrong = np.bincount(units.unit, 1 - right[units.place], size)
    members = np.bincount(units.unit, minlength=size)
    scores = np.where(whole, np.clip(1 - wrong, 0, 1), 0.0)
    # what each unit loses with each group that has a part of it
    pairs, pair = np.unique(units.unit * count + group[units.place], return_inverse=True)
    unit, of = pairs // count, pairs % count
    left_wrong = wrong[unit] - np.bincount(pair, 1 - right[units.place], pairs.size)
    gone = np.bincount(pair, minlength=pairs.size) == members[unit]
    left = np.where(gone | ~whole[unit], 0.0, np.clip(1 - left_wrong, 0, 1))
    total = scores.sum() + np.bincount(of, left - scores[unit], count)
    number = size - np.bincount(of, gone, count)
    measured = whole.sum() - np.bincount(of, gone & whole[unit], count) > 0
    without = np.where(measured, total / np.maximum(number, 1), np.nan)
    value = float(scores.sum() / size) if whole.any() else None
    turned = whole[unit] if value == 1 else whole[unit] & (left_wrong < 0.5)
    return _Found(value, without, np.bincount(of, turned, count) > 0, frozenset(units.place.tolist()))


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
        frozenset().union(*(part.places for part in parts)),
    )


def _estimate(found: _Found, n: int) -> Estimate:
    without = found.without[~np.isnan(found.without)].tolist()
    changeable = int(found.changeable.sum()) if found.value in (0, 1) else 0
    return jackknifed(found.value, without, changeable, n)
