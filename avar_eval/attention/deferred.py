"""Masses of decoding steps, several at a time.

A decoding step has one query, and reading all keys for it takes as long as the attention kernel itself. A cache that
only appends still holds those keys some steps later: each step leaves its query, and the keys are read once for all.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeGuard

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from avar_eval.attention.groups import KeyGroups
from avar_eval.attention.interface import AttentionCall, ObservedAttention
from avar_eval.attention.visibility import Places, Visibility

STEPS_AT_ONCE = 16
"""So few that the scores of a batch of them, which exist for a moment, take less than the cache itself."""


def is_append_only(cache: Any) -> bool:
    """Whether every layer of a cache keeps all keys as they were: it is not sliding, static, quantised or offloaded."""
    return type(cache) is DynamicCache and all(type(layer) is DynamicLayer for layer in cache.layers)


def can_defer(call: ObservedAttention) -> TypeGuard[AttentionCall]:
    """Whether an attention call is a decoding step that hides nothing from its query but padding."""
    if type(call) is not AttentionCall or call.query.shape[2] != 1 or call.query.requires_grad:
        return False
    hints, mask = call.visibility, call.visibility.mask
    padding_at_most = mask is None or (mask.dtype == torch.bool and mask.shape[1:3] == (1, 1))
    return padding_at_most and hints.window is None and hints.segments is None and hints.mask_function is None


@dataclass
class DeferredSteps:
    """Consecutive decoding steps of one layer, under a cache that only appends, whose masses are to be computed.

    sequences: those of the batch whose masses are wanted (None: all).
    """

    sequences: Places | None
    queries: list[Float[Tensor, "batch heads 1 dim"]] = field(default_factory=list)
    last: AttentionCall | None = None

    def add(self, call: AttentionCall) -> None:
        """One more step."""
        self.queries.append(call.query)
        self.last = call

    def masses(self, groups_of: Callable[[int, torch.device], KeyGroups]) -> Float[Tensor, "chosen heads steps groups"]:
        """The masses of all steps.

        groups_of: the chosen sequences' key groups, of so many first keys, on a device.
        """
        call, steps = self.last, len(self.queries)
        if call is None:
            raise ValueError("no step is waiting")
        keys = call.key.shape[2]
        together = AttentionCall(
            call.module,
            torch.cat(self.queries, 2),
            call.key,
            Visibility(offset=keys - steps, padding=_padding(call.visibility)),
            call.scaling,
            call.softcap,
            lse=None,
            sink=call.sink,
        )
        if self.sequences is not None:
            together = together.of(self.sequences.on(call.key.device))
        return together.masses(groups_of(keys, call.key.device), range(steps))


def _padding(visibility: Visibility) -> Bool[Tensor, "batch keys"] | None:
    return visibility.padding if visibility.mask is None else visibility.mask[:, 0, 0]
