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
from avar_eval.attention.interface import AttentionCall, DecodingStep, ObservedAttention
from avar_eval.attention.mass import kernels_run_on
from avar_eval.attention.visibility import Places, Visibility

_STEPS_AT_ONCE = 16
"""So few that the scores of a batch of them, which exist for a moment, take less than the cache itself."""
MOST_AT_ONCE = 64
"""Where kernels keep no scores: launching one costs what some steps of waiting do."""


def steps_at_once(device: torch.device) -> int:
    """How many steps wait for each other."""
    return MOST_AT_ONCE if kernels_run_on(device) else _STEPS_AT_ONCE


def is_append_only(cache: Any) -> bool:
    """Whether every layer of a cache keeps all keys as they were: it is not sliding, static, quantised or offloaded."""
    return type(cache) is DynamicCache and all(type(layer) is DynamicLayer for layer in cache.layers)


def can_defer(call: ObservedAttention) -> TypeGuard[DecodingStep]:
    """Whether an attention call is a decoding step that hides nothing from its query but padding."""
    if type(call) is not DecodingStep or call.query.requires_grad:
        return False
    if call.kernel.reading == "flash":
        hints = call.whole.visibility
        return hints.window is None and hints.segments is None and hints.mask_function is None
    return call.mask is None or (call.mask.dtype == torch.bool and call.mask.shape[1:3] == (1, 1))


@dataclass
class DeferredSteps:
    """Consecutive decoding steps of one layer, under a cache that only appends, whose masses are to be computed.

    sequences: those of the batch whose masses are wanted (None: all).
    """

    sequences: Places | None
    queries: list[Float[Tensor, "batch heads 1 dim"]] = field(default_factory=list)
    last: DecodingStep | None = None

    def add(self, step: DecodingStep) -> None:
        """One more step."""
        self.queries.append(step.query)
        self.last = step

    def masses(self, groups_of: Callable[[int, torch.device], KeyGroups]) -> Float[Tensor, "chosen heads steps groups"]:
        """The masses of all steps.

        groups_of: the chosen sequences' key groups, of so many first keys, on a device.
        """
        if self.last is None:
            raise ValueError("no step is waiting")
        call, steps = self.last.whole, len(self.queries)
        keys = call.key.shape[2]
        together = AttentionCall(
            call.module,
            torch.cat(self.queries, 2).to(call.query.dtype),
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
