"""Groups of keys whose attention mass is of interest."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import torch
from jaxtyping import Bool, Int, Int32
from torch import Tensor

from avar_eval.attention.key_blocks import WORTH, KeyBlocks, pack_groups, to_device

_MOST_RUNS = 32


@dataclass(frozen=True)
class KeyGroups:
    """Groups of keys of a batch, prepared once for many layers. A key may be in several groups or in none.

    host: whether a key is in a group; best on the CPU, for on a GPU preparing waits for it. device: where masses are
    computed. all_keys: attention is to be computed on all keys. by_difference: groups whose mass may be had as 1 minus
    the others' (see `avar_eval.attention.mass`). What each way of computing needs is prepared when it is first asked
    for.
    """

    host: Bool[Tensor, "batch keys groups"]
    device: torch.device
    all_keys: bool = False
    by_difference: tuple[int, ...] = ()
    _part_of: "tuple[KeyGroups, slice] | None" = None

    @classmethod
    def of(cls, membership: Bool[Tensor, "batch keys groups"], by_difference: Sequence[int] = ()) -> "KeyGroups":
        """Groups of a pass over many queries. by_difference: indices of groups."""
        return cls(membership, membership.device, by_difference=tuple(by_difference))

    @classmethod
    def for_few_queries(cls, membership: Bool[Tensor, "batch keys groups"]) -> "KeyGroups":
        """Groups for one query or a few, as decoding has them: picking keys would cost more than all scores."""
        return cls(membership, membership.device, all_keys=True)

    def to(self, device: torch.device) -> "KeyGroups":
        """The same groups on another device."""
        return self if device == self.device else replace(self, device=device)

    def part(self, keys: slice) -> "KeyGroups":
        """Those of a range of keys, for a few queries; what the whole has prepared is used again."""
        return KeyGroups(self.host[:, keys], self.device, all_keys=True, _part_of=(self, keys))

    @property
    def count(self) -> int:
        """How many groups there are."""
        return self.host.shape[-1]

    @cached_property
    def membership(self) -> Bool[Tensor, "batch keys groups"]:
        """Whether a key is in a group, on the device."""
        if self._part_of is not None:
            whole, keys = self._part_of
            return whole.membership[:, keys]
        return to_device(self.host, self.device)

    @cached_property
    def bits(self) -> Int32[Tensor, "batch keys"]:
        """The groups of each key, one bit a group, on the device."""
        if self._part_of is not None:
            whole, keys = self._part_of
            return whole.bits[:, keys]
        return to_device(pack_groups(self.host), self.device)

    @cached_property
    def blocks(self) -> KeyBlocks:
        """The keys in the order in which a GPU's kernels read them."""
        return KeyBlocks.of(self.host.cpu(), self.by_difference, self.device)

    @cached_property
    def span(self) -> range:
        """The smallest range of keys that holds every member of the whole batch."""
        places = self.host.any(-1).any(0).nonzero().flatten().tolist()
        return range(places[0], places[-1] + 1) if places else range(0)

    @cached_property
    def selection(self) -> "Selection":
        """The members apart from the other keys."""
        return Selection.of(self.host, self.host.any(-1)).to(self.device)

    @cached_property
    def residual(self) -> int | None:
        """The largest group whose mass may be had by difference, if that leaves enough keys out; it shares none."""
        in_several = (self.host.sum(-1) > 1)[..., None] & self.host
        sizes = (self.host.sum((0, 1)) * ~in_several.any(1).any(0)).tolist()
        largest = max(self.by_difference, key=sizes.__getitem__, default=None)
        in_none = int((~self.host.any(-1)).sum())
        return largest if largest is not None and sizes[largest] >= in_none + WORTH * len(self.host) else None

    @cached_property
    def without_residual(self) -> "Selection":
        """All keys but those of `residual`, with one group more, of all of them."""
        others = ~self.host[..., self.residual]
        return Selection.of(torch.cat([self.host & others[..., None], others[..., None]], -1), others).to(self.device)

    @cached_property
    def residual_keys(self) -> "Selection":
        """The keys of `residual`, as one group."""
        members = self.host[..., self.residual]
        return Selection.of(members[..., None], members).to(self.device)


@dataclass(frozen=True)
class Selection:
    """The keys that are in any group.

    positions: of each sequence, ascending, filled up with keys that are in none. members: their membership. runs:
    ranges of columns of `positions` whose keys are in the same groups, and these groups, if they are the same for the
    whole batch and few; else None.
    """

    positions: Int[Tensor, "batch members"]
    members: Bool[Tensor, "batch members groups"]
    runs: tuple[tuple[range, tuple[int, ...]], ...] | None
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

    def count_covering(self, last: int) -> int:
        """How many leading `positions` hold, for the whole batch, every member up to and including key `last`."""
        return bisect_right(self._earliest, last)

    def count_up_to(self, last: int) -> int:
        """How many leading `positions` are, in the whole batch, at most key `last`."""
        return bisect_right(self._latest, last)


def _runs(members: Bool[Tensor, "batch members groups"]) -> tuple[tuple[range, tuple[int, ...]], ...] | None:
    if not bool((members == members[:1]).all()):
        return None
    changes = (members[0, 1:] != members[0, :-1]).any(-1).nonzero().flatten() + 1
    if len(changes) >= _MOST_RUNS:
        return None
    edges = [0, *changes.tolist(), members.shape[1]]
    runs = [range(start, stop) for start, stop in pairwise(edges) if start < stop]
    return tuple((run, tuple(members[0, run.start].nonzero().flatten().tolist())) for run in runs)
