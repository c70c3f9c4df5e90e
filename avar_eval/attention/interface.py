"""The seam to transformers: listen to the attention calls of chosen modules, whatever kernel they run.

While a model is watched, transformers' AttentionInterface holds, under the name of the model's own implementation, the
same function with a listener behind it. Modules that are not watched (the vision tower, other models) pass through.
"""

import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from avar_eval.attention.normaliser import NormaliserTap
from avar_eval.attention.visibility import Visibility
from avar_eval.errors import AvarError

IMPLEMENTATIONS = ("eager", "sdpa", "flash_attention_2", "flex_attention")


class ObserveError(AvarError):
    """This model's attention cannot be observed."""


@dataclass(frozen=True)
class AttentionCall:
    """One call of an attention kernel. lse: the softmax normaliser of every query, where the kernel gave it."""

    module: Any
    query: Float[Tensor, "batch heads queries dim"]
    key: Float[Tensor, "batch kv_heads keys dim"]
    visibility: Visibility
    scaling: float
    softcap: float | None
    lse: Float[Tensor, "batch heads queries"] | None


class Listener(Protocol):
    """Is told of each attention call of the modules it watches."""

    def wants(self, module: Any) -> bool:
        """Whether the next call of this module is of interest."""

    def attended(self, call: AttentionCall) -> None:
        """A call has been made."""


_listeners: "WeakKeyDictionary[Any, Listener]" = WeakKeyDictionary()
_watched: Counter[str] = Counter()
_originals: dict[str, Callable[..., Any] | None] = {}
_lock = threading.Lock()


def watch(implementation: str, modules: Iterable[Any], listener: Listener) -> None:
    """Tell `listener` of every attention call of `modules`, which run under `implementation`.

    Raises ObserveError if the implementation is not known here or another listener watches one of the modules.
    """
    if implementation not in IMPLEMENTATIONS:
        raise ObserveError(
            f"attention implementation {implementation!r} cannot be observed: load the model with attn_implementation "
            f"one of {', '.join(IMPLEMENTATIONS)}"
        )
    modules = list(modules)
    with _lock:
        if any(module in _listeners for module in modules):
            raise ObserveError("this model is being observed already: leave the inner observe() first")
        if not _watched[implementation]:
            _originals[implementation] = ALL_ATTENTION_FUNCTIONS.get(implementation)
            ALL_ATTENTION_FUNCTIONS[implementation] = _listening(implementation, _originals[implementation])
        _watched[implementation] += 1
        _listeners.update((module, listener) for module in modules)


def listener_of(module: Any) -> Listener | None:
    """Who watches this module."""
    return _listeners.get(module)


def unwatch(implementation: str, modules: Iterable[Any]) -> None:
    """Undo `watch`."""
    with _lock:
        for module in modules:
            del _listeners[module]
        _watched[implementation] -= 1
        if not _watched[implementation]:
            del ALL_ATTENTION_FUNCTIONS[implementation]
            original = _originals.pop(implementation)
            if ALL_ATTENTION_FUNCTIONS.get(implementation) is not original:  # it had been overridden before us
                ALL_ATTENTION_FUNCTIONS[implementation] = original


def _listening(implementation: str, original: Callable[..., Any] | None) -> Callable[..., Any]:
    @torch.compiler.disable  # type: ignore[untyped-decorator] # what is captured leaves the graph through Python state
    def attention(
        module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        # "eager" stands in no table: every modeling file has its own
        function = original or sys.modules[type(module).__module__].eager_attention_forward
        listener = _listeners.get(module)
        if listener is None or not listener.wants(module):
            result: tuple[Tensor, Tensor | None] = function(module, query, key, value, attention_mask, **kwargs)
            return result
        if implementation == "flex_attention":  # compiled: a dispatch mode would make it another kernel
            result = function(module, query, key, value, attention_mask, **kwargs)
            given = result[1]  # none on a CPU; rounded to the value's precision elsewhere
            lse = given.detach() if given is not None and given.dtype == torch.float32 else None
        else:
            with NormaliserTap() as tap:
                result = function(module, query, key, value, attention_mask, **kwargs)
            lse = tap.lse(query)
        listener.attended(
            AttentionCall(
                module=module,
                query=query,
                key=key,
                visibility=_visibility(implementation, module, query, key, attention_mask, kwargs),
                scaling=query.shape[-1] ** -0.5 if kwargs.get("scaling") is None else kwargs["scaling"],
                softcap=kwargs.get("softcap"),
                lse=lse,
            )
        )
        return result

    listening: Callable[..., Any] = attention
    return listening


def _visibility(
    implementation: str, module: Any, query: Tensor, key: Tensor, mask: Any, kwargs: Mapping[str, Any]
) -> Visibility:
    """What a call of transformers' attention functions hides, read as each of them reads its arguments."""
    for extra in ("position_bias", "s_aux", "cache"):
        if kwargs.get(extra) is not None:
            raise ObserveError(f"{type(module).__name__} passes {extra!r} to its attention: this is not supported")
    if implementation == "flash_attention_2":
        return _flash_visibility(module, query, key, mask, kwargs)
    if isinstance(mask, BlockMask):
        return Visibility(causal=False, mask_function=mask.mask_mod)
    if mask is not None:
        return Visibility(causal=False, mask=mask[..., : key.shape[2]])
    return Visibility(causal=implementation == "sdpa" and query.shape[2] > 1 and _is_causal(module, kwargs))


def _flash_visibility(
    module: Any, query: Tensor, key: Tensor, mask: Tensor | None, kwargs: Mapping[str, Any]
) -> Visibility:
    segments = None
    positions = kwargs.get("position_ids")
    if kwargs.get("cu_seq_lens_k") is not None:
        starts = torch.zeros(key.shape[2], dtype=torch.long, device=key.device)
        starts[kwargs["cu_seq_lens_k"][1:-1].long()] = 1
        segments = starts.cumsum(0)[None]
    elif mask is None and positions is not None and len(query) == 1 and positions.shape == (1, key.shape[2]):
        segments = (positions == 0).cumsum(-1)  # several sequences in a row start their positions anew
    return Visibility(
        causal=_is_causal(module, kwargs),
        offset=key.shape[2] - query.shape[2],
        window=kwargs.get("sliding_window"),
        padding=None if mask is None else mask[:, -key.shape[2] :].bool(),
        segments=segments,
    )


def _is_causal(module: Any, kwargs: Mapping[str, Any]) -> bool:
    given = kwargs.get("is_causal")
    return bool(getattr(module, "is_causal", True) if given is None else given)
