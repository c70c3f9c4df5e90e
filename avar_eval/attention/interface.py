"""The seam to transformers: listen to, or steer, the attention calls of chosen modules, whatever kernel they run.

While a model is watched or steered, transformers' AttentionInterface holds, under the name of the model's own
implementation, the same function with a listener behind it or an intervention around it. Other modules (the vision
tower, other models) pass through.
"""

import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, Protocol, Self
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask
from torch.utils.hooks import RemovableHandle
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from avar_eval.attention.groups import KeyGroups
from avar_eval.attention.mass import attention_mass
from avar_eval.attention.normaliser import NormaliserTap
from avar_eval.attention.visibility import Visibility
from avar_eval.errors import AvarError

IMPLEMENTATIONS = ("eager", "sdpa", "flash_attention_2", "flex_attention")


class AttentionError(AvarError):
    """This model's attention cannot be observed or steered."""


class ObserveError(AttentionError):
    """This model's attention cannot be observed."""


class SteerError(AttentionError):
    """This model's attention cannot be steered."""


class Attended(Protocol):
    """What a listener is told of an attention call: how much of it fell where, steering included."""

    @property
    def module(self) -> Any:
        """The attention module."""

    @property
    def query(self) -> Float[Tensor, "batch heads queries dim"]:
        """The queries; under steering perhaps with one dimension more."""

    @property
    def key(self) -> Float[Tensor, "batch kv_heads keys dim"]:
        """The keys; under steering perhaps scaled, and with one dimension more."""

    def masses(self, groups: KeyGroups, rows: Sequence[int]) -> Float[Tensor, "batch heads rows groups"]:
        """The mass of the given queries on each key group; see `avar_eval.attention.mass`."""

    def total(self, rows: Sequence[int]) -> Float[Tensor, "batch heads rows"]:
        """The mass of the given queries on all keys: 1, unless steering in mode `prob` has changed it."""

    def of(self, sequences: Int[Tensor, " chosen"]) -> "Attended":
        """The same call of some sequences of the batch."""


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

    def masses(self, groups: KeyGroups, rows: Sequence[int]) -> Float[Tensor, "batch heads rows groups"]:
        """See `Attended`."""
        with torch.autocast(self.query.device.type, enabled=False):  # it would round float32 sums to bfloat16
            return attention_mass(
                self.query,
                self.key,
                groups,
                self.visibility,
                scaling=self.scaling,
                rows=rows,
                lse=self.lse,
                softcap=self.softcap,
            )

    def total(self, rows: Sequence[int]) -> Float[Tensor, "batch heads rows"]:
        """See `Attended`."""
        return self.query.new_ones(*self.query.shape[:2], len(rows), dtype=torch.float32)

    def of(self, sequences: Int[Tensor, " chosen"]) -> Self:
        """See `Attended`."""
        return replace(
            self,
            query=self.query[sequences],
            key=self.key[sequences],
            visibility=self.visibility.of(sequences),
            lse=None if self.lse is None else self.lse[sequences],
        )


@dataclass(frozen=True)
class Kernel:
    """transformers' attention function with the arguments of one module's call: an intervention may run it twice."""

    implementation: str
    function: Callable[..., Any]
    module: Any
    kwargs: Mapping[str, Any]
    listening: bool

    def __call__(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Any
    ) -> tuple[Tensor, Tensor | None, AttentionCall | None]:
        """Output [batch queries heads dim], what the function gives beside it, and the call if anyone listens."""
        if not self.listening:
            output, given = self.function(self.module, query, key, value, mask, **self.kwargs)
            return output, given, None
        if query.shape[2] == 1:  # decoding: all scores of one query cost less than catching its normaliser
            output, given = self.function(self.module, query, key, value, mask, **self.kwargs)
            lse = None
        elif self.implementation == "flex_attention":  # compiled: a dispatch mode would make it another kernel
            output, given = self.function(self.module, query, key, value, mask, **self.kwargs)
            # none on a CPU; rounded to the value's precision elsewhere
            lse = given.detach() if given is not None and given.dtype == torch.float32 else None
        else:
            with NormaliserTap() as tap:
                output, given = self.function(self.module, query, key, value, mask, **self.kwargs)
            lse = tap.lse(query)
        visibility = self.visibility(query, key, mask)
        call = AttentionCall(self.module, query, key, visibility, self.scaling(query), self.kwargs.get("softcap"), lse)
        return output, given, call

    def scaling(self, query: Tensor) -> float:
        """What the products of queries and keys are multiplied by."""
        given = self.kwargs.get("scaling")
        return float(query.shape[-1] ** -0.5 if given is None else given)

    def visibility(self, query: Tensor, key: Tensor, mask: Any) -> Visibility:
        """Which keys the call's queries see."""
        return _visibility(self.implementation, self.module, query, key, mask, self.kwargs)


class Listener(Protocol):
    """Is told of each attention call of the modules it watches."""

    def wants(self, module: Any) -> bool:
        """Whether the next call of this module is of interest."""

    def attended(self, call: Attended) -> None:
        """A call has been made."""


class Intervention(Protocol):
    """Takes the place of the attention of the modules it is set upon."""

    def idle(self, module: Any) -> bool:
        """Whether the kernel as it is does the next call of this module. Asked in every call, so it must be quick."""

    def attend(
        self, kernel: Kernel, query: Tensor, key: Tensor, value: Tensor, mask: Any
    ) -> tuple[Tensor, Tensor | None, Attended | None]:
        """What `Kernel.__call__` gives, of changed attention."""


_listeners: "WeakKeyDictionary[Any, Listener]" = WeakKeyDictionary()
_interventions: "WeakKeyDictionary[Any, Intervention]" = WeakKeyDictionary()
_watched: Counter[str] = Counter()
_originals: dict[str, Callable[..., Any] | None] = {}
_lock = threading.Lock()


def watch(implementation: str, modules: Iterable[Any], listener: Listener) -> None:
    """Tell `listener` of every attention call of `modules`, which run under `implementation`.

    Raises ObserveError if the implementation is not known here or another listener watches one of the modules.
    """
    if implementation not in IMPLEMENTATIONS:
        raise ObserveError(_unknown(implementation, "observed"))
    if not _enter(implementation, modules, listener, _listeners):
        raise ObserveError("this model is being observed already: leave the inner observe() first")


def listener_of(module: Any) -> Listener | None:
    """Who watches this module."""
    return _listeners.get(module)


def unwatch(implementation: str, modules: Iterable[Any]) -> None:
    """Undo `watch`."""
    _leave(implementation, modules, _listeners)


def intervene(implementation: str, modules: Iterable[Any], intervention: Intervention) -> None:
    """Let `intervention` take the place of the attention of `modules`, which run under `implementation`.

    Raises SteerError if the implementation is not known here or one of the modules is steered already.
    """
    if implementation not in IMPLEMENTATIONS:
        raise SteerError(_unknown(implementation, "steered"))
    if not _enter(implementation, modules, intervention, _interventions):
        raise SteerError("this model is being steered already: leave the inner steer() first")


def withdraw(implementation: str, modules: Iterable[Any]) -> None:
    """Undo `intervene`."""
    _leave(implementation, modules, _interventions)


def attention_modules(model: Any) -> list[Any]:
    """The attention modules of a model's decoder layers. Raises AttentionError if there are none."""
    config = model.config.get_text_config()
    modules = [m for m in model.modules() if getattr(m, "config", None) is config and hasattr(m, "layer_idx")]
    if not modules:
        raise AttentionError(f"{type(model).__name__} has no decoder layers whose attention could be reached")
    return modules


def cross_attention_layers(config: Any) -> frozenset[int]:
    """The decoder layers whose keys are images alone (Llama-3.2-Vision), of a model's text configuration."""
    return frozenset(config.to_dict().get("cross_attention_layers") or ())


def before_each_pass(model: Any, begin: Callable[[Any, int], None]) -> RemovableHandle:
    """Call `begin(cache, seen)` before each pass through the decoder; remove the handle to end it.

    cache: what the pass appends to, None if nothing. seen: how many tokens are in it. Raises AttentionError where there
    are no decoder layers.
    """
    cross = cross_attention_layers(model.config.get_text_config())
    own = (module for module in attention_modules(model) if module.layer_idx not in cross)
    first = min(own, key=lambda module: int(module.layer_idx))

    @torch.compiler.disable  # type: ignore[untyped-decorator] # Python state is set
    def hook(module: Any, positional: Any, named: Mapping[str, Any]) -> None:
        # transformers before 5.24 calls it by the second name
        cache = named.get("cache", named.get("past_key_values"))
        begin(cache, 0 if cache is None else int(cache.get_seq_length(module.layer_idx)))

    handle: RemovableHandle = first.register_forward_pre_hook(hook, with_kwargs=True)
    return handle


def _unknown(implementation: str, done: str) -> str:
    return (
        f"attention implementation {implementation!r} cannot be {done}: load the model with attn_implementation "
        f"one of {', '.join(IMPLEMENTATIONS)}"
    )


def _enter(implementation: str, modules: Iterable[Any], one: Any, registered: MutableMapping[Any, Any]) -> bool:
    """Register `one` for each module; False if any has another."""
    modules = list(modules)
    with _lock:
        if any(module in registered for module in modules):
            return False
        if not _watched[implementation]:
            _originals[implementation] = ALL_ATTENTION_FUNCTIONS.get(implementation)
            ALL_ATTENTION_FUNCTIONS[implementation] = _reached(implementation, _originals[implementation])
        _watched[implementation] += 1
        registered.update((module, one) for module in modules)
        return True


def _leave(implementation: str, modules: Iterable[Any], registered: MutableMapping[Any, Any]) -> None:
    with _lock:
        for module in modules:
            del registered[module]
        _watched[implementation] -= 1
        if not _watched[implementation]:
            original = _originals.pop(implementation)
            if original is None:
                del ALL_ATTENTION_FUNCTIONS[implementation]
            else:  # not deleted: compiled code would look for it in vain
                ALL_ATTENTION_FUNCTIONS[implementation] = original


@cache  # a compiled model is compiled again for every function that it has not met
def _reached(implementation: str, original: Callable[..., Any] | None) -> Callable[..., Any]:
    @torch.compiler.disable  # type: ignore[untyped-decorator] # what is captured leaves the graph through Python state
    def attention(
        module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        # "eager" stands in no table: every modeling file has its own
        function = original or sys.modules[type(module).__module__].eager_attention_forward
        listener, intervention = _listeners.get(module), _interventions.get(module)
        if listener is not None and not listener.wants(module):
            listener = None
        if listener is None and (intervention is None or intervention.idle(module)):
            output, beside = function(module, query, key, value, attention_mask, **kwargs)
            return output, beside
        kernel = Kernel(implementation, function, module, kwargs, listener is not None)
        attend: Callable[..., tuple[Tensor, Tensor | None, Attended | None]]
        attend = kernel if intervention is None else partial(intervention.attend, kernel)
        output, beside, call = attend(query, key, value, attention_mask)
        if listener is not None and call is not None:
            listener.attended(call)
        return output, beside

    reached: Callable[..., Any] = attention
    return reached


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
