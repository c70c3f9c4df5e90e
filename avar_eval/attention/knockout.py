"""Knockout: text cannot attend to image tokens, as if their keys did not exist; what is left is renormalised.

Eq. 3 with an image strength of -1 in mode `log`, whose bias is minus infinity. Mode `prob` with the same strength would
take the image's part out of attention's output and put nothing in its place: outputs shorter than any that the model
has seen, so that a change may come of that alone. Here a query's weights still add up to 1.

Queries are all positions that are no image token, text between two images included; image tokens see each other. Where
the keys are images alone, in the cross-attention layers of Llama-3.2-Vision, nothing is left to attend to, and the
output is 0. Hiding is a bias through one more dimension of queries and keys: the model's own kernel runs, in memory
linear in the sequence.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from avar_eval.attention import interface
from avar_eval.attention.interface import AttentionCall, DecodingStep, Kernel, SteerError, attention_modules
from avar_eval.attention.key_blocks import to_device
from avar_eval.attention.roles import Role, TokenRoles
from avar_eval.attention.steer import SteeredModel
from avar_eval.attention.steered_attention import Result, check_softcap, with_bias
from avar_eval.attention.steering import UNSTEERED, Steering

_HIDDEN = -2000.0
"""The bias of a hidden key: its weight is 0 in every precision, and the bias over the scaling is a float16."""


@dataclass(frozen=True)
class _HidingKernel(Kernel):
    """A kernel that hides some keys from some queries. A call may have the first of both."""

    hidden: Bool[Tensor, "batch keys"]
    rows: Bool[Tensor, "batch queries"]

    def __call__(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Any
    ) -> tuple[Tensor, Tensor | None, AttentionCall | DecodingStep | None]:
        """See `Kernel`."""
        plain = Kernel(self.implementation, self.reading, self.function, self.module, self.kwargs, self.listening)
        bias = self.hidden[:, : key.shape[2]].to(torch.float32) * _HIDDEN
        return with_bias(plain, query, key, value, mask, self.rows[:, None, : query.shape[2]], bias)


class _Knockout:
    """The intervention: hides image keys in some layers, under a steering if there is one."""

    def __init__(
        self,
        config: Any,
        roles: TokenRoles,
        layers: Sequence[int] | None,
        since: Sequence[int] | None,
        steered: SteeredModel | None,
    ) -> None:
        self._layers = frozenset(range(config.num_hidden_layers) if layers is None else layers)
        self._cross = interface.cross_attention_layers(config)
        self._steered = steered
        self._images = roles.mask(Role.IMAGE)
        first = torch.tensor([0] * len(roles.codes) if since is None else since)
        self._rows = ~self._images & (torch.arange(roles.codes.shape[1]) >= first[:, None])

    def idle(self, module: Any) -> bool:
        """See `avar_eval.attention.interface.Intervention`."""
        return module.layer_idx not in self._layers and (self._steered is None or self._steered.idle(module))

    def attend(self, kernel: Kernel, query: Tensor, key: Tensor, value: Tensor, mask: Any) -> Result:
        """See `avar_eval.attention.interface.Intervention`."""
        rows, layer = to_device(self._rows, query.device), kernel.module.layer_idx
        hides, cross = layer in self._layers, layer in self._cross
        if hides and not cross:
            check_softcap(kernel)
            own = {of.name: getattr(kernel, of.name) for of in fields(Kernel)}
            kernel = _HidingKernel(**own, hidden=to_device(self._images, query.device), rows=rows)
        steered = self._steered
        result = (kernel if steered is None else partial(steered.attend, kernel))(query, key, value, mask)
        if hides and cross:
            output, maps, call = result
            return output * ~rows[:, :, None, None], maps, call
        return result


@contextmanager
def knock_out_images(
    model: Any,
    roles: TokenRoles,
    layers: Sequence[int] | None = None,
    steering: Steering = UNSTEERED,
    since: Sequence[int] | None = None,
) -> Iterator[None]:
    """Within this context text cannot attend to image tokens in these layers (None: all), one pass without a cache.

    steering: what else the model is steered by. since: of each sequence, the first position that cannot (None: all of
    them). Raises SteerError for mode `abs`, whose scores no kernel sees, and for
    what cannot be steered exactly. On leaving, also on error, transformers and the model are as they were.
    """
    if steering.active and steering.mode == "abs":
        raise SteerError("a model steered in mode abs cannot be knocked out: its scores are not the kernel's")
    config = model.config.get_text_config()
    steered = SteeredModel(steering, config) if steering.active else None
    if steered is not None:
        steered.start(roles)
    modules, implementation = attention_modules(model), config._attn_implementation
    interface.add_intervention(implementation, modules, _Knockout(config, roles, layers, since, steered))
    passes = None if steered is None else interface.before_each_pass(modules, steered.begin_pass)
    try:
        yield
    finally:
        if passes is not None:
            passes.remove()
        interface.remove_intervention(implementation, modules)
