"""Masked pictures: parts of what a processor has made of them are black, and the rest is as it was.

A processor of the Qwen family gives no pictures but a list of patches, those of a merged token one after the other. In
TRL's removed PAPOTrainer, which took the list's dimensions for height and width, stripes of the patches' numbers were
masked. Here a unit is what becomes one token of the language model (merge_size² patches, 28 x 28 pixels for
Qwen2.5-VL), and for other families a square of pixels.
"""

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

_CELL = 28
"""Pixels of a unit's side where a processor gives whole pictures."""


def response_generator(seed: int, ids: Sequence[int]) -> torch.Generator:
    """Random numbers for one prompt and response: the same in every process, and apart from those of the training."""
    digest = hashlib.sha256(f"{seed}:{','.join(map(str, ids))}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def black(image_processor: Any) -> Float[Tensor, " channels"]:
    """What a black pixel is after normalisation: -mean / deviation; 0 without it."""
    if not getattr(image_processor, "do_normalize", True):
        return torch.zeros(3)
    mean, deviation = (torch.tensor(of) for of in (image_processor.image_mean, image_processor.image_std))
    return -mean / deviation


def mask_patches(
    patches: Float[Tensor, "patches numbers"],
    grid: Int[Tensor, "images 3"],
    share: float,
    merge_size: int,
    value: Float[Tensor, " channels"],
    generator: torch.Generator,
) -> Float[Tensor, "patches numbers"]:
    """Packed patches of some images with each merged unit black with probability `share`.

    grid: time, height and width of each image in patches. A patch's numbers are its channels one after the other, each
    of all times, rows and columns; the merge_size² patches of a unit follow each other.
    """
    units = int(grid.prod(-1).sum()) // merge_size**2
    masked = torch.rand(units, generator=generator) < share
    of_patch = value.repeat_interleave(patches.shape[1] // len(value)).to(patches)
    chosen = masked.repeat_interleave(merge_size**2).to(patches.device)
    return torch.where(chosen[:, None], of_patch, patches)


def mask_pixels(
    pixels: Float[Tensor, "*pictures channels height width"],
    share: float,
    value: Float[Tensor, " channels"],
    generator: torch.Generator,
) -> Float[Tensor, "*pictures channels height width"]:
    """Whole pictures or tiles with each square of 28 pixels black with probability `share`."""
    *pictures, _, height, width = pixels.shape
    cells = (math.ceil(height / _CELL), math.ceil(width / _CELL))
    masked = torch.rand(*pictures, *cells, generator=generator) < share
    masked = masked.repeat_interleave(_CELL, -2).repeat_interleave(_CELL, -1)[..., None, :height, :width]
    return torch.where(masked.to(pixels.device), value.to(pixels)[:, None, None], pixels)
