"""Perception signals for reinforcement learning: whether a response was made by looking, as reward or loss.

Each is a pure function of one of two things, and named after its paper:

    attention rewards   (image masses, system masses, response) -> a ratio each response
        vars.py         VARS, Eq. 7 of arXiv 2603.03825
        reflection.py   late attention, Reflection-V, arXiv 2509.12132
    masked images       (log-probabilities with the image, with a masked one, response) -> numbers each token
        perception.py   PAPO, arXiv 2507.06448: their divergence is a part of the loss
        dependence.py   VPPO, arXiv 2510.09285: it decides which tokens and responses are learnt from

`masking.py` masks the pictures that a processor has made. A signal whose weight is 0 costs nothing and changes nothing.
"""

from collections.abc import Callable, Mapping
from typing import Final

from jaxtyping import Bool, Float
from torch import Tensor

from avar_eval.recipes.grpo.signals.reflection import late_attention
from avar_eval.recipes.grpo.signals.vars import response_visual_ratio

AttentionReward = Callable[
    [
        Float[Tensor, "layers batch heads queries"],
        Float[Tensor, "layers batch heads queries"],
        Bool[Tensor, "batch queries"],
    ],
    Float[Tensor, " batch"],
]
"""(masses on the image, masses on the system turn, which queries are the response's) -> one number each response, as if
its answer were right; nan where it is not defined."""

ATTENTION_REWARDS: Final[Mapping[str, AttentionReward]] = {
    "visual": response_visual_ratio,
    "late_attention": late_attention,
}
"""By the name that is logged; `NAME_weight` of the configuration is the weight in the sum of rewards (Eq. 8)."""
