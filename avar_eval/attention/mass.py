"""Attention mass: how much of a query's softmax attention falls on each group of keys, without a whole attention map.

The mass of query i on group g is a ratio of two softmax normalisers,

    mass_g(i) = sum_{j in g} A_ij = sum_{j in g} exp(s_ij - lse_i),    lse_i = log sum_j exp(s_ij),

with scores s and attention A = softmax(s). lse_i is a by-product of every flash kernel (`normaliser.py`), so the
forward pass only needs the queries of interest times the keys that belong to a group. The gradient,

    dL/ds_ij = A_ij * (sum_g [j in g] dL/dmass_g(i)  -  sum_g mass_g(i) dL/dmass_g(i)),

is recomputed block by block from the same lse, over the queries of interest only. Both are exact, on any device, and
their memory is linear in the length of the sequence.

One large group that `KeyGroups.by_difference` names may be had as 1 minus the mass on all other keys, which its own
need not be read for. That carries the rounding of the other masses and of lse, in float32 an absolute error of up to
5e-6, as masses near 1 have it. It is done only where the result is at least 1/256 for every query of a block; below
that, and where a query sees nothing else, the group's keys are read. So it is never negative, 0 stays 0, and its
relative error is at most 1e-3. The gradient reads all keys.

On a GPU with tensor cores Triton kernels do the same (`triton_mass.py`), on CPUs, and for what they do not know, the
blockwise PyTorch code below, which is their reference.
"""

import math
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from avar_eval.attention.groups import KeyGroups, Selection
from avar_eval.attention.key_blocks import MOST_GROUPS
from avar_eval.attention.problem import AttentionProblem
from avar_eval.attention.visibility import Visibility, as_index

_LOG2_E = math.log2(math.e)
_BLOCK_ELEMENTS = {"cpu": 1 << 21}
_BLOCK_ELEMENTS_ELSEWHERE = 1 << 26
_TILE_KEYS = {"cpu": 512}
_TILE_KEYS_ELSEWHERE = 8192
"""Scores and keys of a block: what a CPU's caches hold, what keeps a GPU busy."""
_DOUBTFUL = 1 / 256
"""A mass by difference that is below this is read instead."""
_KERNELS_WIDEST = 256
"""The largest head dimension of the Triton kernels."""
_KEPT_BYTES = 1 << 24
"""The most that a thread keeps for scores: a block of the above, in float64."""


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
    sink: Float[Tensor, " heads"] | None = None,
) -> Float[Tensor, "batch heads rows groups"]:
    """The share (0..1) of each query's attention that falls on each key group, in float32 (float64 for such inputs).

    rows: the queries of interest, ascending (default: all). lse: the natural logarithm of the softmax normaliser of
    every query, if the attention kernel has given it; else it is computed in blocks. softcap: scores become
    softcap * tanh(score / softcap). sink: a logit that each head has learnt and that holds no key (gpt-oss' `s_aux`):
    it has the attention that keys leave, and lse counts keys alone. Grouped-query attention: heads is a multiple of
    kv_heads. A query that sees no key has mass 0. Differentiable once with respect to query, key and sink.
    """
    chosen = range(query.shape[2]) if rows is None else rows
    call = AttentionProblem(chosen, groups, visibility, scaling, softcap)
    by_kernels = len(chosen) > 0 and _kernels_support(query, key, groups, visibility)
    if by_kernels and sink is None:
        return _by_kernels(query, key, lse, call)
    wanted = _rows(query, chosen)
    if groups.all_keys:
        return _masses_on_all_keys(wanted, key, call, sink)
    if lse is not None:
        normaliser = _rows(lse.detach(), chosen)
    else:
        normaliser = attention_normaliser(query, key, visibility, scaling=scaling, rows=chosen, softcap=softcap)
    if sink is None:
        # in half precision a CPU's kernel has its normaliser from approximate exponentials
        exact = query.device.type == "cpu" and query.dtype in (torch.float32, torch.float64)
        rest = groups.residual if exact and groups.by_difference else None
        masses: Tensor = _AttentionMass.apply(wanted, key, _finite_lse(normaliser), call, rest)
        return masses
    logit = sink.to(_exact(normaliser.dtype))[:, None]
    normaliser = torch.logaddexp(normaliser.masked_fill(~normaliser.isfinite(), float("-inf")), logit.detach())
    if by_kernels:
        masses = _by_kernels(query, key, normaliser, call, without_sink=True)
    else:
        masses = _AttentionMass.apply(wanted, key, normaliser, call, None)
    # 1, with the slope of the normaliser in the sink: the share of attention that the sink has
    share = (logit.detach() - normaliser).exp()
    return masses * (share * (logit.detach() - logit)).exp()[..., None]


def attention_normaliser(
    query: Float[Tensor, "batch heads queries dim"],
    key: Float[Tensor, "batch kv_heads keys dim"],
    visibility: Visibility,
    *,
    scaling: float,
    rows: Sequence[int],
    softcap: float | None = None,
) -> Float[Tensor, "batch heads rows"]:
    """The natural logarithm of the softmax normaliser of the given queries, computed in blocks; no gradient.

    Of a query that sees no key it is -inf. The arguments are those of `attention_mass`.
    """
    nothing = KeyGroups.for_few_queries(torch.zeros(1, key.shape[2], 0, dtype=torch.bool, device=key.device))
    call = AttentionProblem(rows, nothing, visibility, scaling, softcap)
    if len(rows) > 0 and _kernels_support(query, key, nothing, visibility):
        from avar_eval.attention import triton_mass  # imported here: PyTorch for CPUs comes without Triton

        return triton_mass.normaliser(query, key, call)
    return _blockwise_lse(_rows(query, rows), key, call)


def _kernels_support(query: Tensor, key: Tensor, groups: KeyGroups, visibility: Visibility) -> bool:
    """Whether the Triton kernels compute these masses: on a GPU with tensor cores, whatever they know."""
    return (
        kernels_run_on(query.device)
        and query.dtype == key.dtype
        and query.dtype in (torch.bfloat16, torch.float16, torch.float32)
        and query.shape[-1] <= _KERNELS_WIDEST
        and groups.count <= MOST_GROUPS
        and visibility.mask_function is None
    )


@cache
def kernels_run_on(device: torch.device) -> bool:
    """Whether the Triton kernels run there; elsewhere masses are computed in blocks by PyTorch."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


def _by_kernels(
    query: Tensor, key: Tensor, lse: Tensor | None, call: AttentionProblem, without_sink: bool = False
) -> Tensor:
    from avar_eval.attention import triton_mass  # see attention_normaliser

    return triton_mass.attention_mass(query, key, lse, call, without_sink)


def _masses_on_all_keys(query: Tensor, key: Tensor, call: AttentionProblem, sink: Tensor | None) -> Tensor:
    """Masses from all scores at once: for one query, or a few."""
    dtype, rows, length = _exact(query.dtype), query.shape[2], key.shape[2]
    in_twos = call.softcap is None and _has_boolean_mask(call.visibility)
    scaled = _group_query_heads(query, key).to(dtype) * (call.scaling * _LOG2_E if in_twos else call.scaling)
    scores = _scores(scaled, key.to(dtype))
    if call.softcap is not None:
        scores = call.softcap * (scores / call.softcap).tanh()
    by_row = scores.view(len(scores), key.shape[1], -1, rows, length)
    safe = min(max(call.queries[0] + call.visibility.offset + 1, 0), length)
    positions = as_index(range(length), key.device)[None]
    call.visibility.hide(by_row, call.queries, positions, safe)
    scores = scores.flatten(1, 2)
    largest = scores.detach().amax(-1, keepdim=True)
    if sink is not None:
        logit = (sink.to(dtype) * (_LOG2_E if in_twos else 1)).repeat_interleave(rows)[:, None]
        largest = largest.maximum(logit.detach())
    scores.sub_(largest.masked_fill(largest.isinf(), 0))  # of a padding query, which sees no key
    weights = scores.exp2_() if in_twos else scores.exp_()
    total = weights.sum(-1)
    if sink is not None:
        of_sink = logit - largest
        total = total + (of_sink.exp2() if in_twos else of_sink.exp())[..., 0]
    # many rows to the right: a product with a thin matrix there takes longer than the scores
    sums = call.groups.membership.to(dtype).transpose(1, 2) @ weights.transpose(1, 2)
    masses = sums / total.masked_fill(total == 0, 1)[:, None]
    return masses.transpose(1, 2).reshape(*query.shape[:3], -1)


class _AttentionMass(torch.autograd.Function):
    """Masses from the normaliser, with the gradient through both the scores of a group and the normaliser itself."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, lse: Tensor, call: AttentionProblem, rest: int | None) -> Tensor:
        masses = _masses(query, key, lse, call, rest)
        ctx.save_for_backward(query, key, lse, masses)
        ctx.call = call
        return masses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        query, key, lse, masses = ctx.saved_tensors
        with torch.autocast(query.device.type, enabled=False):  # backward() may be called within one
            query_gradient, key_gradient = _gradients(query, key, lse, masses, gradient, ctx.call)
        return query_gradient, key_gradient, None, None, None


def _masses(query: Tensor, key: Tensor, lse: Tensor, call: AttentionProblem, rest: int | None) -> Tensor:
    """Masses of all groups; that of group `residual` by difference."""
    groups = call.groups
    selected = _SelectedKeys.of(key, groups.selection if rest is None else groups.without_residual)
    masses = query.new_empty(*query.shape[:3], groups.count, dtype=_exact(query.dtype))
    residual_keys: _SelectedKeys | None = None
    for block in _blocks(query, selected.keys.shape[2]):
        rows = _Rows.of(query, lse, call, block, key)
        sums = selected.sums(rows)
        if rest is not None:
            sums, others = sums[..., :-1], sums[..., -1]
            known = rows.minus_lse[..., 0].isfinite()
            left = torch.where(known, 1 - others, 0.0)
            # a query that sees nothing else may see nothing at all
            if bool((known & ((left < _DOUBTFUL) | (others == 0))).any()):
                residual_keys = residual_keys or _SelectedKeys.of(key, groups.residual_keys)
                left = residual_keys.sums(rows)[..., 0]
            sums[..., rest] = left
        masses[:, :, block] = sums.view(masses[:, :, block].shape)
    return masses


@dataclass(frozen=True)
class _SelectedKeys:
    """Keys of a selection, ending in a column of ones (see `_Rows.attention`), and their membership."""

    selection: Selection
    keys: Float[Tensor, "batch kv_heads members dim_and_1"]
    members: Float[Tensor, "batch 1 members groups"]
    length: int

    @classmethod
    def of(cls, key: Tensor, selection: Selection) -> "_SelectedKeys":
        dtype = _exact(key.dtype)
        index = selection.positions[:, None, :, None].expand(-1, key.shape[1], -1, key.shape[3])
        keys = _column_major(_append_ones(key.gather(2, index).to(dtype)))
        return cls(selection, keys, selection.members.to(dtype)[:, None], key.shape[2])

    def sums(self, rows: "_Rows") -> Float[Tensor, "batch kv_heads per_kv_rows groups"]:
        """The mass of a block of queries on each group."""
        selection, visibility = self.selection, rows.call.visibility
        count = selection.count_covering(visibility.key_range(rows.queries, self.length).stop - 1)
        if not count:
            return rows.scaled.new_zeros(*rows.scaled.shape[:3], self.members.shape[-1])
        safe = min(count, selection.count_up_to(rows.queries[0] + visibility.offset))
        attention = rows.attention(self.keys[:, :, :count], selection.positions[:, :count], safe)
        if selection.runs is None:
            return attention @ self.members[:, :, :count]
        # adding up runs is faster than a thin product
        sums = attention.new_zeros(*attention.shape[:3], self.members.shape[-1])
        for run, groups in selection.runs:
            if run.start < count and groups:
                sums[..., list(groups)] += attention[..., run.start : run.stop].sum(-1, keepdim=True)
        return sums


def _gradients(
    query: Tensor, key: Tensor, lse: Tensor, masses: Tensor, gradient: Tensor, call: AttentionProblem
) -> tuple[Tensor, Tensor]:
    """dL/dquery and dL/dkey; see the module's second equation."""
    dtype = _exact(query.dtype)
    keys = _append_ones(key.to(dtype))
    by_column = _column_major(keys)
    query_gradient, key_gradient = torch.empty_like(query), key.new_zeros(key.shape, dtype=dtype)
    membership = _append_ones(call.groups.membership.to(dtype)).transpose(1, 2)[:, None]
    offsets = -(gradient * masses).sum(-1, keepdim=True)
    for block in _blocks(query, min(key.shape[2], _tile(key))):
        rows = _Rows.of(query, lse, call, block, key)
        offset = _group_query_heads(offsets[:, :, block], key)
        slopes = torch.cat([_group_query_heads(gradient[:, :, block], key), offset], -1)
        inside, outside = (rows.scaled.new_zeros(rows.scaled.shape) for _ in range(2))
        for tile, in_groups in _tiles(call, rows.queries, key):
            part = keys[:, :, tile]
            attention = rows.attention_tile(by_column[:, :, tile], tile)
            into = key_gradient[:, :, tile]
            if in_groups:  # sum_g [j in g] dmass_g(i) - sum_g mass_g(i) dmass_g(i)
                attention = attention.mul_(slopes @ membership[..., tile])
                _add_product(inside, attention, part[..., :-1])
                _add_product(into, attention.transpose(-1, -2), rows.scaled)
            else:  # only the second sum, the same for all keys
                _add_product(outside, attention, part[..., :-1])
                _add_product(into, attention.transpose(-1, -2), rows.scaled * offset)
        inside.addcmul_(outside, offset).mul_(call.scaling)
        query_gradient[:, :, block] = inside.view(query_gradient[:, :, block].shape)
    return query_gradient, key_gradient.to(key.dtype)


def _add_product(into: Tensor, left: Tensor, right: Tensor) -> None:
    """into += left @ right; `into` is contiguous but perhaps for its third dimension."""
    into.view(-1, *into.shape[2:]).baddbmm_(left.flatten(0, 1), right.flatten(0, 1))


@dataclass(frozen=True)
class _Rows:
    """A block of queries, prepared: those that share a key head one after the other, times the scaling, and -lse."""

    call: AttentionProblem
    queries: Sequence[int]
    scaled: Float[Tensor, "batch kv_heads per_kv_rows dim"]
    minus_lse: Float[Tensor, "batch kv_heads per_kv_rows 1"]

    @classmethod
    def of(cls, query: Tensor, lse: Tensor, call: AttentionProblem, block: slice, key: Tensor) -> "_Rows":
        scaled = _group_query_heads(query[:, :, block], key).to(lse.dtype) * call.scaling
        return cls(call, call.queries[block], scaled, -_group_query_heads(lse[:, :, block, None], key))

    def attention(
        self, keys: Tensor, positions: Int[Tensor, "batch_or_1 members"], safe: int
    ) -> Float[Tensor, "batch kv_heads per_kv_rows members"]:
        """A_ij on `keys`, which end in a column of ones, so that one product gives s_ij - lse_i."""
        softcap = self.call.softcap
        if softcap is not None:
            scores = self._products(keys).div_(softcap).tanh_().mul_(softcap).add_(self.minus_lse)
            return self._hidden(scores, positions, safe).exp_()
        rows = torch.cat([self.scaled, self.minus_lse], -1)
        # a CPU computes powers of 2 in half the time
        in_twos = _has_boolean_mask(self.call.visibility)
        if in_twos:
            rows *= _LOG2_E
        scores = _scores(rows, keys)
        hidden = self._hidden(scores, positions, safe)
        return hidden.exp2_() if in_twos else hidden.exp_()

    def attention_tile(self, keys: Tensor, tile: slice) -> Float[Tensor, "batch kv_heads per_kv_rows tile"]:
        """A_ij on a range of keys, times the slope of the soft cap, 1 - tanh(s / softcap)^2."""
        attention = self.attention(keys, *self._key_positions(tile, keys))
        if self.call.softcap is None:
            return attention
        return attention.mul_(1 - self._products(keys).div_(self.call.softcap).tanh_() ** 2)

    def lse(self, keys: Tensor, tile: slice) -> Float[Tensor, "batch kv_heads per_kv_rows"]:
        """log sum_j exp(s_ij) over a range of keys."""
        scores = self._products(keys)
        if self.call.softcap is not None:
            scores = scores.div_(self.call.softcap).tanh_().mul_(self.call.softcap)
        return self._hidden(scores, *self._key_positions(tile, keys)).logsumexp(-1)

    def _products(self, keys: Tensor) -> Tensor:
        return self.scaled @ keys[..., : self.scaled.shape[-1]].transpose(-1, -2)

    def _key_positions(self, tile: slice, keys: Tensor) -> tuple[Int[Tensor, "1 tile"], int]:
        """The positions of a range of keys, and how many of the first causality hides from none of these queries."""
        safe = self.queries[0] + self.call.visibility.offset + 1 - tile.start
        positions = as_index(range(tile.start, tile.stop), keys.device)[None]
        return positions, min(max(safe, 0), tile.stop - tile.start)

    def _hidden(self, scores: Tensor, positions: Tensor, safe: int) -> Tensor:
        rows = len(self.queries)
        by_row = scores.view(*scores.shape[:2], scores.shape[2] // rows, rows, scores.shape[3])
        return self.call.visibility.hide(by_row, self.queries, positions, safe).flatten(2, 3)


def _scores(
    rows: Float[Tensor, "batch kv_heads rows dim"], keys: Float[Tensor, "batch kv_heads keys dim"]
) -> Float[Tensor, "batch kv_heads rows keys"]:
    """rows @ keys^T, to be worked on in place, and not needed when this thread asks again (but for a gradient)."""
    columns = keys.transpose(-1, -2)
    if torch.is_grad_enabled() and (rows.requires_grad or keys.requires_grad):
        return rows @ columns
    scores = _scratch_buffer(rows, (*rows.shape[:3], keys.shape[2]))
    torch.bmm(rows.flatten(0, 1), columns.flatten(0, 1), out=scores.view(-1, *scores.shape[2:]))
    return scores


_buffers = threading.local()


def _scratch_buffer(like: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Uninitialised memory of a tensor's type. On a CPU this thread's last is used again, if it is not large.

    The first touch of a new page costs more than filling it; a GPU's allocator keeps pages by itself.
    """
    size = math.prod(shape) * like.element_size()
    if like.device.type != "cpu" or size > _KEPT_BYTES:
        return like.new_empty(shape)
    kept: Tensor | None = getattr(_buffers, "scratch", None)
    if kept is None or kept.numel() < size:
        with torch.inference_mode(False):  # else it could not be written outside of inference mode
            kept = _buffers.scratch = torch.empty(size, dtype=torch.uint8)
    return kept[:size].view(like.dtype).view(shape)


def _has_boolean_mask(visibility: Visibility) -> bool:
    """Whether scores may be in powers of 2: a mask that is added to scores is made for powers of e."""
    return visibility.mask is None or visibility.mask.dtype == torch.bool


@torch.no_grad()
def _blockwise_lse(query: Tensor, key: Tensor, call: AttentionProblem) -> Float[Tensor, "batch heads rows"]:
    """The softmax normaliser over all keys, for kernels that do not give theirs."""
    keys = key.to(_exact(key.dtype))
    lse = keys.new_full(query.shape[:3], float("-inf"))
    for block in _blocks(query, min(key.shape[2], _tile(key))):
        rows = _Rows.of(query, lse, call, block, key)
        for tile, _ in _tiles(call, rows.queries, key):
            more = rows.lse(keys[:, :, tile], tile).view(lse[:, :, block].shape)
            lse[:, :, block] = torch.logaddexp(lse[:, :, block], more)
    return lse


def _tiles(call: AttentionProblem, queries: Sequence[int], key: Tensor) -> Iterator[tuple[slice, bool]]:
    """Ranges of the keys these queries can see, each wholly within the groups' span or wholly outside of it."""
    seen, span, size = call.visibility.key_range(queries, key.shape[2]), call.groups.span, _tile(key)
    edges = sorted({seen.start, seen.stop} | {edge for edge in (span.start, span.stop) if edge in seen})
    for start, stop in pairwise(edges):
        for first in range(start, stop, size):
            yield slice(first, min(first + size, stop)), start in span


def _finite_lse(lse: Tensor) -> Tensor:
    """+inf for a query that sees no key (kernels give -inf, 0 or nan there): its masses and gradients become 0."""
    return torch.where(lse.isfinite(), lse, float("inf")).to(_exact(lse.dtype))


def _rows(tensor: Tensor, rows: Sequence[int]) -> Tensor:
    """The given rows of dimension 2; a range is a view."""
    if isinstance(rows, range) and rows.step == 1:
        return tensor[:, :, rows.start : rows.stop]
    return tensor.index_select(2, as_index(rows, tensor.device))


def _group_query_heads(
    rows: Float[Tensor, "batch heads rows x"], key: Tensor
) -> Float[Tensor, "batch kv_heads per_kv_rows x"]:
    """Rows of the query heads that share a key head, one after the other."""
    batch, heads, count, width = rows.shape
    return rows.reshape(batch, key.shape[1], heads // key.shape[1] * count, width)


def _append_ones(values: Tensor) -> Tensor:
    return torch.cat([values, values.new_ones(*values.shape[:-1], 1)], -1)


def _column_major(keys: Tensor) -> Tensor:
    """The same keys laid out so that products with their transpose, which are most of the work, are fast."""
    return keys.transpose(-1, -2).contiguous().transpose(-1, -2)


def _blocks(query: Tensor, keys: int) -> Iterator[slice]:
    """Rows to work on at a time, against so many keys."""
    elements = _BLOCK_ELEMENTS.get(query.device.type, _BLOCK_ELEMENTS_ELSEWHERE)
    size = max(16, elements // max(1, query.shape[0] * query.shape[1] * keys))
    for start in range(0, query.shape[2], size):
        yield slice(start, min(start + size, query.shape[2]))


def _tile(key: Tensor) -> int:
    return _TILE_KEYS.get(key.device.type, _TILE_KEYS_ELSEWHERE)


def _exact(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)
