"""What `avar-smol` is taught, batch after batch, made by worker processes ahead of the training.

The lessons are those of the English world (`avar_eval.recipes.world`). A batch depends on the seed and its number
alone, so that a resumed training goes on with the batch that it would have had. Every sequence has one picture and is
filled with questions about it up to `LENGTH` tokens: a picture is most of what a question costs, and eight short
questions about it teach more than one does.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info
from torchvision.transforms.v2 import functional as pictures  # type: ignore[import-untyped]

from avar_eval.attention.roles import ChatMarkup, Role
from avar_eval.models.avar_smol import IMAGE_END, IMAGE_PIXELS, IMAGE_START, IMAGE_TOKEN, IMAGE_TOKENS, SYSTEM_PROMPT
from avar_eval.recipes.avar_smol.first_steps import told
from avar_eval.recipes.world import Thoughts, Turn, lesson
from avar_eval.recipes.world.scenes import crowded
from avar_eval.tasks.prompts import THINKING
from avar_eval.tasks.shapes.dataset import DIRECT

LENGTH: Final = 256
"""Tokens of a sequence: 11 of the system turn, 66 of the picture, the rest questions and answers."""

THOUGHTS: Final = 0.2
"""The share of lessons whose question is answered with a solution; the others are answered at once."""

TURNS: Final = 12
"""As many as ever fit."""

SEEDS: Final = 1_000
"""The world's seeds of these lessons begin here: what the ladder trains on has small ones."""

SCENES_AGAIN: Final = 4
"""After the first steps every fourth batch is of scenes again: a language model that does not listen yet sends the
tower gradients that are noise, and in three steps of them it forgot a fiftieth of the rows and columns."""

IGNORED: Final = -100

EMPTY_THOUGHT: Final = "<think></think><answer>"


def taught(seed: int, index: int, rng: random.Random) -> tuple[Image.Image, list[Turn]]:
    """A picture and turns about it. A question that asks for a thought has one, any other is answered at once."""
    thoughts: Thoughts = "plain" if rng.random() < THOUGHTS else "none"
    found = lesson(index, seed=SEEDS + seed, thoughts=thoughts, more=TURNS)
    return found.image, [_at_once(turn) for turn in found.turns]


def _at_once(turn: Turn) -> Turn:
    if not turn.answer.startswith(EMPTY_THOUGHT):
        return turn
    answer = turn.answer.removeprefix(EMPTY_THOUGHT).removesuffix("</answer>")
    return Turn(turn.question.replace(THINKING, DIRECT), answer)


class Renderer:
    """Turns lessons into tokens as the processor renders conversations, piece by piece, which is much faster.

    A piece begins and ends with a special token or a whole turn, so its tokens do not depend on its neighbors.
    """

    def __init__(self, processor: Any) -> None:
        self._tokenizer = processor.tokenizer
        self.markup = ChatMarkup(processor)
        self._turn = lru_cache(maxsize=50_000)(self._tokens)
        picture = f"{IMAGE_START}{IMAGE_TOKEN * IMAGE_TOKENS}{IMAGE_END}\n"
        self._head = f"<|im_start|>system\n{SYSTEM_PROMPT}<|im_end|>\n<|im_start|>user\n{picture}"
        self.padding = self._tokenizer.pad_token_id

    def _tokens(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids

    def conversation(self, turns: Sequence[Turn], length: int) -> list[int]:
        """The first turn, and of the further ones those that fit; an empty list if the first does not."""
        ids = self._tokens(self._head + _exchange(turns[0]))
        if len(ids) > length:
            return []
        for turn in turns[1:]:
            further = self._turn("<|im_start|>user\n" + _exchange(turn))
            if len(ids) + len(further) <= length:
                ids = ids + further
        return ids

    def labels(self, ids: Sequence[int]) -> list[int]:
        """The answers' tokens with the one that ends each, IGNORED elsewhere."""
        roles = self.markup.prompt_roles(ids)
        before = (None, *ids)
        return [
            token if role == Role.RESPONSE and last != self.markup.turn_end else IGNORED
            for token, role, last in zip(ids, roles, before, strict=False)
        ]


def _exchange(turn: Turn) -> str:
    return f"{turn.question}<|im_end|>\n<|im_start|>assistant\n{turn.answer}<|im_end|>\n"


def pixels(images: Sequence[Image.Image]) -> Tensor:
    """Pictures as the processor resizes them, (images, 3, 224, 224) of bytes."""
    size = [IMAGE_PIXELS, IMAGE_PIXELS]
    mode = pictures.InterpolationMode.BICUBIC
    return torch.stack(
        [pictures.resize(pictures.pil_to_tensor(image), size, interpolation=mode, antialias=True) for image in images]
    )


class Batches(IterableDataset[dict[str, Tensor]]):
    """Batches without end, from number `first` on: `first_steps` of scenes alone, then mostly conversations.

    A batch of scenes has `pixels` and `told`; one of conversations has `pixels`, `input_ids`, `attention_mask` and
    `labels`. The workers of a DataLoader take turns.
    """

    def __init__(
        self, processor: Any, seed: int, sizes: Mapping[str, int], *, first_steps: int, first: int = 0
    ) -> None:
        self._renderer = Renderer(processor)
        self._seed, self._sizes, self._first_steps, self._first = seed, dict(sizes), first_steps, first

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        worker = get_worker_info()
        step = 1 if worker is None else worker.num_workers
        number = self._first + (0 if worker is None else worker.id)
        while True:
            yield self.batch(number)
            number += step

    def batch(self, number: int) -> dict[str, Tensor]:
        """The batch of a step, counted from 0."""
        rng = random.Random(f"avar-smol/{self._seed}/{number}/batch")
        if number < self._first_steps or number % SCENES_AGAIN == 0:
            scenes = [crowded(rng, "train") for _ in range(self._sizes["scenes"])]
            seen = pixels([scene.draw() for scene in scenes])
            return {"pixels": seen, "told": torch.stack([told(scene) for scene in scenes])}
        images, ids = [], []
        count = self._sizes["conversations"]
        for index in range(number * count, (number + 1) * count):
            image, turns = taught(self._seed, index, rng)
            if conversation := self._renderer.conversation(turns, self._sizes["tokens"]):
                images.append(image)
                ids.append(conversation)
        width = self._sizes["tokens"]
        tokens = torch.full((len(ids), width), self._renderer.padding)
        labels = torch.full((len(ids), width), IGNORED)
        for row, conversation in enumerate(ids):
            tokens[row, : len(conversation)] = torch.tensor(conversation)
            labels[row, : len(conversation)] = torch.tensor(self._renderer.labels(conversation))
        # padding stands at the end, where nothing that counts can see it: a mask would only cost the faster kernel
        return {
            "pixels": pixels(images),
            "input_ids": tokens,
            "attention_mask": torch.ones_like(tokens),
            "labels": labels,
        }
