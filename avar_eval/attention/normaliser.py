"""The softmax normaliser that an attention kernel computes anyway, taken from it as it runs.

`NormaliserTap` listens below autograd, so the kernel runs with the arguments it was called with, whichever PyTorch
chose, and the model's outputs stay what they were bit by bit.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_LSE_OUTPUT = {
    "aten::_scaled_dot_product_flash_attention_for_cpu": 1,
    "aten::_scaled_dot_product_flash_attention": 1,
    "aten::_scaled_dot_product_efficient_attention": 1,
    "aten::_scaled_dot_product_cudnn_attention": 1,
    "flash_attn::_flash_attn_forward": 1,  # flash-attn 2
    "flash_attn::_flash_attn_varlen_forward": 1,
}


class NormaliserTap(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Within this context, remembers the log-sum-exp that the last fused attention kernel gave beside its output."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._given: Tensor | None = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.aten.scaled_dot_product_attention.default:  # inference mode has not chosen a kernel yet
            with self:
                return func.decompose(*args, **kwargs)
        result = func(*args, **kwargs)
        output = _LSE_OUTPUT.get(func.name())
        if output is not None:
            self._given = result[output]
        return result

    def lse(self, query: Float[Tensor, "batch heads queries dim"]) -> Float[Tensor, "batch heads queries"] | None:
        """The normaliser of every query, or None where the kernel gave none, or one of another layout."""
        batch, heads, length, _ = query.shape
        given = self._given
        if given is None or given.numel() == 0:
            return None
        if given.ndim == 4 and given.shape[-1] == 1:  # cuDNN
            given = given.squeeze(-1)
        if given.ndim == 3 and given.shape[:2] == (batch, heads) and given.shape[2] >= length:
            return given[:, :, :length].detach()  # the memory-efficient kernel fills up to a multiple of 32
        if given.ndim == 3 and length == 1 and given.numel() == batch * heads:
            return given.reshape(batch, heads, 1).detach()  # decoding: transformers folds heads into rows
        if given.ndim == 2 and batch == 1 and given.shape == (heads, length):
            return given[None].detach()  # flash-attn, packed sequences
        return None
