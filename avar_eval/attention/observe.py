"""Observe a transformers model: capture attention masses in its decoder layers while it runs under its own kernels.

It hangs on transformers' AttentionInterface: for the time of `observe`, the decoder's attention function is the same
function with a capture behind it, so the model's outputs are untouched. The vision tower keeps its own.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import AttentionInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from avar_eval.attention.mass import attention_mass
from avar_eval.errors import AvarError

_PREFIX = "avar_observed_"


class ObserveError(AvarError):
    """This model's attention cannot be observed."""


@dataclass
class Observation:
    """What `observe` captured. groups: key groups (0/1); rows: the query positions; masses: layer -> masses."""

    groups: Float[Tensor, "batch keys groups"]
    rows: slice
    masses: dict[int, Float[Tensor, "batch heads rows groups"]] = field(default_factory=dict)

    def stacked(self) -> Float[Tensor, "layers batch heads rows groups"]:
        """The masses of all layers, in order."""
        return torch.stack([self.masses[layer] for layer in sorted(self.masses)])


_observation: ContextVar[Observation | None] = ContextVar("avar_observation", default=None)


@contextmanager
def observe(model: Any, groups: Float[Tensor, "batch keys groups"], rows: slice) -> Iterator[Observation]:
    """Capture the attention mass of the query positions `rows` on each key group, in every decoder layer of `model`.

    One forward pass over the whole sequence must follow inside the context. The model is as before on leaving, also
    on error. Raises ObserveError for attention implementations that are not known to transformers' interface.
    """
    config = model.config.get_text_config()
    implementation = config._attn_implementation
    observed = _register(implementation)
    observation = Observation(groups, rows)
    token = _observation.set(observation)
    config._attn_implementation = observed
    try:
        yield observation
    finally:
        config._attn_implementation = implementation
        _observation.reset(token)


def _register(implementation: str) -> str:
    """The name of the observed twin of an attention implementation, registered on first use with the same mask."""
    if implementation.startswith(_PREFIX):
        raise ObserveError("this model is being observed already: leave the inner observe() first")
    if implementation not in ("eager", "sdpa"):
        raise ObserveError(
            f"attention implementation {implementation!r} cannot be observed yet: load the model with "
            "attn_implementation='sdpa' or 'eager'"
        )
    name = _PREFIX + implementation
    if name not in ALL_ATTENTION_FUNCTIONS:
        AttentionInterface.register(name, _observed(implementation))
        ALL_MASK_ATTENTION_FUNCTIONS.register(name, ALL_MASK_ATTENTION_FUNCTIONS[implementation])
    return name


def _observed(implementation: str) -> Callable[..., Any]:
    def attention(
        module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
    ) -> Any:
        observation = _observation.get()
        if observation is not None:
            _capture(observation, module.layer_idx, query, key, attention_mask, kwargs["scaling"])
        return _base_function(implementation, module)(module, query, key, value, attention_mask, **kwargs)

    return attention


def _base_function(implementation: str, module: Any) -> Callable[..., Any]:
    if implementation == "eager":  # every modeling file has its own
        function: Callable[..., Any] = sys.modules[type(module).__module__].eager_attention_forward
        return function
    shared: Callable[..., Any] = ALL_ATTENTION_FUNCTIONS[implementation]
    return shared


@torch.no_grad()
def _capture(
    observation: Observation, layer: int, query: Tensor, key: Tensor, mask: Tensor | None, scaling: float
) -> None:
    length, keys = query.shape[2], key.shape[2]
    if length != keys:
        raise ObserveError("observe() needs one pass over the whole sequence, without a key-value cache")
    if mask is None:
        positions = torch.arange(keys, device=query.device)
        visible = (positions[None] <= positions[observation.rows, None])[None, None]
    else:
        visible = mask[:, :, observation.rows]
    rows = query[:, :, observation.rows]
    observation.masses[layer] = attention_mass(rows, key, observation.groups, visible, scaling)
