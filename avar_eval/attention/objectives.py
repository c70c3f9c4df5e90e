"""What AVAR trains on, as functions of attention masses: the two AGTO losses (Eq. 5-6) and the VARS reward (Eq. 7)."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

EPSILON = 1e-6
"""The epsilon of Eq. 6 and 7 (official code)."""


class AttentionLosses(NamedTuple):
    """enhance_image: Eq. 5. suppress_system: Eq. 6. The total loss (Eq. 4) is L_LM + 0.15 times each."""

    enhance_image: Float[Tensor, ""]
    suppress_system: Float[Tensor, ""]


class SequenceLosses(NamedTuple):
    """Eq. 5 and Eq. 6 of each sequence, before the mean over the batch; 0 where a sequence has no such term."""

    enhance_image: Float[Tensor, " batch"]
    suppress_system: Float[Tensor, " batch"]


def attention_losses(
    image: Float[Tensor, "layers batch heads queries"],
    system: Float[Tensor, "layers batch heads queries"],
    queries: Bool[Tensor, "batch queries"],
    image_keys: Int[Tensor, " batch"],
    system_keys: Int[Tensor, " batch"],
) -> AttentionLosses:
    """AGTO's losses from the masses of each query on image and system keys.

    Eq. 5: -1/L Σ_l 1/H Σ_h log( Σ_{q∈Q} image_mass / (|Q| |K_img|) )
    Eq. 6:  1/L Σ_l 1/H Σ_h log( Σ_{q∈Q} system_mass / (|Q| |K_sys|) + ε )

    queries: Q of each sequence. The mean over the batch is taken after the logarithms, over the sequences that have
    queries, image keys and system keys; without any, both losses are 0.
    """
    usable = queries.any(-1) & (image_keys > 0) & (system_keys > 0)
    losses = sequence_losses(image, system, queries, image_keys * usable, system_keys * usable)
    count = usable.sum().clamp(min=1)
    return AttentionLosses(losses.enhance_image.sum() / count, losses.suppress_system.sum() / count)


def sequence_losses(
    image: Float[Tensor, "layers batch heads queries"],
    system: Float[Tensor, "layers batch heads queries"],
    queries: Bool[Tensor, "batch queries"] | Float[Tensor, "batch queries"],
    image_keys: Int[Tensor, " batch"],
    system_keys: Int[Tensor, " batch"],
    epsilon: float = EPSILON,
) -> SequenceLosses:
    """AGTO's losses of every sequence of a batch (see `attention_losses`). Queries may have weights of any scale.

    A sequence has a term if it has queries and keys of that kind: one without images has no image term. A head whose
    image mass underflows float32 counts as the smallest normal number and has no gradient: Eq. 5 has no ε.
    """

    def mean_log_density(mass: Tensor, keys: Tensor, add: float) -> Float[Tensor, " batch"]:
        present = queries.any(-1) & (keys > 0)
        chosen = queries[present][:, None].to(mass.dtype)
        density = (mass[:, present] * chosen).sum(-1) / chosen.sum(-1) / keys[present, None]
        logs = (density + add).clamp(min=torch.finfo(mass.dtype).tiny).log().mean((0, 2))
        return mass.new_zeros(len(keys)).masked_scatter(present, logs)

    return SequenceLosses(-mean_log_density(image, image_keys, 0.0), mean_log_density(system, system_keys, epsilon))


def visual_ratio(
    image: Float[Tensor, "layers batch heads queries"], system: Float[Tensor, "layers batch heads queries"]
) -> Float[Tensor, "batch queries"]:
    """The summand of Eq. 7 for every query t: 1/L Σ_l image_mass(l, t) / (system_mass(l, t) + ε), mean over heads."""
    ratios: Tensor = (image.mean(2) / (system.mean(2) + EPSILON)).mean(0)
    return ratios


def visual_reward(
    image: Float[Tensor, "layers batch heads queries"],
    system: Float[Tensor, "layers batch heads queries"],
    response: Bool[Tensor, "batch queries"],
    correct: Bool[Tensor, " batch"],
) -> Float[Tensor, " batch"]:
    """r_visual (Eq. 7): the mean of `visual_ratio` over the response's tokens, 0 where the answer is wrong."""
    chosen = response.to(image.dtype)
    mean = (visual_ratio(image, system) * chosen).sum(-1) / chosen.sum(-1).clamp(min=1)
    return torch.where(correct, mean, torch.zeros_like(mean))
