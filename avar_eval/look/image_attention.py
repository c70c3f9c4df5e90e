"""Attention on each single image token, without a whole attention map: every image token is a key group of its own."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avar_eval.attention import interface
from avar_eval.attention.groups import KeyGroups
from avar_eval.attention.interface import ObservedAttention
from avar_eval.attention.roles import TokenRoles
from avar_eval.attention.steer import steer
from avar_eval.attention.steering import UNSTEERED, Steering

_KEYS_AT_ONCE = 512
_ELEMENTS_AT_ONCE = 1 << 24


Name = TypeVar("Name", bound=str)


class _ImageKeys(Generic[Name]):
    """Listens to the decoder and adds up, over layers, each image key's mean mass over heads and chosen queries."""

    def __init__(self, keys: Int[Tensor, " keys"], queries: Mapping[Name, Int[Tensor, " queries"]]) -> None:
        self.keys = keys
        self.queries = {name: rows.tolist() for name, rows in queries.items()}
        self.totals = {name: torch.zeros(len(keys), dtype=torch.float64) for name in queries}
        self.layers = 0

    def wants(self, module: Any) -> bool:
        return True

    def on_attention(self, call: ObservedAttention) -> None:
        self.layers += 1
        for start in range(0, len(self.keys), _KEYS_AT_ONCE):
            part = slice(start, start + _KEYS_AT_ONCE)
            groups = _one_by_one(self.keys[part], call.key.shape[2]).to(call.query.device)
            for name, rows in self.queries.items():
                for some in _batches(rows, call.query.shape[1]):
                    self.totals[name][part] += call.masses(groups, some)[0].sum(1).mean(0).double().cpu() / len(rows)


@torch.inference_mode()
def attention_on_image_tokens(
    model: Any,
    inputs: Mapping[str, Tensor],
    image_keys: Int[Tensor, " keys"],
    queries: Mapping[Name, Int[Tensor, " queries"]],
    roles: TokenRoles,
    steering: Steering = UNSTEERED,
) -> dict[Name, Float[Tensor, " keys"]]:
    """The share (0..1) of attention on each image token, mean over layers, heads and queries, in float64.

    inputs: model inputs of one conversation with its response, whose tokens have these roles. image_keys, queries:
    positions in it, ascending; each named set of queries has a result. steering: what the model is steered by. One pass
    under the model's own kernels; memory is linear in the sequence. Raises ObserveError where the model cannot be
    observed.
    """
    listener = _ImageKeys(image_keys, queries)
    implementation = model.config.get_text_config()._attn_implementation
    modules = interface.attention_modules(model)
    with steer(model, steering, roles):
        interface.add_listener(implementation, modules, listener)
        try:
            model(**inputs, use_cache=False, logits_to_keep=1)
        finally:
            interface.remove_listener(implementation, modules)
    return {name: total / listener.layers for name, total in listener.totals.items()}


def _one_by_one(keys: Int[Tensor, " some"], length: int) -> KeyGroups:
    membership = torch.zeros(1, length, len(keys), dtype=torch.bool)
    membership[0, keys, torch.arange(len(keys))] = True
    return KeyGroups.of(membership)


def _batches(rows: Sequence[int], heads: int) -> Iterator[Sequence[int]]:
    size = max(1, _ELEMENTS_AT_ONCE // (heads * _KEYS_AT_ONCE))
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
