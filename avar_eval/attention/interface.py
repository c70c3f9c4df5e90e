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
from torch.utils.hooks import RemovableHandle
from transformers import modeling_flash_attention_utils as flash_utils
from transformers.integrations.flash_attention import flash_attention_forward, get_target_dtype
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from avar_eval.attention.groups import KeyGroups
from avar_eval.attention.implementations import (
    KNOWN,
    AttentionError,
    ObserveError,
    Reading,
    SteerError,
    get_reading,
    learnt_sink,
    read_visibility,
    unpadded_queries,
)
from avar_eval.attention.mass import attention_mass
from avar_eval.attention.normaliser import NormaliserTap, returning_lse
from avar_eval.attention.visibility import Visibility

__all__ = ["AttentionError", "ObserveError", "SteerError"]


class ObservedAttention(Protocol):
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
        """The mass of the given queries on all keys: 1, unless a sink or steering in mode `prob` has changed it."""

    def of(self, sequences: Int[Tensor, " chosen"]) -> "ObservedAttention":
        """The same call of some sequences of the batch."""


@dataclass(frozen=True)
class AttentionCall:
    """One call of an attention kernel.

    query, key: as the kernel computes with them. lse: the softmax normaliser of every query over its keys, where the
    kernel gave it. sink: the logit that each head has beside its keys, if it has learnt one.
    """

    module: Any
    query: Float[Tensor, "batch heads queries dim"]
    key: Float[Tensor, "batch kv_heads keys dim"]
    visibility: Visibility
    scaling: float
    softcap: float | None
    lse: Float[Tensor, "batch heads queries"] | None
    sink: Float[Tensor, " heads"] | None

    def masses(self, groups: KeyGroups, rows: Sequence[int]) -> Float[Tensor, "batch heads rows groups"]:
        """See `ObservedAttention`."""
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
                sink=self.sink,
            )

    def total(self, rows: Sequence[int]) -> Float[Tensor, "batch heads rows"]:
        """See `ObservedAttention`."""
        if self.sink is None:
            return self.query.new_ones(*self.query.shape[:2], len(rows), dtype=torch.float32)
        everything = torch.ones(len(self.key), self.key.shape[2], 1, dtype=torch.bool, device=self.key.device)
        return self.masses(KeyGroups.for_few_queries(everything), rows)[..., 0]

    def of(self, sequences: Int[Tensor, " chosen"]) -> Self:
        """See `ObservedAttention`."""
        return replace(
            self,
            query=self.query[sequences],
            key=self.key[sequences],
            visibility=self.visibility.of(sequences),
            lse=None if self.lse is None else self.lse[sequences],
        )


class DecodingStep:
    """A call with one query, whose score alone is cheap: what else there is to know is found out when it is asked for.

    So a step whose masses are computed with those of later ones costs next to nothing.
    """

    __slots__ = ("_whole", "kernel", "key", "mask", "module", "query")

    def __init__(self, kernel: "Kernel", query: Tensor, key: Tensor, mask: Any) -> None:
        self.kernel, self.module, self.query, self.key, self.mask = kernel, kernel.module, query, key, mask
        self._whole: AttentionCall | None = None

    @property
    def whole(self) -> AttentionCall:
        """The call itself."""
        if self._whole is None:
            self._whole = self.kernel.call(self.query, self.key, self.mask, None)
        return self._whole

    def masses(self, groups: KeyGroups, rows: Sequence[int]) -> Float[Tensor, "batch heads rows groups"]:
        """See `ObservedAttention`."""
        return self.whole.masses(groups, rows)

    def total(self, rows: Sequence[int]) -> Float[Tensor, "batch heads rows"]:
        """See `ObservedAttention`."""
        return self.whole.total(rows)

    def of(self, sequences: Int[Tensor, " chosen"]) -> AttentionCall:
        """See `ObservedAttention`."""
        return self.whole.of(sequences)


@dataclass(frozen=True)
class Kernel:
    """transformers' attention function with the arguments of one module's call: an intervention may run it twice.

    reading: how it reads its arguments.
    """

    implementation: str
    reading: Reading
    function: Callable[..., Any]
    module: Any
    kwargs: Mapping[str, Any]
    listening: bool

    def __call__(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Any
    ) -> tuple[Tensor, Tensor | None, AttentionCall | DecodingStep | None]:
        """Output [batch queries heads dim], what the function gives beside it, and the call if anyone listens."""
        # flex_attention is compiled, and would be another kernel under a dispatch mode
        if not self.listening or query.shape[2] == 1 or self.reading == "flex":
            output, given = self.function(self.module, query, key, value, mask, **self.kwargs)
            if not self.listening:
                return output, given, None
            if self.reading != "flex":  # all scores of a query cost less than catching its normaliser
                return output, given, DecodingStep(self, query, key, mask)
            # none on a CPU; rounded to the value's precision in half precision
            lse = None if given is None or given.dtype != torch.float32 else given.detach()
            return output, given, self.call(query, key, mask, lse)
        with NormaliserTap() as tap:
            output, given = self.function(self.module, query, key, value, mask, **self.kwargs)
        call, lse = self.call(query, key, mask, None), None
        if call.sink is None:  # with one, kernels differ in whether they count it
            with torch.autocast(query.device.type, enabled=False):
                lse = tap.proven_lse(
                    call.query,
                    call.key,
                    call.visibility,
                    given=unpadded_queries(self.reading, query, mask),
                    scaling=call.scaling,
                    softcap=call.softcap,
                )
        return output, given, replace(call, lse=lse)

    def call(self, query: Tensor, key: Tensor, mask: Any, lse: Tensor | None) -> AttentionCall:
        """What these arguments tell of a call, with the normaliser that the kernel has given, if any."""
        dtype = self._computes_in(query)
        visibility = self.visibility(query, key, mask)
        softcap = self.kwargs.get("softcap")
        sink = self.sink(query)
        return AttentionCall(
            self.module, query.to(dtype), key.to(dtype), visibility, self.scaling(query), softcap, lse, sink
        )

    def _computes_in(self, query: Tensor) -> torch.dtype:
        """The type that the kernel rounds queries and keys to before it computes."""
        if self.function is flash_attention_forward:
            return get_target_dtype(query, self.module) or query.dtype
        device = query.device.type
        if self.reading == "sdpa" and query.dtype != torch.float64 and torch.is_autocast_enabled(device):
            return torch.get_autocast_dtype(device)
        return query.dtype

    def scaling(self, query: Tensor) -> float:
        """What the products of queries and keys are multiplied by."""
        given = self.kwargs.get("scaling")
        return float(query.shape[-1] ** -0.5 if given is None else given)

    def visibility(self, query: Tensor, key: Tensor, mask: Any) -> Visibility:
        """Which keys the call's queries see."""
        return read_visibility(self.reading, self.module, query, key, mask, self.kwargs)

    def sink(self, query: Tensor) -> Float[Tensor, " heads"] | None:
        """The logit that each head has learnt beside its keys, as far as the function reads it."""
        return learnt_sink(self.implementation, self.reading, self.function, query, self.kwargs)


class Listener(Protocol):
    """Is told of each attention call of the modules it watches."""

    def wants(self, module: Any) -> bool:
        """Whether the next call of this module is of interest."""

    def on_attention(self, call: ObservedAttention) -> None:
        """A call has been made."""


class Intervention(Protocol):
    """Takes the place of the attention of the modules it is set upon."""

    def idle(self, module: Any) -> bool:
        """Whether the kernel as it is does the next call of this module. Asked in every call, so it must be quick."""

    def attend(
        self, kernel: Kernel, query: Tensor, key: Tensor, value: Tensor, mask: Any
    ) -> tuple[Tensor, Tensor | None, ObservedAttention | None]:
        """What `Kernel.__call__` gives, of changed attention."""


_listeners: "WeakKeyDictionary[Any, Listener]" = WeakKeyDictionary()
_interventions: "WeakKeyDictionary[Any, Intervention]" = WeakKeyDictionary()
_watched: Counter[str] = Counter()
_originals: dict[str, Callable[..., Any] | None] = {}
_lazy_imports: list[Callable[..., Any]] = []
"""transformers' own function, while one that asks for normalisers stands in its place."""
_lock = threading.Lock()


def add_listener(implementation: str, modules: Iterable[Any], listener: Listener) -> None:
    """Tell `listener` of every attention call of `modules`, which run under `implementation`.

    Raises ObserveError if the implementation is not known here or another listener watches one of the modules.
    """
    _check(implementation, "observed", ObserveError)
    if not _register(implementation, modules, listener, _listeners):
        raise ObserveError("this model is being observed already: leave the inner observe() first")


def get_listener(module: Any) -> Listener | None:
    """Who watches this module."""
    return _listeners.get(module)


def remove_listener(implementation: str, modules: Iterable[Any]) -> None:
    """Undo `add_listener`."""
    _unregister(implementation, modules, _listeners)


def add_intervention(implementation: str, modules: Iterable[Any], intervention: Intervention) -> None:
    """Let `intervention` take the place of the attention of `modules`, which run under `implementation`.

    Raises SteerError if the implementation is not known here or one of the modules is steered already.
    """
    _check(implementation, "steered", SteerError)
    if not _register(implementation, modules, intervention, _interventions):
        raise SteerError("this model is being steered already: leave the inner steer() first")


def remove_intervention(implementation: str, modules: Iterable[Any]) -> None:
    """Undo `add_intervention`."""
    _unregister(implementation, modules, _interventions)


def attention_modules(model: Any) -> list[Any]:
    """The attention modules of a model's decoder layers. Raises AttentionError if there are none."""
    config = model.config.get_text_config()
    # looked up as plain attributes: torch.nn.Module raises an error for each that it does not have
    kept = ((module, vars(module)) for module in model.modules())
    modules = [module for module, has in kept if has.get("config") is config and "layer_idx" in has]
    if not modules:
        raise AttentionError(f"{type(model).__name__} has no decoder layers whose attention could be reached")
    return modules


def cross_attention_layers(config: Any) -> frozenset[int]:
    """The decoder layers whose keys are images alone (Llama-3.2-Vision), of a model's text configuration."""
    return frozenset(getattr(config, "cross_attention_layers", None) or ())


def before_each_pass(modules: Sequence[Any], begin: Callable[[Any, int], None]) -> RemovableHandle:
    """Call `begin(cache, seen)` before each pass through the decoder; remove the handle to end it.

    modules: `attention_modules` of a model. cache: what the pass appends to, None if nothing. seen: how many tokens are
    in it.
    """
    cross = cross_attention_layers(modules[0].config)
    own = (module for module in modules if module.layer_idx not in cross)
    first = min(own, key=lambda module: int(module.layer_idx))

    @torch.compiler.disable  # type: ignore[untyped-decorator] # Python state is set
    def hook(module: Any, positional: Any, named: Mapping[str, Any]) -> None:
        # transformers before 5.24 calls it by the second name
        cache = named.get("cache", named.get("past_key_values"))
        begin(cache, 0 if cache is None else int(cache.get_seq_length(module.layer_idx)))

    handle: RemovableHandle = first.register_forward_pre_hook(hook, with_kwargs=True)
    return handle


def _check(implementation: str, done: str, kind: type[AttentionError]) -> None:
    try:
        get_reading(implementation)
    except AttentionError as error:
        raise kind(
            f"attention implementation {implementation!r} cannot be {done} ({error}): load the model with "
            f"attn_implementation one of {KNOWN}"
        ) from error


def _register(implementation: str, modules: Iterable[Any], one: Any, registered: MutableMapping[Any, Any]) -> bool:
    """Register `one` for each module; False if any has another."""
    modules = list(modules)
    with _lock:
        if any(module in registered for module in modules):
            return False
        if not _watched[implementation]:
            original = ALL_ATTENTION_FUNCTIONS.get(implementation)
            ALL_ATTENTION_FUNCTIONS[implementation] = _wrap(implementation, original)
            if original is flash_attention_forward and original not in _originals.values():
                _lazy_imports.append(flash_utils.lazy_import_flash_attention)
                flash_utils.lazy_import_flash_attention = returning_lse(_lazy_imports[0])
            _originals[implementation] = original
        _watched[implementation] += 1
        registered.update((module, one) for module in modules)
        return True


def _unregister(implementation: str, modules: Iterable[Any], registered: MutableMapping[Any, Any]) -> None:
    with _lock:
        for module in modules:
            del registered[module]
        _watched[implementation] -= 1
        if not _watched[implementation]:
            original = _originals.pop(implementation)
            if original is flash_attention_forward and original not in _originals.values():
                flash_utils.lazy_import_flash_attention = _lazy_imports.pop()
            if original is None:
                del ALL_ATTENTION_FUNCTIONS[implementation]
            else:  # not deleted: compiled code would look for it in vain
                ALL_ATTENTION_FUNCTIONS[implementation] = original


@cache  # a compiled model is compiled again for every function that it has not met
def _wrap(implementation: str, original: Callable[..., Any] | None) -> Callable[..., Any]:
    reading = get_reading(implementation)

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
        kernel = Kernel(implementation, reading, function, module, kwargs, listener is not None)
        attend: Callable[..., tuple[Tensor, Tensor | None, ObservedAttention | None]]
        attend = kernel if intervention is None else partial(intervention.attend, kernel)
        output, beside, call = attend(query, key, value, attention_mask)
        if listener is not None and call is not None:
            listener.on_attention(call)
        return output, beside

    reached: Callable[..., Any] = attention
    return reached
