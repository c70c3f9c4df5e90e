"""VARS, the visual-anchored reward shaping of arXiv 2603.03825: how much a response looks at the image (Eq. 7)."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from avar_eval.attention.objectives import visual_reward


def response_visual_ratio(
    image: Float[Tensor, "layers batch heads queries"],
    system: Float[Tensor, "layers batch heads queries"],
    response: Bool[Tensor, "batch queries"],
) -> Float[Tensor, " batch"]:
    """Eq. 7 of responses that are right: 1/|T| Σ_t 1/L Σ_l image_mass(l, t) / (system_mass(l, t) + ε).

    Masses are means over heads (choice), or will be; the sum over T is over the response's own tokens. Unbounded.
    """
    return visual_reward(image, system, response, torch.ones(len(response), dtype=torch.bool, device=image.device))
