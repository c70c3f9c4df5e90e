"""The Visual Attention Score (arXiv 2603.03825, Eq. 1-2) of masses, and what is reported beside it.

Two families have layers in which a query cannot see both the image and the system turn, so that Eq. 1 is undefined
there (and Eq. 5 infinite). Their masses are pooled: the mean over all layers takes the place of one layer's, so that

    VAS_i(h) = Σ_l image_mass_i(l,h) / Σ_l system_mass_i(l,h),

by head index, and losses (Eq. 5-6) and reward (Eq. 7) take pooled masses in the same way.

- Llama-3.2-Vision sees images through cross-attention layers, whose keys are the image alone; its other layers see text
  alone. A cross-attention layer gives all its attention to the image (mass 1 for every query from the first image on, 0
  before it), which no training can change. What varies is the mass on the system turn, and that on the `<|image|>`
  tokens of the other layers, which gather what cross-attention has found.
- Gemma 3 has layers with a sliding window, which hides the beginning of a long sequence; the others see it whole.

VAS of such a model cannot be compared with that of others.
"""

from jaxtyping import Float
from torch import Tensor


def pooled(masses: Float[Tensor, "layers ..."]) -> Float[Tensor, "1 ..."]:
    """Masses of a model whose layers do not all see everything, as if of one layer: their mean over all layers."""
    return masses.mean(0, keepdim=True)


def visual_attention_score(
    image: Float[Tensor, "layers heads queries"], system: Float[Tensor, "layers heads queries"]
) -> Float[Tensor, "layers heads queries"]:
    """Eq. 1 for every layer, head and query: mass on image keys over mass on system keys. Eq. 2 is its mean.

    Infinite where a query puts no mass on system keys.
    """
    return image / system


def ratio_of_sums(
    image: Float[Tensor, "layers heads queries"], system: Float[Tensor, "layers heads queries"]
) -> Float[Tensor, ""]:
    """The sum of image mass over the sum of system mass: unlike Eq. 2, no single query can dominate it."""
    return image.sum() / system.sum()


def top_share(scores: Float[Tensor, "layers heads queries"]) -> float | None:
    """The part (0..1) of the scores' sum, so of Eq. 2, that the largest 1 % of them hold (at least one).

    None where it has no meaning: a score is infinite, or all are 0.
    """
    flat = scores.flatten()
    total = float(flat.sum())
    if not 0 < total < float("inf"):
        return None
    return float(flat.topk(-(-flat.numel() // 100)).values.sum()) / total
