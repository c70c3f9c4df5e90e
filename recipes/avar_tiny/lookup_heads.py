"""Heads of `avar-tiny` that start with a look at the image: at the cell that shows what the asking token names.

The keys of such a head are fitted to give a visual token the code of a word that it spells, and words nothing; its
queries, to give a word its code. From random weights it takes a thousand steps until a head does this, and until then
nothing can be learnt from the image. What is fitted is a start: training changes it like any other weight.
"""

from collections.abc import Sequence
from typing import Any, Final

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from avar_eval.recipes.avar_tiny.tokenizer import CHOICES
from avar_eval.recipes.avar_tiny.vision_tower import (
    NO_WORD,
    PLACES,
    THINGS,
    WORD_GROUPS,
    look_at,
    scene_words,
    single_token,
    visual_features,
)
from avar_eval.tasks.shapes.questions import LETTERS
from avar_eval.tasks.shapes.scene import Scene

PLACE_HEAD, THING_HEAD, OPTION_HEAD = 0, 1, 2
"""Which key heads of the first layer start by looking up a place, a thing, or an option; all others start at random.

In the first layer a token still is its word; what is fitted further up is lost with what the layers below it learn.
"""

# Of a head's 32 dimensions (i turns with i + 16), those that rotary positions turn by less than half a radian over a
# prompt of a hundred tokens.
STILL: Final = (*range(6, 16), *range(22, 32))
SHARPNESS: Final = 14.0
"""The score (before softmax) of a word with the visual token that spells it, where the fit is perfect."""
# How much more the words of a group weigh in the fit than any other word of the vocabulary.
NAMED_WEIGHT: Final = 30
RIDGE: Final = 1e-3


@torch.no_grad()
def fit_lookup_heads(model: Any, processor: Any, scenes: Sequence[Scene]) -> None:
    """Fit the heads to what the vision tower makes of `scenes` (it has to spell already, see `vision_tower`)."""
    layer = FirstLayer(model)
    seen = torch.cat(visual_features(model, look_at(processor, [scene.draw() for scene in scenes])).pooler_output)
    words = torch.tensor([words for scene in scenes for words in scene_words(scene)])
    for group, head in ((PLACES, PLACE_HEAD), (THINGS, THING_HEAD)):
        spelt = words[:, group] != NO_WORD
        ids = [single_token(processor.tokenizer, word) for word in WORD_GROUPS[group]]
        layer.look_up(head, ids, seen[spelt], words[spelt, group])
    chosen = [single_token(processor.tokenizer, f" {choice}") for choice in CHOICES]
    options = [single_token(processor.tokenizer, f"({letter}) {choice}") for letter in LETTERS for choice in CHOICES]
    layer.look_up(OPTION_HEAD, chosen, layer.words[options], torch.arange(len(options)) % len(CHOICES), seen)


class FirstLayer:
    """The decoder layer whose heads are to be fitted; `words` are the embeddings (vocabulary, hidden)."""

    def __init__(self, model: Any) -> None:
        self._attention = model.model.language_model.layers[0].self_attn
        self.words = model.get_input_embeddings().weight

    def look_up(
        self,
        head: int,
        asking: Sequence[int],
        found: Float[Tensor, "n hidden"],
        labels: Int[Tensor, " n"],
        others: Float[Tensor, "m hidden"] | None = None,
    ) -> None:
        """Let a key head find, from the word asking[i], what of `found` has label i, and neither words nor `others`."""
        codes = _codes(len(asking))
        texts = torch.cat([self.words, self.words[list(asking)].repeat(NAMED_WEIGHT, 1)])
        named = torch.zeros(len(self.words), len(STILL)).index_copy(0, torch.tensor(asking), codes)
        query = _fit(texts, torch.cat([named, codes.repeat(NAMED_WEIGHT, 1)]))
        passed_by = texts if others is None else torch.cat([texts, others])
        weight = max(1, len(passed_by) // len(found))
        inputs = torch.cat([found.repeat(weight, 1), passed_by])
        targets = torch.cat([codes[labels].repeat(weight, 1), torch.zeros(len(passed_by), len(STILL))])
        key = _fit(inputs, targets)
        _start(self._attention, head, query, key)


def _codes(count: int) -> Float[Tensor, "count still"]:
    """Unit vectors, orthogonal where there is room for that."""
    codes = torch.randn(count, len(STILL))
    if count <= len(STILL):
        orthogonal: Tensor = torch.linalg.qr(codes.T).Q
        return orthogonal.T
    return F.normalize(codes, dim=1)


def _fit(inputs: Float[Tensor, "n hidden"], targets: Float[Tensor, "n still"]) -> Float[Tensor, "still hidden"]:
    """The matrix that maps inputs, normalised as a decoder layer does it, to targets with the least squared error."""
    normalised = F.rms_norm(inputs, inputs.shape[-1:])
    ridge = RIDGE * len(inputs) * torch.eye(inputs.shape[1])
    fitted: Tensor = torch.linalg.solve(normalised.T @ normalised + ridge, normalised.T @ targets)
    return fitted.T


def _start(attention: Any, head: int, query: Float[Tensor, "still hidden"], key: Float[Tensor, "still hidden"]) -> None:
    """Write the fitted maps into a key head and the query heads that share it."""
    size, sharing = attention.head_dim, attention.num_key_value_groups
    keys = attention.k_proj.weight.unflatten(0, (-1, size))[head]
    queries = attention.q_proj.weight.unflatten(0, (-1, sharing, size))[head]
    keys.zero_()
    queries.zero_()
    keys[list(STILL)] = key
    queries[:, list(STILL)] = SHARPNESS * size**0.5 * query
