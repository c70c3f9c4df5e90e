"""Triton's interpreter, which runs kernels on a CPU, with bfloat16 as GPUs have it.

Its own multiplies the bit patterns of bfloat16 numbers, and loses the carry where it rounds to them (Triton 3.5 to
3.8); both are done by torch here.
"""

from typing import Any

import numpy as np
import torch
import triton.language as tl
from triton.runtime import interpreter


def mend_bfloat16(patch: Any) -> None:
    """Through a pytest monkeypatch."""
    convert, dot = interpreter._convert_float, interpreter.InterpreterBuilder.create_dot

    def converted(values: Any, source: Any, target: Any, rounding: Any) -> Any:
        if (source, target) == (tl.float32, tl.bfloat16):
            rounded = torch.from_numpy(np.ascontiguousarray(values)).bfloat16()
            return rounded.view(torch.int16).numpy().view(np.uint16).reshape(values.shape)
        return convert(values, source, target, rounding)

    def multiplied(builder: Any, a: Any, b: Any, *rest: Any) -> Any:
        if a.dtype.scalar == tl.bfloat16:
            a, b = (
                interpreter.TensorHandle((of.data.astype(np.uint32) << 16).view(np.float32), tl.float32)
                for of in (a, b)
            )
        return dot(builder, a, b, *rest)

    patch.setattr(interpreter, "_convert_float", converted)
    patch.setattr(interpreter.InterpreterBuilder, "create_dot", multiplied)
