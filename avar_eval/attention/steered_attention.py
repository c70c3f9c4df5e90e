"""One attention call under steering: the mathematics of each mode, exact and in memory linear in the sequence.

`avar_eval.attention.steering` defines the modes. With the strengths c_j of the keys and the set R of steered queries:

- `logit` is a scaled key, q · (1 + c_j) k_j, and `prob` a scaled value, A_ij (1 + c_j) v_j: the kernel runs on them as
  it is. Where some queries are not in R it runs on the unscaled ones too, and each query takes its own output.
- `log` adds a bias to the scores: one more dimension of queries and keys, (q_i, [i in R]) · (k_j, log(1 + c_j)), or,
  where a dense mask is added to the scores anyway, a part of that mask.
- `abs` is no inner product: queries in R are computed here, in blocks.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from avar_eval.attention.groups import KeyGroups
from avar_eval.attention.interface import AttentionCall, DecodingStep, Kernel, ObservedAttention, SteerError
from avar_eval.attention.visibility import as_index

_BLOCK_ELEMENTS = 1 << 22
"""Scores that `abs` holds at a time."""
_FLASH_DIMENSIONS = 8
"""Kernels from outside of PyTorch take heads of a multiple of so many dimensions."""

Result = tuple[Tensor, Tensor | None, ObservedAttention | None]
"""Output [batch queries heads dim], eager attention's map or None, and what a listener is told."""


@dataclass(frozen=True)
class SteeredKeys:
    """What one attention call is steered by: c_j, 0 where nothing changes, and R.

    first: the first query that is steered in any sequence. plain: how many queries, from the first on, hold all that
    are not steered. Both are known without asking the device.
    """

    strengths: Float[Tensor, "batch keys"]
    steered: Bool[Tensor, "batch heads_or_1 queries"]
    first: int
    plain: int

    def of(self, sequences: Int[Tensor, " chosen"]) -> "SteeredKeys":
        """Of some sequences of the batch."""
        return replace(self, strengths=self.strengths[sequences], steered=self.steered[sequences])


def scaled(states: Float[Tensor, "batch heads keys dim"], strengths: Float[Tensor, "batch keys"]) -> Tensor:
    """States times 1 + strength, rounded once."""
    return (states * (1 + strengths)[:, None, :, None]).to(states.dtype)


def weighted(result: Result, strengths: Float[Tensor, "batch keys"]) -> Result:
    """Mode `prob`: what a call with scaled values gave, and its attention as these values make it."""
    output, maps, call = result
    maps = None if maps is None else (maps * (1 + strengths)[:, None, None]).to(maps.dtype)
    return output, maps, None if call is None else WeightedCall(call, strengths)


def merged(keys: SteeredKeys, plain: Result, changed: Result) -> Result:
    """Steered queries as `changed` has them, the others as `plain`, which may hold the first queries only."""
    output, maps, call = changed
    first, plain_maps, plain_call = plain
    chosen, width = keys.steered.transpose(1, 2)[..., None], first.shape[1]
    mixed = torch.where(chosen[:, :width], output[:, :width], first)
    if maps is not None and plain_maps is not None:
        maps = torch.where(keys.steered[..., None], maps, plain_maps)
    return (
        torch.cat([mixed, output[:, width:]], 1),
        maps,
        None if call is None or plain_call is None else MixedCall(keys, plain_call, call),
    )


def biased(keys: SteeredKeys, kernel: Kernel, query: Tensor, key: Tensor, value: Tensor, mask: Any) -> Result:
    """Mode `log`; all strengths must be above -1."""
    bias, width = torch.log1p(keys.strengths), key.shape[2]
    dense = isinstance(mask, Tensor) and mask.ndim == 4
    if kernel.implementation in ("sdpa", "eager") and (dense or (mask is None and query.shape[2] == 1)):
        own = torch.where(keys.steered[..., None], bias[:, None, None], 0).to(query.dtype)
        return kernel(query, key, value, _added(mask, own, width))
    return with_bias(kernel, query, key, value, mask, keys.steered, bias)


def with_bias(
    kernel: Kernel,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Any,
    rows: Bool[Tensor, "batch heads_or_1 queries"],
    bias: Float[Tensor, "batch keys"],
) -> tuple[Tensor, Tensor | None, AttentionCall | DecodingStep | None]:
    """A call in which the scores of `rows` have a bias for each key, through one more dimension: in linear memory."""
    extra = rows[..., None].expand(*query.shape[:3], 1).to(query.dtype)
    column = (bias / kernel.scaling(query))[:, None, :, None].expand(*key.shape[:3], 1).to(key.dtype)
    longer = replace(kernel, kwargs={**kernel.kwargs, "scaling": kernel.scaling(query)})
    filling = (
        -(query.shape[-1] + 1) % _FLASH_DIMENSIONS
        if kernel.implementation not in ("sdpa", "eager", "flex_attention")
        else 0
    )
    output, maps, call = longer(
        F.pad(torch.cat([query, extra], -1), (0, filling)),
        F.pad(torch.cat([key, column], -1), (0, filling)),
        F.pad(value, (0, 1 + filling)),
        mask,
    )
    return output[..., : value.shape[-1]], maps, call


def _added(mask: Tensor | None, bias: Tensor, keys: int) -> Tensor:
    if mask is None:
        return bias
    mask = mask[..., :keys]
    # not -inf: a padding query that sees no key would become nan, and spoil what comes after
    return torch.where(mask, bias, torch.finfo(bias.dtype).min) if mask.dtype == torch.bool else mask + bias


def magnified(keys: SteeredKeys, kernel: Kernel, query: Tensor, key: Tensor, value: Tensor, mask: Any) -> Result:
    """Mode `abs`, of the steered queries; those before the first steered one are left 0."""
    visibility, sink = kernel.visibility(query, key, mask), kernel.sink(query)
    call = MagnifiedCall(kernel.module, query, key, visibility, kernel.scaling(query), None, None, sink, keys)
    start, rows = keys.first, range(keys.first, query.shape[2])
    parts = list(call.attention(rows))
    output = torch.cat([_times(part, value).to(query.dtype) for part in parts], 2)
    maps = None
    if kernel.reading == "eager":
        maps = F.pad(torch.cat([part.flatten(1, 2) for part in parts], 2), (0, 0, start, 0)).to(query.dtype)
    return F.pad(output.transpose(1, 2), (0, 0, 0, 0, start, 0)), maps, call if kernel.listening else None


def _times(attention: Float[Tensor, "batch kv_heads per_kv rows keys"], value: Tensor) -> Tensor:
    """Attention times values [batch kv_heads_or_1 keys dim], heads in their order."""
    return (attention @ value[:, :, None].to(attention.dtype)).flatten(1, 2)


@dataclass(frozen=True)
class WeightedCall:
    """A call whose attention is multiplied by 1 + strength after the softmax."""

    call: ObservedAttention
    strengths: Float[Tensor, "batch keys"]

    @property
    def module(self) -> Any:
        """See `ObservedAttention`."""
        return self.call.module

    @property
    def query(self) -> Tensor:
        """See `ObservedAttention`."""
        return self.call.query

    @property
    def key(self) -> Tensor:
        """See `ObservedAttention`."""
        return self.call.key

    def masses(self, groups: KeyGroups, rows: Sequence[int]) -> Float[Tensor, "batch heads rows groups"]:
        """See `ObservedAttention`. All keys of a group have the same role, and so the same strength."""
        member = groups.membership.to(torch.uint8).argmax(1)
        factors = 1 + self.strengths.gather(1, member)
        return self.call.masses(groups, rows) * factors[:, None, None]

    def total(self, rows: Sequence[int]) -> Float[Tensor, "batch heads rows"]:
        """See `ObservedAttention`: of cross-attention, whose keys all have the same strength."""
        return self.call.total(rows) * (1 + self.strengths[:, None, :1])

    def of(self, sequences: Int[Tensor, " chosen"]) -> "WeightedCall":
        """See `ObservedAttention`."""
        return WeightedCall(self.call.of(sequences), self.strengths[sequences])


@dataclass(frozen=True)
class MixedCall:
    """Two calls, of which steered queries have the second one's attention and the others the first one's."""

    keys: SteeredKeys
    plain: ObservedAttention
    changed: ObservedAttention

    @property
    def module(self) -> Any:
        """See `ObservedAttention`."""
        return self.changed.module

    @property
    def query(self) -> Tensor:
        """See `ObservedAttention`."""
        return self.changed.query

    @property
    def key(self) -> Tensor:
        """See `ObservedAttention`."""
        return self.changed.key

    def masses(self, groups: KeyGroups, rows: Sequence[int]) -> Float[Tensor, "batch heads rows groups"]:
        """See `ObservedAttention`."""
        changed = self.changed.masses(groups, rows)
        if min(rows, default=0) >= self.keys.plain:
            return changed
        return torch.where(self._chosen(rows)[..., None], changed, self.plain.masses(groups, rows))

    def total(self, rows: Sequence[int]) -> Float[Tensor, "batch heads rows"]:
        """See `ObservedAttention`."""
        return torch.where(self._chosen(rows), self.changed.total(rows), self.plain.total(rows))

    def of(self, sequences: Int[Tensor, " chosen"]) -> "MixedCall":
        """See `ObservedAttention`."""
        return MixedCall(self.keys.of(sequences), self.plain.of(sequences), self.changed.of(sequences))

    def _chosen(self, rows: Sequence[int]) -> Bool[Tensor, "batch heads_or_1 rows"]:
        return self.keys.steered[:, :, as_index(rows, self.keys.steered.device)]


@dataclass(frozen=True)
class MagnifiedCall(AttentionCall):
    """Mode `abs`: the score s_ij + c_j |s_ij| for steered queries, computed in blocks."""

    keys: SteeredKeys

    def attention(self, rows: Sequence[int]) -> Iterator[Float[Tensor, "batch kv_heads per_kv rows keys"]]:
        """The softmax attention of the given queries, some of them at a time, in float32 at least."""
        batch, heads, _, _ = self.query.shape
        kv_heads, length = self.key.shape[1:3]
        exact = torch.promote_types(self.query.dtype, torch.float32)
        keys, positions = self.key.to(exact), torch.arange(length, device=self.key.device)[None]
        size = max(1, _BLOCK_ELEMENTS // (batch * heads * length))
        for start in range(0, len(rows), size):
            block = rows[start : start + size]
            index = as_index(block, self.query.device)
            shape = (batch, kv_heads, heads // kv_heads, len(block))
            steered = self.keys.steered[:, :, index].expand(-1, heads, -1).reshape(shape)
            query = self.query[:, :, index].to(exact).reshape(*shape, -1) * self.scaling
            scores = query @ keys[:, :, None].transpose(-1, -2)
            strengths = self.keys.strengths[:, None, None, None] * steered[..., None]
            safe = min(max(block[0] + self.visibility.offset + 1, 0), length)
            scores = self.visibility.hide(scores + strengths * scores.abs(), block, positions, safe)
            if self.sink is not None:
                sink = self.sink.to(exact).view(1, kv_heads, -1, 1, 1).expand(*shape, 1)
                scores = torch.cat([scores, sink], -1)
            yield scores.softmax(-1)[..., :length].nan_to_num(0)  # a padding query sees no key

    def masses(self, groups: KeyGroups, rows: Sequence[int]) -> Float[Tensor, "batch heads rows groups"]:
        """See `ObservedAttention`: attention with membership as the value."""
        members = groups.membership[:, None]
        return torch.cat([_times(part, members) for part in self.attention(rows)], 2).float()

    def of(self, sequences: Int[Tensor, " chosen"]) -> "MagnifiedCall":
        """See `ObservedAttention`."""
        return replace(super().of(sequences), keys=self.keys.of(sequences))


def check_softcap(kernel: Kernel) -> None:
    """Raise SteerError for capped scores: a scaled key is no scaled score there."""
    if kernel.kwargs.get("softcap") is not None:
        raise SteerError("this model caps its attention scores (softcap): only steering in mode prob is exact for it")
