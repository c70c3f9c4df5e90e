"""What an estimate is, and which observations belong together."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

Z_95 = NormalDist().inv_cdf(0.975)

Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
Codes = np.ndarray[tuple[int], np.dtype[np.int64]]


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


UNKNOWN = Estimate(None, None, 0)


def cluster_codes(clusters: Sequence[Hashable] | None, n: int) -> Codes:
    """A number from 0 for each of n observations, the same for those of one cluster; without clusters all differ.

    Numbers go by first appearance. Raises ValueError where there are not n clusters.
    """
    if clusters is None:
        return np.arange(n)
    if len(clusters) != n:
        raise ValueError(f"{n} values but {len(clusters)} clusters")
    numbers: dict[Hashable, int] = {}
    return np.fromiter((numbers.setdefault(one, len(numbers)) for one in clusters), np.int64, n)
