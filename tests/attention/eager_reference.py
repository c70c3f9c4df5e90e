"""The reference of every family: transformers' own attention maps, eager, in float64, and masses summed from them."""

import copy
from typing import Any

import torch
from torch import Tensor

from avar_eval.attention.observe import GROUPS
from avar_eval.attention.roles import Role


def in_eager_float64(model: Any) -> Any:
    reference = copy.deepcopy(model).double()
    reference.set_attn_implementation("eager")
    return reference


def eager_maps(reference: Any, inputs: Any) -> list[Tensor]:
    """The maps [batch heads queries keys] of every decoder layer, in order."""
    maps: dict[int, Tensor] = {}
    config = reference.config.get_text_config()
    modules = [module for module in reference.modules() if hasattr(module, "layer_idx") and hasattr(module, "q_proj")]
    hooks = [
        module.register_forward_hook(lambda of, _, output: maps.__setitem__(of.layer_idx, output[1]))
        for module in modules
    ]
    doubled = {name: of.double() if of.is_floating_point() else of for name, of in inputs.items()}
    reference(**doubled, use_cache=False)
    for hook in hooks:
        hook.remove()
    skipped = [torch.zeros(*maps[0].shape[:3], 0, dtype=torch.float64)] * config.num_hidden_layers
    return [maps.get(layer, skipped[layer]) for layer in range(config.num_hidden_layers)]


def group_masses(maps: list[Tensor], roles: Tensor) -> dict[str, Tensor]:
    """Group -> [layers heads queries] of one sequence, summed from its maps."""
    sees_image = (roles == Role.IMAGE).cumsum(0) > 0

    def mass(of: Tensor, group: str) -> Tensor:
        if of.shape[-1] != len(roles):  # cross-attention: all keys are the image's
            return of.sum(-1) * sees_image if group == "image" else of.sum(-1) * 0
        keys = torch.arange(len(roles)) == 0 if group == "sink" else roles == Role[group.upper()]
        return of[..., keys].sum(-1)

    return {group: torch.stack([mass(of[0], group) for of in maps]) for group in GROUPS}
