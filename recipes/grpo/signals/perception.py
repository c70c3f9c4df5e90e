"""PAPO (arXiv 2507.06448): the policy is to say another thing where the image is masked.

    J = J_GRPO + γ KL_prcp - η1 H[π_θ] - η2 H[π_θ^mask],    KL_prcp = D_KL[ π_θ(·|q, I) || π_θ(·|q, I_mask) ]

The two entropies (Double Entropy Loss) keep γ from being earned by saying anything at all.
"""

from jaxtyping import Float, Int
from torch import Tensor


def perception_divergence(
    logps: Float[Tensor, "batch tokens"], masked_logps: Float[Tensor, "batch tokens"]
) -> Float[Tensor, "batch tokens"]:
    """An estimate of KL_prcp at each token of a response, from its log-probabilities with the image and with I_mask.

    ratio - log ratio - 1 with ratio = π_θ^mask / π_θ, which is never negative and whose mean over tokens of π_θ is the
    divergence (Schulman's k3; `low_var_kl` of the official code, PAPO-G).
    """
    difference = masked_logps - logps
    divergence: Tensor = difference.exp() - difference - 1
    return divergence


def perception_loss(
    divergence: Float[Tensor, "batch tokens"],
    entropies: Float[Tensor, "batch tokens"],
    masked_entropies: Float[Tensor, "batch tokens"] | None,
    response: Int[Tensor, "batch tokens"],
    weights: tuple[float, float, float],
) -> Float[Tensor, ""]:
    """-γ KL_prcp + η1 H[π_θ] + η2 H[π_θ^mask], each the mean over a response's tokens and then over responses.

    weights: (γ, η1, η2). Averaged as Eq. 10 of arXiv 2603.03825 and GRPO average their own terms. masked_entropies:
    None where η2 is 0.
    """
    gamma, eta, masked_eta = weights
    of_tokens = eta * entropies - gamma * divergence
    if masked_entropies is not None:
        of_tokens = of_tokens + masked_eta * masked_entropies
    loss: Tensor = ((of_tokens * response).sum(-1) / response.sum(-1).clamp(min=1)).mean()
    return loss
