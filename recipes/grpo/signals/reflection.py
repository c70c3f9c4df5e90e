"""Reflection-V's visual attention reward (arXiv 2509.12132): it still looks at the image towards the end."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from avar_eval.attention.objectives import EPSILON


def late_attention(
    image: Float[Tensor, "layers batch heads queries"],
    system: Float[Tensor, "layers batch heads queries"],
    response: Bool[Tensor, "batch queries"],
) -> Float[Tensor, " batch"]:
    """How much the second half of a response attends to the image, in units of what the first half does.

    With a_t the mass of token t on the image, mean over layers and heads, and h = ⌊|T|/2⌋:

        r = ( 1/(|T| - h) Σ_{t > h} a_t ) / ( 1/h Σ_{t <= h} a_t + ε )

    Our reading: the paper says in words that the attention to visual tokens of the second half is compared with that of
    the first; that layers and heads are averaged, the odd token belongs to the second half, and a wrong answer earns
    nothing (as in VARS) are ours. nan for a response of one token. `system` is not used.
    """
    attention = image.mean((0, 2))
    place = response.cumsum(-1)  # 1, 2, … within the response
    half = response.sum(-1, keepdim=True) // 2
    early, late = response & (place <= half), response & (place > half)
    means = [(attention * of).sum(-1) / of.sum(-1) for of in (early, late)]
    ratios: Tensor = means[1] / (means[0] + EPSILON)
    return torch.where(half[:, 0] > 0, ratios, float("nan"))
