"""Observe a transformers model: capture attention masses in its decoder layers while it runs under its own kernels.

The model's outputs are what they are without it, bit by bit, and the vision tower is left alone. It works in one
teacher-forced pass, in generation with a cache, and in training: the masses are differentiable.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import CheckpointImpl, CheckpointWrapper
from torch.nn.parallel import DistributedDataParallel
from torch.utils.hooks import RemovableHandle

from avar_eval.attention import interface
from avar_eval.attention.deferred import MOST_AT_ONCE, DeferredSteps, can_defer, is_append_only, steps_at_once
from avar_eval.attention.groups import KeyGroups
from avar_eval.attention.interface import DecodingStep, ObservedAttention, ObserveError, attention_modules
from avar_eval.attention.key_blocks import to_device
from avar_eval.attention.roles import Role, TokenRoles
from avar_eval.attention.visibility import Places

__all__ = ["GROUPS", "RECORDED", "ROLES_OF", "Observation", "ObserveError", "QuerySet", "observe"]

GROUPS = ("sink", "system", "image", "user", "response", "template")
"""Key groups: `system` contains `sink` (position 0), the other five partition a sequence."""
BEYOND_SINK = "system_beyond_sink"
"""The key group of `system` without `sink`. As a difference of their masses it would be lost in rounding where almost
all attention is on position 0."""
RECORDED = (*GROUPS, BEYOND_SINK)
"""What `avar_eval.attention.record` needs."""

QuerySet = Literal["user", "response", "both"]
ROLES_OF: dict[QuerySet, tuple[Role, ...]] = {
    "user": (Role.USER,),
    "response": (Role.RESPONSE,),
    "both": (Role.USER, Role.RESPONSE),
}
"""The roles of each query set."""


BY_DIFFERENCE = ("user", "response", "template")
"""Groups whose mass may be had as 1 minus the others': no score divides by it, nor takes its logarithm."""


class _Plan(NamedTuple):
    """What to compute in a pass, in each of its layers.

    rows: the queries of interest, counted from the pass's first. positions: the same, counted from the sequence's.
    span: those to compute, perhaps some between; chosen: which of them are of interest, None if all.
    """

    rows: list[int]
    positions: list[int]
    groups: KeyGroups
    span: Sequence[int]
    chosen: Places | None


class Observation:
    """What `observe` captures, for one batch at a time.

    A forward pass without a cache, or with an empty one, starts the batch's captures anew; with a cache, each pass adds
    its positions. Tokens beyond the given roles, as generation appends them, are response.
    """

    def __init__(
        self, config: Any, layers: Iterable[int] | None, queries: QuerySet, groups: Sequence[str], reduce_heads: bool
    ) -> None:
        known = range(config.num_hidden_layers)
        self.layers = tuple(known if layers is None else sorted(set(layers)))
        if not set(self.layers) <= set(known) or not self.layers:
            raise ObserveError(f"layers must be among 0 to {len(known) - 1}, got {list(self.layers)}")
        if unknown := set(groups) - set(RECORDED):
            raise ObserveError(f"no key group is called {', '.join(sorted(unknown))}; there are {', '.join(RECORDED)}")
        self.groups = tuple(groups)
        self.queries = queries
        self.reduce_heads = reduce_heads
        self.cross_layers = interface.cross_attention_layers(config)
        kinds = enumerate(getattr(config, "layer_types", None) or ())
        self._windowed = {layer for layer, kind in kinds if kind != "full_attention"}
        # whether no score can be had layer by layer (see `avar_eval.attention.score`)
        self.pool_layers = not (self.cross_layers | self._windowed).isdisjoint(self.layers)
        self._heads: int = config.num_attention_heads
        self._roles: TokenRoles | None = None
        self._sequences: Places | None = None
        self._steps: KeyGroups | None = None  # of decoding steps
        self._plans: dict[tuple[int, int, int, torch.device], _Plan | None] = {}
        self._masses: dict[int, list[Tensor]] = {}
        self._positions: dict[int, list[int]] = {}
        self._captured_to: dict[int, int] = {}
        self._deferred: dict[int, DeferredSteps] = {}
        self._cached = self._appends = False
        self._begins = 0

    def start(self, roles: TokenRoles, sequences: Sequence[int] | None = None) -> None:
        """Begin a new batch with these roles, of which these sequences are observed (default: all).

        Call backward() of the last one first if gradients are checkpointed.
        """
        known = TokenRoles(roles.codes.cpu(), None if roles.segments is None else roles.segments.cpu())
        if sequences is not None and list(sequences) == list(range(len(roles.codes))):
            sequences = None  # nothing is to be picked
        self._sequences, self._steps = None if sequences is None else Places(sequences), None
        self._roles = known if self._sequences is None else known.of(self._sequences.on(torch.device("cpu")))
        for state in (self._plans, self._masses, self._positions, self._captured_to, self._deferred):
            state.clear()

    @property
    def positions(self) -> list[int]:
        """The positions of the captured queries: those where any sequence of the batch has a wanted role."""
        if not self._masses:
            raise ObserveError("nothing was captured: run the model inside observe(), with roles given")
        return self._positions[min(self._positions)]

    def masses(self) -> Float[Tensor, "layers batch heads queries groups"]:
        """Masses of the chosen layers in order; heads is 1 if they were reduced. Queries are at `positions`, if any.

        Raises ObserveError if the model has not run, or not through every chosen layer.
        """
        positions = self.positions
        skipped = self.cross_layers - set(self._positions)  # a batch without images passes them by
        ran = [layer for layer in self.layers if layer not in skipped]
        if missing := [layer for layer in ran if self._positions.get(layer) != positions]:
            raise ObserveError(f"layers {missing} were not captured, or not as far as the others")
        for layer in list(self._deferred):
            self._flush_deferred(layer)
        by_layer = {layer: torch.cat(self._masses[layer], 2) for layer in ran}
        nothing = torch.zeros_like(by_layer[ran[0]])
        return torch.stack([by_layer.get(layer, nothing).to(nothing.device) for layer in self.layers])

    def mass(self, group: str) -> Float[Tensor, "layers batch heads queries"]:
        """The mass on one key group."""
        return self.masses()[..., self.groups.index(group)]

    def query_mask(self, role: Role, roles: TokenRoles | None = None) -> Bool[Tensor, "batch queries"]:
        """Which of the captured queries have `role`. roles: of all positions, where generation has added some."""
        codes = self._require_roles().codes if roles is None else roles.codes
        return codes[:, torch.tensor(self.positions, dtype=torch.long)] == role

    def _require_roles(self) -> TokenRoles:
        if self._roles is None:
            raise ObserveError("the roles of this batch are not known: give them to observe() or start()")
        return self._roles

    def begin_pass(self, cache: Any, seen: int) -> None:
        """See `avar_eval.attention.interface.before_each_pass`."""
        self._cached, self._appends, self._begins = cache is not None, is_append_only(cache), seen

    def _capture(self, call: ObservedAttention, record: bool) -> bool:
        """Take the masses of the queries of interest in one attention call, if any; whether they have a gradient.

        They are kept if `record`.
        """
        layer, length, keys = call.module.layer_idx, call.query.shape[2], call.key.shape[2]
        seen = self._begins
        self._check(call, length, keys, layer in self.cross_layers)
        if layer in self.cross_layers:
            keys = seen + length  # not the images': those of the conversation, as other layers have them
        elif record and self._can_defer(seen, layer) and can_defer(call):
            self._defer(call, seen)
            return False
        if self._sequences is not None:
            call = call.of(self._sequences.on(call.query.device))
        plan = self._plan(seen, length, keys, call.query)
        masses = self._compute_masses(call, seen, plan)
        if record:
            self._flush_deferred(layer)
            self._begin_layer(layer, seen, length)
            self._masses[layer].append(masses)
            self._positions[layer].extend(plan.positions if plan else ())
        return masses.requires_grad

    def _can_defer(self, seen: int, layer: int) -> bool:
        """Whether a decoding step's masses in this layer can be computed together with those of later steps."""
        wanted = Role.RESPONSE in ROLES_OF[self.queries] and seen >= self._require_roles().codes.shape[1]
        return wanted and self._appends and layer not in self._windowed

    def _defer(self, step: DecodingStep, seen: int) -> None:
        layer = step.module.layer_idx
        self._begin_layer(layer, seen, 1)
        self._positions[layer].append(seen)
        waiting = self._deferred.setdefault(layer, DeferredSteps(self._sequences))
        waiting.add(step)
        if len(waiting.queries) == steps_at_once(step.key.device):
            self._flush_deferred(layer)

    def _flush_deferred(self, layer: int) -> None:
        """Compute what waits in this layer."""
        waiting = self._deferred.pop(layer, None)
        if waiting is not None:
            masses = waiting.masses(self._step_groups)
            self._masses[layer].append(masses.mean(1, keepdim=True) if self.reduce_heads else masses)

    def _compute_masses(
        self, call: ObservedAttention, seen: int, plan: _Plan | None
    ) -> Float[Tensor, "batch heads_or_1 rows groups"]:
        if plan is None:
            batch, heads = call.query.shape[:2]
            return call.query.new_zeros(batch, 1 if self.reduce_heads else heads, 0, len(self.groups)).float()
        if call.module.layer_idx in self.cross_layers:
            masses = self._image_only_masses(call, seen, plan.rows)
        else:
            masses = call.masses(plan.groups, plan.span)
            if plan.chosen is not None:
                masses = masses[:, :, plan.chosen.on(masses.device)]
        return masses.mean(1, keepdim=True) if self.reduce_heads else masses

    def _check(self, call: ObservedAttention, length: int, keys: int, cross: bool) -> None:
        """Raise ObserveError for a call whose place in the sequence, or whose heads, are not known."""
        if not (self._cached or cross or keys == length):
            raise ObserveError("this model hides its cache from its attention layers: run it with use_cache=False")
        if call.query.shape[1] != self._heads:
            raise ObserveError(
                f"{call.query.shape[1]} of {self._heads} heads are here: under tensor or sequence parallelism masses "
                "cannot be measured"
            )

    def _begin_layer(self, layer: int, seen: int, length: int) -> None:
        """A pass over `length` positions after the first `seen` begins in this layer."""
        if seen == 0:
            self._masses[layer], self._positions[layer] = [], []
        elif layer not in self.cross_layers and seen != self._captured_to.get(layer, 0):
            raise ObserveError(
                f"the cache holds {seen} tokens, of which {self._captured_to.get(layer, 0)} were observed: begin with "
                "an empty one, and generate without an assistant or prompt lookup, which cut it back"
            )
        self._captured_to[layer] = seen + length

    def _image_only_masses(self, call: ObservedAttention, seen: int, rows: Sequence[int]) -> Tensor:
        """A cross-attention layer sees nothing but images: all mass is there, from the first image on.

        What precedes every image sees none. (transformers then averages over whatever images the batch has.)
        """
        masses = call.query.new_zeros(*call.query.shape[:2], len(rows), len(self.groups), dtype=torch.float32)
        if "image" in self.groups:
            positions = torch.tensor([seen + row for row in rows])
            roles = _extend_roles(self._require_roles(), int(positions[-1]) + 1)
            sees = (roles.mask(Role.IMAGE).cumsum(1) > 0)[:, positions]
            seeing = to_device(sees[:, None].to(masses.dtype), masses.device)
            masses[..., self.groups.index("image")] = seeing * call.total(rows)
        return masses

    def _plan(self, seen: int, length: int, keys: int, query: Tensor) -> _Plan | None:
        """What to compute in a pass; the same for many layers. None if no query is of interest."""
        place = (seen, length, keys, query.device)
        if place not in self._plans:
            codes = self._require_roles().codes
            if len(codes) != len(query):
                raise ObserveError(f"roles of {len(codes)} sequences were given, but the model runs {len(query)}")
            # those of earlier passes are of no use, and generation makes many
            self._plans = {known: plan for known, plan in self._plans.items() if known[0] == seen}
            self._plans[place] = self._new_plan(seen, length, keys, query.device)
        return self._plans[place]

    def _new_plan(self, seen: int, length: int, keys: int, device: torch.device) -> _Plan | None:
        roles = _extend_roles(self._require_roles(), seen + length)
        wanted = torch.isin(roles.codes[:, seen : seen + length], torch.tensor(ROLES_OF[self.queries]))
        rows = wanted.any(0).nonzero().flatten().tolist()
        if not rows:
            return None
        # a sliding cache keeps the last keys, a static one has room after them, which no query sees
        first = max(0, seen + length - keys)
        if length == 1:
            groups = self._step_groups(first + keys, device).part(slice(first, first + keys))
        else:
            membership = key_groups(roles, self.groups)[:, first:]
            room = membership.new_zeros(len(membership), keys - membership.shape[1], len(self.groups))
            membership = torch.cat([membership, room], 1)
            groups = KeyGroups.of(
                membership, [self.groups.index(name) for name in BY_DIFFERENCE if name in self.groups]
            )
        span = _as_range(rows)
        chosen = Places(row - span[0] for row in rows) if len(span) > len(rows) else None
        return _Plan(rows, [seen + row for row in rows], groups.to(device), span, chosen)

    def _step_groups(self, keys: int, device: torch.device) -> KeyGroups:
        """The groups of so many first keys, for a few queries; what was prepared for earlier steps is used again."""
        known = self._steps
        if known is None or known.host.shape[1] < keys or known.device != device:
            roles = self._require_roles()
            width = max(keys, roles.codes.shape[1]) * 5 // 4 + MOST_AT_ONCE
            known = self._steps = KeyGroups.for_few_queries(key_groups(_extend_roles(roles, width), self.groups)).to(
                device
            )
        return known.part(slice(0, keys))


class _Watch:
    """Listens for an observation; knows forward passes from the recomputations of gradient checkpointing."""

    def __init__(self, model: Any, observation: Observation) -> None:
        self._model = model
        self._observation = observation
        self._implementation: str = model.config.get_text_config()._attn_implementation
        self._modules = attention_modules(model)
        self._passes: RemovableHandle | None = None
        self._captured: dict[int, bool] = {}  # layer -> whether its masses can be recomputed for their gradient
        self._open = True

    def wants(self, module: Any) -> bool:
        return module.layer_idx in self._observation.layers and (self._open or _in_backward())

    def on_attention(self, call: ObservedAttention) -> None:
        layer = call.module.layer_idx
        if not _in_backward():
            self._captured[layer] = self._observation._capture(call, record=True)
            return
        if not self._captured.pop(layer, False):
            raise ObserveError(
                "a layer is recomputed in backward() that was not captured with a gradient before: use gradient "
                'checkpointing with {"use_reentrant": False}, and call backward() of a batch before the next start()'
            )
        self._observation._capture(call, record=False)
        if not self._open and not any(self._captured.values()):
            interface.remove_listener(self._implementation, self._modules)

    def begin(self) -> None:
        for module in self._modules:
            earlier = interface.get_listener(module)
            if isinstance(earlier, _Watch) and not earlier._open:  # it waited for a backward() that never came
                interface.remove_listener(earlier._implementation, earlier._modules)
        interface.add_listener(self._implementation, self._modules, self)
        self._passes = interface.before_each_pass(self._modules, self._observation.begin_pass)

    def end(self) -> None:
        """Stop listening, or wait in the background for the recomputations that backward() will need."""
        self._open = False
        if self._passes is not None:
            self._passes.remove()
        checkpointed = self._model.training and any(map(_is_checkpointed, self._model.modules()))
        if not (checkpointed and any(self._captured.values())):
            interface.remove_listener(self._implementation, self._modules)


@contextmanager
def observe(
    model: Any,
    roles: TokenRoles | None = None,
    *,
    queries: QuerySet = "both",
    groups: Sequence[str] = GROUPS,
    layers: Iterable[int] | None = None,
    reduce_heads: bool = False,
    sequences: Sequence[int] | None = None,
) -> Iterator[Observation]:
    """Capture attention masses of `model` (a native transformers decoder, with or without a vision tower).

    roles: of the batch that will run; `Observation.start` gives those of the next. queries: whose attention. groups:
    key groups (of GROUPS). layers: which decoder layers (default: all). reduce_heads: keep the mean over heads only.
    sequences: which of the batch (default: all); captures have these alone.

    Generation must begin inside the context, with an empty cache. Gradient checkpointing works with
    use_reentrant=False; backward() may follow after the context. Several threads may observe several models; observing
    a model that is being observed raises ObserveError, and so does anything that cannot be captured. On leaving, also
    on error, transformers and the model are as they were.
    """
    inner = model.module if isinstance(model, DistributedDataParallel) else model
    observation = Observation(inner.config.get_text_config(), layers, queries, groups, reduce_heads)
    if roles is not None:
        observation.start(roles, sequences)
    _refuse_reentrant_checkpointing(inner)
    watch = _Watch(inner, observation)
    watch.begin()
    try:
        yield observation
    finally:
        watch.end()


def key_groups(roles: TokenRoles, groups: Sequence[str] = GROUPS) -> Bool[Tensor, "batch keys groups"]:
    """Membership of each key position in the named groups."""
    return torch.stack([_group_members(roles, name) for name in groups], dim=-1)


def _group_members(roles: TokenRoles, group: str) -> Bool[Tensor, "batch keys"]:
    if group == "sink":
        return roles.sink()
    if group == BEYOND_SINK:
        return roles.mask(Role.SYSTEM) & ~roles.sink()
    return roles.mask(Role[group.upper()])


def _is_checkpointed(module: Any) -> bool:
    """Whether transformers, or a wrapper around the module as FSDP has it, keeps no activations of its layers."""
    return isinstance(module, CheckpointWrapper) or bool(getattr(module, "gradient_checkpointing", False))


def _refuse_reentrant_checkpointing(model: Any) -> None:
    for module in model.modules():
        function = vars(module).get("_gradient_checkpointing_func")
        reentrant = function is not None and getattr(function, "keywords", {}).get("use_reentrant")
        if reentrant or (isinstance(module, CheckpointWrapper) and module.checkpoint_impl is CheckpointImpl.REENTRANT):
            raise ObserveError(
                "reentrant gradient checkpointing hides the masses from the gradient: "
                'use gradient_checkpointing_kwargs={"use_reentrant": False}'
            )


def _extend_roles(roles: TokenRoles, width: int) -> TokenRoles:
    """Roles of positions up to `width`: what follows the known ones is response."""
    codes = roles.codes
    if codes.shape[1] == width:
        return roles
    more = codes.new_full((len(codes), max(0, width - codes.shape[1])), int(Role.RESPONSE))
    return TokenRoles(torch.cat([codes, more], 1)[:, :width])


def _as_range(positions: list[int]) -> Sequence[int]:
    """Positions as a range, which costs no copies, unless that would more than double them."""
    if not positions:
        return ()
    span = range(positions[0], positions[-1] + 1)
    return span if len(span) <= 2 * len(positions) else Places(positions)


def _in_backward() -> bool:
    """Whether autograd is running: a forward pass in it is a recomputation (torch.utils.checkpoint asks the same)."""
    task: int = torch._C._current_graph_task_id()
    return task != -1
