"""Attention mass: how much of a query's softmax attention falls on each group of keys, without a whole attention map.

The mass of query i on group g is a ratio of two softmax normalisers,

    mass_g(i) = sum_{j in g} A_ij = sum_{j in g} exp(s_ij - lse_i),    lse_i = log sum_j exp(s_ij),

with scores s and attention A = softmax(s). lse_i is a by-product of every flash kernel (`normaliser.py`), so the
forward pass only needs the queries of interest times the keys that belong to a group. The gradient,

    dL/ds_ij = A_ij * (sum_g [j in g] dL/dmass_g(i)  -  sum_g mass_g(i) dL/dmass_g(i)),

is recomputed block by block from the same lse, over the queries of interest only. Both are exact, on any device, and
their memory is linear in the length of the sequence.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from avar_eval.attention.visibility import Visibility, as_index

_BLOCK_ELEMENTS = {"cpu": 1 << 19}
_BLOCK_ELEMENTS_ELSEWHERE = 1 << 26
"""Scores computed at a time: what a CPU core's cache holds, what keeps a GPU busy."""


@dataclass(frozen=True)
class KeyGroups:
    """Groups of keys of a batch, prepared once for many layers. A key may be in several groups or in none.

    membership: whether a key is in a group. positions: of each sequence, the keys that are in any group, ascending,
    filled up with keys that are in none. members: their membership.
    """

    membership: Bool[Tensor, "batch keys groups"]
    positions: Int[Tensor, "batch members"]
    members: Bool[Tensor, "batch members groups"]
    _earliest: tuple[int, ...]
    _latest: tuple[int, ...]

    @classmethod
    def of(cls, membership: Bool[Tensor, "batch keys groups"]) -> "KeyGroups":
        """Prepare groups; `membership` is best on the CPU, for on a GPU this waits for it."""
        used = membership.any(-1)
        count = int(used.sum(1).amax())
        positions = (~used).to(torch.uint8).argsort(dim=1, stable=True)[:, :count]
        filling = ~used.gather(1, positions)
        earliest = positions.masked_fill(filling, membership.shape[1]).amin(0)
        latest = positions.cummax(1).values.amax(0)
        members = membership.take_along_dim(positions[..., None], 1)
        return cls(membership, positions, members, tuple(earliest.tolist()), tuple(latest.tolist()))

    def to(self, device: torch.device) -> "KeyGroups":
        """The same groups on another device."""
        return KeyGroups(
            self.membership.to(device),
            self.positions.to(device),
            self.members.to(device),
            self._earliest,
            self._latest,
        )

    def needed(self, last: int) -> int:
        """How many leading `positions` hold, for the whole batch, every member up to and including key `last`."""
        return bisect_right(self._earliest, last)

    def before(self, last: int) -> int:
        """How many leading `positions` are, in the whole batch, at most key `last`."""
        return bisect_right(self._latest, last)


@dataclass(frozen=True)
class _Call:
    """What stays the same over the blocks of one call."""

    queries: Sequence[int]
    groups: KeyGroups
    visibility: Visibility
    scaling: float
    softcap: float | None


def attention_mass(
    query: Float[Tensor, "batch heads queries dim"],
    key: Float[Tensor, "batch kv_heads keys dim"],
    groups: KeyGroups,
    visibility: Visibility,
    *,
    scaling: float,
    rows: Sequence[int] | None = None,
    lse: Float[Tensor, "batch heads queries"] | None = None,
    softcap: float | None = None,
) -> Float[Tensor, "batch heads rows groups"]:
    """The share (0..1) of each query's attention that falls on each key group, in float32 (float64 for such inputs).

    rows: the queries of interest, ascending (default: all). lse: the natural logarithm of the softmax normaliser of
    every query, if the attention kernel has given it; else it is computed in blocks. softcap: scores become
    softcap * tanh(score / softcap). Grouped-query attention: heads is a multiple of kv_heads. A query that sees no key
    has mass 0. Differentiable once with respect to query and key.
    """
    chosen = range(query.shape[2]) if rows is None else rows
    call = _Call(chosen, groups, visibility, scaling, softcap)
    wanted = _rows(query, chosen)
    if lse is None:
        with torch.no_grad():
            normaliser = _blockwise_lse(wanted, key, call)
    else:
        normaliser = _rows(lse.detach(), chosen)
    masses: Tensor = _AttentionMass.apply(wanted, key, _harmless(normaliser), call)
    return masses


class _AttentionMass(torch.autograd.Function):
    """Masses from the normaliser, with the gradient through both the scores of a group and the normaliser itself."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, lse: Tensor, call: _Call) -> Tensor:
        masses = _masses(query, key, lse, call)
        ctx.save_for_backward(query, key, lse, masses)
        ctx.call = call
        return masses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        query, key, lse, masses = ctx.saved_tensors
        query_gradient, key_gradient = _gradients(query, key, lse, masses, gradient, ctx.call)
        return query_gradient, key_gradient, None, None


def _masses(query: Tensor, key: Tensor, lse: Tensor, call: _Call) -> Tensor:
    groups, dtype = call.groups, _exact(query.dtype)
    index = groups.positions[:, None, :, None].expand(-1, key.shape[1], -1, key.shape[3])
    keys = _with_ones(key.gather(2, index).to(dtype))
    members = groups.members.to(dtype)[:, None]
    masses = query.new_zeros(*query.shape[:3], members.shape[-1], dtype=dtype)
    for block in _blocks(query, keys.shape[2]):
        queries = call.queries[block]
        count = groups.needed(call.visibility.key_range(queries, key.shape[2]).stop - 1)
        safe = min(count, groups.before(queries[0] + call.visibility.offset))
        attention = _attention(
            query[:, :, block], keys[:, :, :count], lse[:, :, block], call, queries, groups.positions[:, :count], safe
        )
        masses[:, :, block] = (attention @ members[:, :, :count]).view(masses[:, :, block].shape)
    return masses


def _gradients(
    query: Tensor, key: Tensor, lse: Tensor, masses: Tensor, gradient: Tensor, call: _Call
) -> tuple[Tensor, Tensor]:
    """dL/dquery and dL/dkey; see the module's second equation."""
    dtype = _exact(query.dtype)
    keys = _with_ones(key.to(dtype))
    query_gradient, key_gradient = torch.empty_like(query), torch.zeros_like(key, dtype=dtype)
    # sum_g [j in g] dmass_g(i) - sum_g mass_g(i) dmass_g(i), as a product with the membership and a column of ones
    rank = torch.cat([gradient, -(gradient * masses).sum(-1, keepdim=True)], -1)
    columns = _with_ones(call.groups.membership.to(dtype)).transpose(1, 2)[:, None]
    for block in _blocks(query, key.shape[2]):
        queries, rows = call.queries[block], query[:, :, block]
        seen, positions, safe = _seen(call, queries, key)
        attention = _attention(rows, keys[:, :, seen], lse[:, :, block], call, queries, positions, safe)
        slope = attention.mul_(_shared(rank[:, :, block], key) @ columns[..., seen])
        if call.softcap is not None:
            slope = slope.mul_(_softcap_slope(rows, keys[:, :, seen, :-1], call.scaling / call.softcap))
        query_gradient[:, :, block] = (slope @ keys[:, :, seen, :-1]).mul_(call.scaling).view(rows.shape)
        key_gradient[:, :, seen] += slope.transpose(-1, -2) @ (_shared(rows, key).to(dtype) * call.scaling)
    return query_gradient, key_gradient.to(key.dtype)


def _seen(call: _Call, queries: Sequence[int], key: Tensor) -> tuple[slice, Int[Tensor, "1 seen"], int]:
    """The keys these queries can see, their positions, and how many of the first are seen by all (as to causality)."""
    seen = call.visibility.key_range(queries, key.shape[2])
    safe = min(len(seen), max(0, queries[0] + call.visibility.offset + 1 - seen.start))
    return slice(seen.start, seen.stop), as_index(seen, key.device)[None], safe


def _attention(
    query: Tensor, keys: Tensor, lse: Tensor, call: _Call, queries: Sequence[int], positions: Tensor, safe: int
) -> Float[Tensor, "batch kv_heads per_kv_rows members"]:
    """A_ij of a block of queries; `keys` end in a column of ones, so that one product gives s_ij - lse_i."""
    rows = _shared(query, keys).to(keys.dtype) * call.scaling
    minus_lse = -_shared(lse[..., None], keys)
    if call.softcap is None:
        scores = torch.cat([rows, minus_lse], -1) @ keys.transpose(-1, -2)
    else:
        scores = _capped(rows @ keys[..., :-1].transpose(-1, -2), call.softcap).add_(minus_lse)
    return _hidden(scores, query, call, queries, positions, safe).exp_()


def _hidden(
    scores: Tensor, query: Tensor, call: _Call, queries: Sequence[int], positions: Tensor, safe: int
) -> Float[Tensor, "batch kv_heads per_kv_rows members"]:
    by_row = scores.view(*scores.shape[:2], scores.shape[2] // query.shape[2], query.shape[2], scores.shape[3])
    return call.visibility.hide(by_row, queries, positions, safe).flatten(2, 3)


def _capped(scores: Tensor, softcap: float) -> Tensor:
    return scores.div_(softcap).tanh_().mul_(softcap)


def _softcap_slope(query: Tensor, keys: Tensor, scaling: float) -> Float[Tensor, "batch kv_heads per_kv_rows keys"]:
    """d capped / d score = 1 - tanh(score / softcap)^2; scaling: from products to score / softcap."""
    rows = _shared(query, keys).to(keys.dtype) * scaling
    return 1 - (rows @ keys.transpose(-1, -2)).tanh_() ** 2


def _blockwise_lse(query: Tensor, key: Tensor, call: _Call) -> Float[Tensor, "batch heads rows"]:
    """The softmax normaliser over all keys, for kernels that do not give theirs."""
    key = key.to(_exact(key.dtype))
    lse = key.new_empty(query.shape[:3])
    for block in _blocks(query, key.shape[2]):
        queries, rows = call.queries[block], query[:, :, block]
        seen, positions, safe = _seen(call, queries, key)
        scores = (_shared(rows, key).to(key.dtype) * call.scaling) @ key[:, :, seen].transpose(-1, -2)
        if call.softcap is not None:
            scores = _capped(scores, call.softcap)
        lse[:, :, block] = _hidden(scores, rows, call, queries, positions, safe).logsumexp(-1).view(rows.shape[:3])
    return lse


def _harmless(lse: Tensor) -> Tensor:
    """+inf for a query that sees no key (kernels give -inf, 0 or nan there): its masses and gradients become 0."""
    return torch.where(lse.isfinite(), lse, float("inf")).to(_exact(lse.dtype))


def _rows(tensor: Tensor, rows: Sequence[int]) -> Tensor:
    """The given rows of dimension 2; a range is a view."""
    if isinstance(rows, range) and rows.step == 1:
        return tensor[:, :, rows.start : rows.stop]
    return tensor.index_select(2, as_index(rows, tensor.device))


def _shared(rows: Float[Tensor, "batch heads rows x"], key: Tensor) -> Float[Tensor, "batch kv_heads per_kv_rows x"]:
    """Rows of the query heads that share a key head, one after the other."""
    batch, heads, count, width = rows.shape
    return rows.reshape(batch, key.shape[1], heads // key.shape[1] * count, width)


def _with_ones(values: Tensor) -> Tensor:
    return torch.cat([values, values.new_ones(*values.shape[:-1], 1)], -1)


def _blocks(query: Tensor, keys: int) -> Iterator[slice]:
    elements = _BLOCK_ELEMENTS.get(query.device.type, _BLOCK_ELEMENTS_ELSEWHERE)
    size = max(16, elements // max(1, query.shape[0] * query.shape[1] * keys))
    for start in range(0, query.shape[2], size):
        yield slice(start, min(start + size, query.shape[2]))


def _exact(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)
