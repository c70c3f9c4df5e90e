"""Prompts with images and responses for every family, in batches whose sequences have different layouts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from family_models import FAMILIES
from PIL import Image

from avar_eval.models.transformers_backend import TransformersBackend

QUESTIONS = ["What is this?", "How many are there in one, and how many in two? Count them one by one.", "Why?"]
RESPONSES = [[65, 66, 67, 68], [70], [80, 81, 82, 83, 84, 85, 86]]
SIZES = [(40, 30), (30, 60), (64, 28)]
POOLED = ("gemma3", "mllama")
EQUAL = ("mllama",)
"""Families whose batches need equal numbers of images."""


def picture(seed: int) -> Image.Image:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (4, 4, 3), generator=generator, dtype=torch.uint8)
    return Image.fromarray(pixels.numpy()).resize(SIZES[seed % 3], Image.Resampling.NEAREST)


@dataclass
class Batch:
    """Prompts with their images and responses."""

    prompts: list[str]
    images: list[list[Image.Image]]
    responses: list[list[int]]

    def encoded(self, backend: TransformersBackend) -> Any:
        return backend.encode(self.prompts, self.images)

    def rows(self) -> "list[Batch]":
        """Batches of one."""
        parts = zip(self.prompts, self.images, self.responses, strict=True)
        return [Batch([prompt], [images], [response]) for prompt, images, response in parts]


def batch(backend: TransformersBackend, counts: Sequence[int]) -> Batch:
    """One prompt for each number of images, with images before, between and after the words."""
    system = [{"role": "system", "content": [{"type": "text", "text": "Be brief."}]}]
    prompts = []
    for count, question in zip(counts, QUESTIONS, strict=False):
        half = len(question) // 2
        words = [{"type": "text", "text": part} for part in (question[:half], question[half:])]
        pictures = [{"type": "image"}] * count
        content = [*pictures[:1], words[0], *pictures[1:], words[1]]
        turns = [{"role": "user", "content": content}]
        prompts.append(backend.render([*(system if FAMILIES[backend.checkpoint.name].system else []), *turns]))
    images = [[picture(3 * row + i) for i in range(count)] for row, count in enumerate(counts)]
    return Batch(prompts, images, RESPONSES[: len(counts)])


def batches(backend: TransformersBackend) -> list[Batch]:
    name = backend.checkpoint.name
    return [batch(backend, counts) for counts in ([(1, 1, 1), (2, 2), (0, 0)] if name in EQUAL else [(1, 2, 0)])]
