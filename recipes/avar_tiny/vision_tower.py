"""The vision tower of `avar-tiny` learns to spell a cell before the language model learns to read it.

A visual token is one cell of a scene. Its logits over the language model's own word embeddings are trained to name
what the cell shows: its place, an object with its color and shape, a number, a dial, or nothing. So what reaches the
language model is made of words that it knows, and looking something up is a matter of attention. The embeddings are
those of the model: no head is added and none is left behind.
"""

import random
from collections.abc import Sequence
from typing import Any, Final

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from avar_eval.recipes.avar_tiny.tokenizer import DIALS, EMPTY, NUMBERS
from avar_eval.tasks.shapes.dataset import scene_split
from avar_eval.tasks.shapes.questions import OBJECTS
from avar_eval.tasks.shapes.scene import ANGLES, CELLS, COLORS, SHAPES, Content, Dial, Number, Object, Scene

WORD_GROUPS: Final = (
    tuple(f" {cell}" for cell in CELLS),
    (*(f" {thing}" for thing in OBJECTS), " dial", " number"),
    tuple(f" {color}" for color in COLORS),
    tuple(f" {shape}" for shape in SHAPES),
    (*(f" {number}" for number in NUMBERS), *(f" {dial} degrees" for dial in DIALS), EMPTY),
)
"""A cell is described by at most one word of each group; every word is one token."""

PLACES, THINGS = 0, 1
"""The groups by which something is looked up: where it is, what it is."""

NO_WORD: Final = -100


def crowded_scene(rng: random.Random) -> Scene:
    """A scene of the train split with more in it than any question has: objects, numbers and dials in most cells."""
    while True:
        scene = Scene.of({cell: content for cell in CELLS if (content := _random_content(rng)) is not None})
        if scene_split(scene) == "train":
            return scene


def _random_content(rng: random.Random) -> Content | None:
    contents = (None, rng.choice(OBJECTS), Number(rng.randint(1, 99)), Dial(rng.choice(ANGLES)))
    return rng.choices(contents, weights=(3, 6, 5, 2))[0]


def scene_words(scene: Scene) -> list[list[int]]:
    """The word of every cell in every group, by its index in the group: 16 cells × 5 groups; NO_WORD if none fits."""
    contents = dict(scene.contents)
    return [
        [group.index(word) if word in group else NO_WORD for group, word in zip(WORD_GROUPS, words, strict=True)]
        for words in ([f" {cell}", *_content_words(contents.get(cell))] for cell in CELLS)
    ]


def _content_words(content: Content | None) -> Sequence[str]:
    match content:
        case Object(color, shape):
            return f" {content}", f" {color}", f" {shape}", ""
        case Number():
            return " number", "", "", f" {content}"
        case Dial():
            return " dial", "", "", f" {content} degrees"
        case None:
            return "", "", "", EMPTY


class SpellingLoss:
    """Cross-entropy of the words that visual tokens spell, a mean over groups of means over cells.

    Raises ValueError if a word of `WORD_GROUPS` is not one token of the processor's tokenizer.
    """

    def __init__(self, processor: Any) -> None:
        self._ids = [torch.tensor([single_token(processor.tokenizer, word) for word in group]) for group in WORD_GROUPS]

    def __call__(self, visual: Tensor, embeddings: Tensor, words: Tensor) -> Tensor:
        """visual: (cells, hidden). embeddings: (vocabulary, hidden). words: (cells, groups), see `scene_words`."""
        normalised = F.rms_norm(visual, visual.shape[-1:])
        losses = []
        for group, ids in enumerate(self._ids):
            target = words[:, group]
            if (target != NO_WORD).any():
                losses.append(F.cross_entropy(normalised @ embeddings[ids].T, target, ignore_index=NO_WORD))
        return torch.stack(losses).mean()


def single_token(tokenizer: Any, word: str) -> int:
    """The id of a word that is one token; ValueError if it is not."""
    ids = tokenizer(word)["input_ids"]
    if len(ids) != 1:
        raise ValueError(f"{word!r} is {len(ids)} tokens, not one")
    return int(ids[0])


def visual_features(model: Any, inputs: dict[str, Tensor]) -> Any:
    """What the vision tower gives the language model; its `pooler_output` has one tensor (tokens, hidden) an image."""
    return model.model.get_image_features(inputs["pixel_values"], inputs["image_grid_thw"], return_dict=True)


def look_at(processor: Any, images: Sequence[Image.Image]) -> dict[str, Tensor]:
    """Images as the processor prepares them, without text."""
    return dict(processor.image_processor(list(images), return_tensors="pt"))
