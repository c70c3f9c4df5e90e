"""The shapes of decoders that random weights can be made in. Light: nothing is imported for a wrong name."""

from dataclasses import dataclass
from typing import Final, Literal

from avar_eval.errors import unknown_name


@dataclass(frozen=True)
class Shape:
    """A decoder's sizes. rope: sections of M-RoPE, half a head's size in all."""

    family: Literal["qwen2_5_vl", "qwen3_vl"]
    layers: int
    hidden: int
    mlp: int
    heads: int
    key_heads: int
    head_dim: int
    rope: tuple[int, int, int]

    @property
    def parameters(self) -> int:
        """Weights of the decoder's layers, which are nearly all that a model of this shape has here."""
        attention = 2 * self.hidden * (self.heads + self.key_heads) * self.head_dim
        return self.layers * (attention + 3 * self.hidden * self.mlp)


SHAPES: Final = {
    "small": Shape("qwen2_5_vl", 8, 512, 1024, 8, 2, 64, (8, 12, 12)),
    "qwen2.5-vl-3b": Shape("qwen2_5_vl", 36, 2048, 11008, 16, 2, 128, (16, 24, 24)),
    "qwen2.5-vl-7b": Shape("qwen2_5_vl", 28, 3584, 18944, 28, 4, 128, (16, 24, 24)),
    "qwen3-vl-8b": Shape("qwen3_vl", 36, 4096, 12288, 32, 8, 128, (24, 20, 20)),
}
"""`small` is the benchmarks'; the others are as config.json of Qwen's repositories says (…-Instruct)."""


def find_shape(name: str) -> Shape:
    """The shape of that name, in any case of letters. Raises UsageError for an unknown one."""
    if (shape := SHAPES.get(name.lower())) is None:
        raise unknown_name("shape", name, SHAPES)
    return shape
