"""Visibility: which keys each query may attend to, asked block by block, never as one whole map of our own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from avar_eval.attention.key_blocks import to_device

MaskFunction = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""FlexAttention's mask_mod: (batch, head, query, key) index tensors -> visible, element by element."""


@dataclass(frozen=True)
class Visibility:
    """Which keys the queries of one attention call see. What is left at its default hides nothing.

    causal: query i sees keys up to `offset + i` (offset: keys that precede the first query, as in decoding with a
    cache). window: it sees only the last `window` of those. padding: False hides a key from everyone. segments: a query
    sees keys of its own segment only (packed sequences); like padding, it is given for every key. mask: dense, bool
    (True is visible) or added to the scores, as SDPA and eager attention take it. mask_function: FlexAttention's
    mask_mod.
    """

    causal: bool = True
    offset: int = 0
    window: int | None = None
    padding: Bool[Tensor, "batch keys"] | None = None
    segments: Int[Tensor, "batch keys"] | None = None
    mask: Tensor | None = None
    mask_function: MaskFunction | None = None

    def of(self, sequences: Int[Tensor, " chosen"]) -> "Visibility":
        """That of some sequences of the batch."""

        def select(values: Tensor | None) -> Tensor | None:
            return values if values is None or len(values) == 1 else values[sequences]

        function = self.mask_function
        return replace(
            self,
            padding=select(self.padding),
            segments=select(self.segments),
            mask=select(self.mask),
            mask_function=function and (lambda batch, *place: function(sequences[batch], *place)),
        )

    def key_range(self, queries: Sequence[int], keys: int) -> range:
        """The smallest range of keys that holds all that these ascending queries can see."""
        first = max(0, queries[0] + self.offset - self.window + 1) if self.window is not None else 0
        last = min(keys, queries[-1] + self.offset + 1) if self.causal else keys
        return range(min(first, last), last)

    def hide(
        self,
        scores: Float[Tensor, "batch kv_heads per_kv rows members"],
        queries: Sequence[int],
        positions: Int[Tensor, "batch_or_1 members"],
        safe: int,
    ) -> Float[Tensor, "batch kv_heads per_kv rows members"]:
        """Scores of `queries` on the keys at `positions`, with -inf where a key is not visible (in place).

        safe: how many leading `positions` causality hides from none of these queries.
        """
        rows = as_index(queries, scores.device)
        start = safe if self._only_causal() else 0
        if start < positions.shape[1]:
            visible = self._visible(rows, positions[:, start:], len(scores))
            if visible is not None:
                scores[..., start:].masked_fill_(~visible.unsqueeze(2), float("-inf"))
        return scores if self.mask is None else _masked(scores, _slice_mask(self.mask, queries, rows, positions))

    def _only_causal(self) -> bool:
        return self.causal and all(
            hint is None for hint in (self.window, self.padding, self.segments, self.mask_function)
        )

    def _visible(
        self, rows: Tensor, positions: Tensor, batch: int
    ) -> Bool[Tensor, "batch_or_1 heads_or_1 rows members"] | None:
        """What is visible but for the dense mask; None if nothing is hidden."""
        conditions = []
        own, keys = (rows + self.offset)[None, None, :, None], positions[:, None, None, :]
        if self.causal:
            conditions.append(keys <= own)
        if self.window is not None:
            conditions.append(keys > own - self.window)
        if self.padding is not None:
            conditions.append(_gather(self.padding, positions)[:, None, None, :])
        if self.segments is not None:
            of_rows = self.segments[:, rows + self.offset][:, None, :, None]
            conditions.append(_gather(self.segments, positions)[:, None, None, :] == of_rows)
        if self.mask_function is not None:
            sequences = torch.arange(batch, device=rows.device)[:, None, None, None]
            head = torch.zeros((), dtype=torch.long, device=rows.device)
            conditions.append(self.mask_function(sequences, head, rows[None, None, :, None], keys))
        return reduce(torch.logical_and, conditions) if conditions else None


class Places(tuple[int, ...]):
    """Positions, or rows of a batch, for many layers: as a tensor they are sent to a device once."""

    @cached_property
    def _on_device(self) -> dict[torch.device, Tensor]:
        return {}

    def on(self, device: torch.device) -> Int[Tensor, " places"]:
        """The same as a tensor."""
        if device not in self._on_device:
            self._on_device[device] = to_device(torch.tensor(list(self), dtype=torch.long), device)
        return self._on_device[device]


def as_index(queries: Sequence[int], device: torch.device) -> Int[Tensor, " rows"]:
    """Ascending positions as a tensor; a range needs no copy from the host, and `Places` one for all layers."""
    if isinstance(queries, range):
        return torch.arange(queries.start, queries.stop, queries.step, device=device)
    return queries.on(device) if isinstance(queries, Places) else Places(queries).on(device)


def _gather(values: Tensor, positions: Tensor) -> Tensor:
    """values [batch keys] at positions [batch_or_1 members]."""
    return values.gather(1, positions.expand(values.shape[0], -1))


def _slice_mask(mask: Tensor, queries: Sequence[int], rows: Tensor, positions: Tensor) -> Tensor:
    """A dense mask [batch_or_1 heads_or_1 queries keys] at the given rows and key positions."""
    contiguous = isinstance(queries, range) and queries.step == 1
    part = mask[:, :, queries[0] : queries[-1] + 1] if contiguous else mask[:, :, rows]
    wanted = positions[:, None, None, :]
    batch = max(len(part), len(wanted))
    shape = (batch, part.shape[1], part.shape[2], wanted.shape[-1])
    return part.expand(batch, -1, -1, -1).gather(-1, wanted.expand(shape))


def _masked(scores: Tensor, mask: Tensor) -> Tensor:
    heads = mask.shape[1]
    # [batch heads rows members] -> [batch kv_heads per_kv rows members]; a mask of one head serves all
    mask = mask.unsqueeze(2) if heads == 1 else mask.reshape(len(mask), *scores.shape[1:3], *mask.shape[2:])
    return scores.masked_fill_(~mask, float("-inf")) if mask.dtype == torch.bool else scores.add_(mask)
