"""The tower's first steps: every image token tells what its cell shows, before any language model listens.

Through thirty frozen layers a tower that is random learns nothing for a thousand steps; told what each cell shows, it
learns it in some hundred, and these cost a twentieth each. A linear probe reads the projector's output. Its rows for
colors and shapes are the language model's own embeddings of these words and stay as they are, so that a red circle
looks to it like the words that it knows; the others are learnt and left behind.
"""

from typing import Any, Final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from avar_eval.models.avar_smol import IMAGE_TOKENS
from avar_eval.tasks.shapes.scene import ANGLES, CELLS, COLORS, GRID, SHAPES, Content, Dial, Number, Object, Scene

GROUPS: Final = {
    "row": GRID,
    "column": GRID,
    "kind": 4,
    "color": len(COLORS),
    "shape": len(SHAPES),
    "tens": 10,
    "units": 10,
    "angle": len(ANGLES),
}
"""What is told of a cell, and how many answers there are; `kind` is nothing, an object, a number or a dial."""

SPELT: Final = {"color": tuple(f" {color}" for color in COLORS), "shape": tuple(f" {shape}" for shape in SHAPES)}
"""Groups whose probe is the language model's embeddings of these words."""

NONE: Final = -100
SIDE: Final = int(IMAGE_TOKENS**0.5)
SHARPNESS: Final = 16.0
"""The logit of a spelt word that a token equals."""


def told(scene: Scene) -> Int[Tensor, "tokens groups"]:
    """What each image token is to tell, NONE where there is nothing to tell. A cell has 2 x 2 tokens."""
    contents = dict(scene.contents)
    cells = torch.tensor([[cell.row - 1, cell.column - 1, *_told(contents.get(cell))] for cell in CELLS])
    tokens_a_cell = SIDE // GRID
    grid = cells.view(GRID, GRID, -1)
    return grid.repeat_interleave(tokens_a_cell, 0).repeat_interleave(tokens_a_cell, 1).flatten(0, 1)


def _told(content: Content | None) -> tuple[int, ...]:
    """kind, color, shape, tens, units, angle; a number of one digit has no tens, which is told as 0."""
    match content:
        case Object(color, shape):
            return 1, tuple(COLORS).index(color), SHAPES.index(shape), NONE, NONE, NONE
        case Number(value):
            return 2, NONE, NONE, value // 10, value % 10, NONE
        case Dial(angle):
            return 3, NONE, NONE, NONE, NONE, ANGLES.index(angle)
        case None:
            return 0, NONE, NONE, NONE, NONE, NONE


class Probe(nn.Module):
    """What is read off image tokens; `forward` is the mean over groups of their mean cross-entropies (nats)."""

    def __init__(self, embeddings: Float[Tensor, "vocabulary hidden"], tokenizer: Any) -> None:
        super().__init__()
        hidden = embeddings.shape[1]
        self.learnt = nn.ModuleDict(
            {name: nn.Linear(hidden, size) for name, size in GROUPS.items() if name not in SPELT}
        )
        for name, words in SPELT.items():
            vectors = torch.stack([_embedding(embeddings, tokenizer, word) for word in words])
            # what all words of a group share tells nothing
            self.register_buffer(name, F.normalize(vectors - vectors.mean(dim=0), dim=1))

    def forward(self, seen: Float[Tensor, "tokens hidden"], targets: Int[Tensor, "tokens groups"]) -> Tensor:
        """Cross-entropy of what the tokens tell."""
        losses = []
        for place, name in enumerate(GROUPS):
            target = targets[:, place]
            if bool((target != NONE).any()):
                losses.append(F.cross_entropy(self._logits(name, seen).float(), target, ignore_index=NONE))
        return torch.stack(losses).mean()

    @torch.no_grad()
    def accuracy(self, seen: Float[Tensor, "tokens hidden"], targets: Int[Tensor, "tokens groups"]) -> dict[str, float]:
        """The share of tokens (0..1) that tell each group rightly, where there is something to tell."""
        shares = {}
        for place, name in enumerate(GROUPS):
            asked = targets[:, place] != NONE
            right = self._logits(name, seen[asked]).argmax(dim=1) == targets[asked, place]
            shares[name] = float(right.float().mean())
        return shares

    def _logits(self, name: str, seen: Tensor) -> Tensor:
        normalised = F.rms_norm(seen, seen.shape[-1:])
        if name in SPELT:
            return SHARPNESS * F.normalize(normalised, dim=1) @ self.get_buffer(name).to(seen.dtype).T
        logits: Tensor = self.learnt[name](normalised)
        return logits


def _embedding(embeddings: Tensor, tokenizer: Any, word: str) -> Tensor:
    """The mean of a word's tokens."""
    return embeddings[tokenizer.encode(word, add_special_tokens=False)].float().mean(dim=0)
