"""Steer a transformers model: `with steer(model, Steering(image=0.15, system=0.4), roles):`.

The model runs under its own kernels, in one pass, in chunks or in generation with a cache, and its outputs are those
of the formula (`avar_eval.attention.steering`) up to rounding; strengths of 0 leave every bit as it is. In a cache,
keys (mode `logit`) or values (`prob`) are scaled in place once, when the first steered query has come: no second copy
is kept, and decoding runs the plain kernel on the cache. A cache that was filled under steering belongs to it, and to
the images and system prompt that it was filled with: begin others with an empty one.

Cost beyond the plain model: a prefill whose first queries are not steered runs attention a second time, over these
(under SDPA) or over all (other kernels); `heads` runs it twice in every pass; `log` adds a bias in every pass; `abs`
computes its queries in blocks outside of the kernel. Caches whose tensors cannot be changed in place (quantized,
offloaded, static with a sliding window) are read through a scaled copy in every pass.

Llama-3.2-Vision: the keys of its cross-attention layers are images, so all of them have the image's strength there
(`logit` sharpens attention within the images, `log` changes nothing, `prob` makes their part larger), and so have the
`<|image|>` tokens in its other layers.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from avar_eval.attention import interface
from avar_eval.attention.interface import Kernel, SteerError, attention_modules
from avar_eval.attention.key_blocks import to_device
from avar_eval.attention.roles import Role, TokenRoles
from avar_eval.attention.steered_attention import (
    Result,
    SteeredKeys,
    biased,
    check_softcap,
    magnified,
    merged,
    scaled,
    weighted,
)
from avar_eval.attention.steering import Rows, Steering

__all__ = ["SteerError", "SteeredModel", "check_steering", "first_steered", "steer"]


@dataclass(frozen=True, eq=False)
class _Batch:
    """What steering makes of a batch's roles: the strength of each key, and the first steered query."""

    steering: Steering
    strengths: Float[Tensor, "batch sequence"]
    first: Int[Tensor, " batch"]

    @cached_property
    def last_first(self) -> int:
        """The first steered query of the sequence that is steered latest."""
        return int(self.first.max())

    def continues(self, other: "_Batch") -> bool:
        """Whether it scales what `other` scales, and nothing else; the longer of them may have more response."""
        if self.steering != other.steering or not torch.equal(self.first, other.first):
            return False
        width = max(self.strengths.shape[1], other.strengths.shape[1])
        mine, others = (F.pad(of.strengths, (0, width - of.strengths.shape[1])) for of in (self, other))
        return torch.equal(mine, others)


class _Filled(NamedTuple):
    """What of a cache layer is scaled.

    Its first `keys` keys, in the sequences whose first steered query came before position `end`. complete: nothing is
    left to scale, for only response tokens follow.
    """

    batch: _Batch
    end: int
    keys: int
    complete: bool


_filled: "WeakKeyDictionary[Any, _Filled]" = WeakKeyDictionary()


class _Plan(NamedTuple):
    """One pass through layers of one kind.

    pending: strengths of the keys that are not scaled in the cache yet, if there are any.
    """

    keys: SteeredKeys
    pending: Float[Tensor, "batch keys"] | None


class SteeredModel:
    """The handle that `steer` gives: `start(roles)` before a batch of other roles."""

    def __init__(self, steering: Steering, config: Any) -> None:
        self.steering = steering
        self._cross_layers = interface.cross_attention_layers(config)
        self._layers = frozenset(range(config.num_hidden_layers) if steering.layers is None else steering.layers)
        heads = torch.arange(config.num_attention_heads)
        self._heads = None if steering.heads is None else torch.isin(heads, torch.tensor(steering.heads))
        self._batch: _Batch | None = None
        self._cache: Any = None
        self._seen = 0
        self._plans: dict[Any, _Plan | None] = {}

    def start(self, roles: TokenRoles) -> None:
        """Begin a new batch with these roles; what follows them is response."""
        if roles.segments is not None:
            raise SteerError("packed sequences cannot be steered: give each sequence a row of its own")
        codes = roles.codes.cpu()
        of_image, of_system = (codes == Role.IMAGE).float(), (codes == Role.SYSTEM).float()
        strengths = of_image * self.steering.image - of_system * self.steering.system
        self._batch = _Batch(self.steering, strengths, first_steered(self.steering.rows, codes))
        self._plans.clear()

    def begin_pass(self, cache: Any, seen: int) -> None:
        """See `avar_eval.attention.interface.before_each_pass`."""
        self._cache, self._seen = cache, seen
        self._plans.clear()

    def idle(self, module: Any) -> bool:
        """See `avar_eval.attention.interface.Intervention`: true of every decoding step where the cache is scaled."""
        layer: int = module.layer_idx
        if layer not in self._layers:
            return True
        filled = self._previous_fill(self._store(layer))
        return filled is not None and filled.complete

    def attend(self, kernel: Kernel, query: Tensor, key: Tensor, value: Tensor, mask: Any) -> Result:
        """See `avar_eval.attention.interface.Intervention`."""
        layer, mode = kernel.module.layer_idx, self.steering.mode
        if self.idle(kernel.module) and not (kernel.listening and layer in self._layers and mode == "prob"):
            return kernel(query, key, value, mask)
        cross, store = layer in self._cross_layers, self._store(layer)
        plan = self._plan(cross, query, key.shape[2], self._previous_fill(store))
        if plan is None:
            return kernel(query, key, value, mask)
        if mode != "prob":
            check_softcap(kernel)
        if mode in ("logit", "prob"):
            return self._scaled(plan, kernel, (query, key, value, mask), store, cross)
        if mode == "log":
            return biased(plan.keys, kernel, query, key, value, mask)
        changed = magnified(plan.keys, kernel, query, key, value, mask)
        return merged(plan.keys, kernel(query, key, value, mask), changed) if plan.keys.plain else changed

    def _scaled(
        self, plan: _Plan, kernel: Kernel, states: tuple[Tensor, Tensor, Tensor, Any], store: Any, cross: bool
    ) -> Result:
        """Modes `logit` and `prob`."""
        query, key, value, mask = states
        prob = self.steering.mode == "prob"
        target = value if prob else key
        in_place = self._heads is None and store is not None and _shares_storage(store, target, prob)
        plain = None
        if plan.keys.plain:
            # what a listener keeps must not change with the cache
            unscaled = key.clone() if kernel.listening and in_place and not prob else key
            shorten = kernel.reading == "sdpa" and self._seen == 0 and not (kernel.listening or cross)
            plain = kernel(*_first_queries(query, unscaled, value, mask, plan.keys.plain if shorten else None))
        if not in_place and store not in _filled:
            target = scaled(target, plan.keys.strengths)
        elif plan.pending is not None:
            if not in_place:
                raise SteerError("this cache has moved its tensors while it was being filled: use another cache")
            target.mul_((1 + plan.pending)[:, None, :, None])
            _filled[store] = self._current_fill(query.shape[2], key.shape[2] if cross else None)
        changed: Result = kernel(query, key, target, mask) if prob else kernel(query, target, value, mask)
        if prob:
            changed = weighted(changed, plan.keys.strengths)
        return changed if plain is None else merged(plan.keys, plain, changed)

    def _current_fill(self, queries: int, cross_keys: int | None) -> _Filled:
        end = self._seen + queries
        batch = self._require_batch()
        if cross_keys is not None:
            return _Filled(batch, end, cross_keys, complete=False)
        needed = max(batch.strengths.shape[1], batch.last_first + 1)
        if end < needed:
            return _Filled(batch, end, end, complete=False)
        return _Filled(batch, needed, needed, complete=True)  # what came along after it may be cut off again

    def _store(self, layer: int) -> Any:
        """The cache layer that a decoder layer appends to."""
        return None if self._cache is None else self._cache.layers[layer]

    def _previous_fill(self, store: Any) -> _Filled | None:
        """What is scaled in a cache layer already."""
        if store is None:
            return None
        if self._seen == 0:
            _filled.pop(store, None)
        filled = _filled.get(store)
        if filled is None or (filled.batch is self._batch and filled.end <= self._seen):
            return filled
        batch = self._require_batch()
        if filled.end > self._seen or not batch.continues(filled.batch):
            raise SteerError(
                "this cache was filled under other steering or other roles, or cut back: begin with an empty one"
            )
        _filled[store] = filled = filled._replace(batch=batch)
        return filled

    def _plan(self, cross: bool, query: Tensor, keys: int, filled: _Filled | None) -> _Plan | None:
        """What to do in a pass, the same for many layers; None if nothing changes."""
        known = self._require_batch().strengths
        place = (cross, query.shape[2], keys, filled, query.device)
        if place not in self._plans:
            if len(known) != len(query):
                raise SteerError(f"roles of {len(known)} sequences were given, but the model runs {len(query)}")
            if self._cache is None and not cross and query.shape[2] != keys:
                raise SteerError("this model hides its cache from its attention layers: run it with use_cache=False")
            self._plans[place] = self._new_plan(cross, query, keys, filled)
        return self._plans[place]

    def _new_plan(self, cross: bool, query: Tensor, keys: int, filled: _Filled | None) -> _Plan | None:
        batch, end = self._require_batch(), self._seen + query.shape[2]
        known, first = batch.strengths, batch.first
        # a sliding cache keeps the last keys, a static one has room after them
        offset = 0 if cross else max(0, end - keys)
        strengths = known.new_zeros(len(known), keys)
        if cross:
            strengths += self.steering.image
        else:
            part = known[:, offset : offset + keys]
            strengths[:, : part.shape[1]] = part
        strengths[first >= end] = 0
        if not strengths.any():
            return None
        pending = strengths.clone()
        if filled is not None:
            scaled_before = max(0, filled.keys - offset)
            pending[first < filled.end, :scaled_before] = 0
        of_rows = torch.arange(self._seen, end) >= first[:, None]
        everywhere = bool(of_rows.all())
        steered = of_rows[:, None]
        plain = 0 if everywhere else min(batch.last_first, end) - self._seen
        if self._heads is not None:
            steered, plain = steered & self._heads[None, :, None], query.shape[2]
        device, earliest = query.device, max(0, int(first.min()) - self._seen)
        keys_of = SteeredKeys(to_device(strengths, device), to_device(steered, device), earliest, plain)
        return _Plan(keys_of, to_device(pending, device) if pending.any() else None)

    def _require_batch(self) -> _Batch:
        if self._batch is None:
            raise SteerError("the roles of this batch are not known: give them to steer() or start()")
        return self._batch


def first_steered(rows: Rows, codes: Int[Tensor, "batch sequence"]) -> Int[Tensor, " batch"]:
    """The first position of each sequence whose query is steered; all after it are.

    `last` is the position before the last run of response tokens, or the last position if there is none.
    """
    positions = torch.arange(codes.shape[1])
    if rows == "all":
        return torch.zeros(len(codes), dtype=torch.long)
    if rows == "after-image":
        return torch.where(codes == Role.IMAGE, positions + 1, 0).amax(1)
    others = (codes != Role.PADDING) & (codes != Role.RESPONSE)
    return torch.where(others, positions, 0).amax(1)


def check_steering(config: Any, steering: Steering) -> None:
    """Raise SteerError if a model of this (text) configuration lacks a layer or head that is to be steered."""
    asked = (
        ("layers", steering.layers, config.num_hidden_layers),
        ("heads", steering.heads, config.num_attention_heads),
    )
    for name, numbers, count in asked:
        if numbers is not None and numbers[-1] >= count:
            raise SteerError(
                f"steering asks for {name} up to {numbers[-1]}, but the model's are 0 to {count - 1}: name which of "
                f"these, as in {name}=0-{count - 1}"
            )


@contextmanager
def steer(model: Any, steering: Steering, roles: TokenRoles | None = None) -> Iterator[SteeredModel]:
    """Steer `model` (a native transformers decoder, with or without a vision tower) within this context.

    roles: of the batch that will run; `SteeredModel.start` gives those of the next. Generation must begin inside the
    context, with an empty cache. `observe` sees the steered attention, inside or outside of this context. Raises
    SteerError for what cannot be steered exactly. On leaving, also on error, transformers and the model are as they
    were.
    """
    inner = model.module if isinstance(model, DistributedDataParallel) else model
    config = inner.config.get_text_config()
    check_steering(config, steering)
    steered = SteeredModel(steering, config)
    if roles is not None:
        steered.start(roles)
    if not steering.active:
        yield steered
        return
    modules = attention_modules(inner)
    implementation: str = config._attn_implementation
    interface.add_intervention(implementation, modules, steered)
    passes = interface.before_each_pass(modules, steered.begin_pass)
    try:
        yield steered
    finally:
        passes.remove()
        interface.remove_intervention(implementation, modules)


def _shares_storage(store: Any, states: Tensor, values: bool) -> bool:
    """Whether changing these states changes the cache layer that they came from, and nothing else."""
    kept = store.values if values else store.keys
    same = kept is not None and kept.untyped_storage().data_ptr() == states.untyped_storage().data_ptr()
    return same and not states.requires_grad


def _first_queries(
    query: Tensor, key: Tensor, value: Tensor, mask: Any, count: int | None
) -> tuple[Tensor, Tensor, Tensor, Any]:
    """The first queries of a prefill with the keys that causality lets them see; None is all."""
    if count is None:
        return query, key, value, mask
    shorter = mask[..., :count, :count] if isinstance(mask, Tensor) else mask
    return query[:, :, :count], key[:, :, :count], value[:, :, :count], shorter
