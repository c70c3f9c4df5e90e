"""What must hold, by the name of a check.

On a GPU: times and memory of a published shape from 4,096 tokens on, of the nearest length that has a bar. On a CPU:
the README's, at 4,096 tokens and above, for any shape. Shorter passes are over before a figure says much.
"""

from collections.abc import Mapping
from typing import Final

from avar_eval.doctor.shapes import SHAPES, Shape

MASSES: Final = 1e-5
"""Greatest difference of a share of attention from float64, in any dtype."""
GRADIENTS: Final = {"float32": 1e-4, "bfloat16": 3e-3, "float16": 3e-3}
"""Relative error of a gradient, by the dtype that it is rounded to."""
LOG_PROBABILITIES: Final = 1e-4
"""Greatest difference of a steered vLLM engine in float32 from eager float64."""
_FROM: Final = 4096

_GPU: Final[Mapping[str, Mapping[int, float]]] = {
    "forward.user.ratio": {4096: 1.03, 16384: 1.02, 30000: 1.02},
    "forward.response.ratio": {4096: 1.04, 16384: 1.06, 30000: 1.08},
    "forward.user.memory": {4096: 1.02},
    "forward.response.memory": {4096: 1.02},
    "training.user.ratio": {4096: 1.03},
    "training.response.ratio": {4096: 1.15},
}
_CPU: Final[Mapping[str, Mapping[int, float]]] = {
    "forward.user.ratio": {4096: 1.10},
    "forward.response.ratio": {4096: 1.10},
    "forward.both.ratio": {4096: 1.10},
    "forward.user.memory": {4096: 1.05},
    "forward.response.memory": {4096: 1.05},
    "training.user.ratio": {4096: 1.05},
    "training.response.ratio": {4096: 1.35},
}
_DECODING_ON_A_GPU: Final = {"observed": 1.05, "steered": 1.03}


def cost_bar(subject: str, queries: str, tokens: int, figure: str, device: str, shape: Shape) -> float | None:
    """The bar of `SUBJECT.QUERIES.TOKENS.FIGURE`, if it has one."""
    if tokens < _FROM or not has_bars(device, shape):
        return None
    by_length = (_GPU if device == "cuda" else _CPU).get(f"{subject}.{queries}.{figure}")
    return None if by_length is None else by_length[min(by_length, key=lambda length: abs(length - tokens))]


def decoding_bar(way: str, device: str, shape: Shape) -> float | None:
    """The bar of generating `observed` or `steered`, over plain."""
    return _DECODING_ON_A_GPU[way] if device == "cuda" and has_bars(device, shape) else None


def has_bars(device: str, shape: Shape) -> bool:
    """Whether there are bars for times of this shape: a GPU does nothing but launch kernels in a small one."""
    return device == "cpu" or (device == "cuda" and shape != SHAPES["small"])
