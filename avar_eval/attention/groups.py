"""Groups of keys whose attention mass is of interest."""

from bisect import bisect_right
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor


@dataclass(frozen=True)
class KeyGroups:
    """Groups of keys of a batch, prepared once for many layers. A key may be in several groups or in none.

    membership: whether a key is in a group. span: the smallest range of keys that holds every member of the whole
    batch. selection: the members apart from the other keys; None where attention is to be computed on all keys.
    """

    membership: Bool[Tensor, "batch keys groups"]
    span: range
    selection: "Selection | None"

    @classmethod
    def of(cls, membership: Bool[Tensor, "batch keys groups"]) -> "KeyGroups":
        """Prepare groups; `membership` is best on the CPU, for on a GPU this waits for it."""
        used = membership.any(-1)
        places = used.any(0).nonzero().flatten().tolist()
        span = range(places[0], places[-1] + 1) if places else range(0)
        return cls(membership, span, Selection.of(membership, used))

    @classmethod
    def of_few_queries(cls, membership: Bool[Tensor, "batch keys groups"]) -> "KeyGroups":
        """Groups for one query or a few, as decoding has them: picking keys would cost more than all scores."""
        return cls(membership, range(membership.shape[1]), None)

    def to(self, device: torch.device) -> "KeyGroups":
        """The same groups on another device."""
        selection = None if self.selection is None else self.selection.to(device)
        return KeyGroups(self.membership.to(device), self.span, selection)


@dataclass(frozen=True)
class Selection:
    """The keys that are in any group.

    positions: of each sequence, ascending, filled up with keys that are in none. members: their membership. runs: of
    each group, its columns of `positions`, if these are without gaps and the same for the whole batch; None if any
    group is not like that.
    """

    positions: Int[Tensor, "batch members"]
    members: Bool[Tensor, "batch members groups"]
    runs: tuple[range, ...] | None
    _earliest: tuple[int, ...]
    _latest: tuple[int, ...]

    @classmethod
    def of(cls, membership: Bool[Tensor, "batch keys groups"], used: Bool[Tensor, "batch keys"]) -> "Selection":
        """Find the keys that are in use."""
        count = int(used.sum(1).amax())
        positions = (~used).to(torch.uint8).argsort(dim=1, stable=True)[:, :count]
        filling = ~used.gather(1, positions)
        earliest = positions.masked_fill(filling, membership.shape[1]).amin(0)
        latest = positions.cummax(1).values.amax(0)
        members = membership.take_along_dim(positions[..., None], 1)
        return cls(positions, members, _runs(members), tuple(earliest.tolist()), tuple(latest.tolist()))

    def to(self, device: torch.device) -> "Selection":
        """The same keys on another device."""
        return Selection(self.positions.to(device), self.members.to(device), self.runs, self._earliest, self._latest)

    def needed(self, last: int) -> int:
        """How many leading `positions` hold, for the whole batch, every member up to and including key `last`."""
        return bisect_right(self._earliest, last)

    def before(self, last: int) -> int:
        """How many leading `positions` are, in the whole batch, at most key `last`."""
        return bisect_right(self._latest, last)


def _runs(members: Bool[Tensor, "batch members groups"]) -> tuple[range, ...] | None:
    if not bool((members == members[:1]).all()):
        return None
    runs = []
    for group in members[0].T:
        columns = group.nonzero().flatten().tolist() or [0]
        run = range(columns[0], columns[0] + int(group.sum()))
        if len(run) > 0 and columns[-1] != run[-1]:
            return None
        runs.append(run)
    return tuple(runs)
