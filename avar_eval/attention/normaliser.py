"""The softmax normaliser that an attention kernel computes anyway, taken from it as it runs.

`NormaliserTap` listens below autograd, so the kernel runs that PyTorch chose, with the arguments it was called with,
and the model's outputs stay what they were bit by bit. The memory-efficient kernel and cuDNN's, which is the first
choice on Hopper GPUs, keep their normaliser unless a gradient will need it: they are asked for it. Kernels are known by
the last part of their operator's name, since a build of the hub's has a namespace of its own, and by the shape of what
they give beside their output:

    [batch heads queries]     PyTorch's, flash-attn of dense batches; perhaps with queries filled up to a block
    [heads tokens]            flash-attn of sequences in a row without padding (varlen)

FlashAttention 4 is no operator and keeps its normaliser unless it is asked: the functions that transformers calls are
asked for it (`return_lse`). A normaliser from outside of PyTorch is compared with ours the first time that its kernel
gives one, and left aside if it is another quantity.
"""

import threading
import warnings
from collections.abc import Callable
from functools import cache, wraps
from inspect import signature
from typing import Any, Self

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from avar_eval.attention.mass import attention_normaliser
from avar_eval.attention.visibility import Visibility

_KERNELS = frozenset(
    {
        "_scaled_dot_product_flash_attention_for_cpu",
        "_scaled_dot_product_flash_attention",  # FlashAttention 2, and 3 or 4 where torch was told to use them
        "_scaled_dot_product_efficient_attention",
        "_scaled_dot_product_cudnn_attention",
        "_flash_attention_forward",
        "_flash_attn_forward",  # flash-attn 2 and 3, and the hub's builds of them
        "_flash_attn_varlen_forward",
        "fwd",  # their C++, which the hub's and vLLM's builds call as it is
        "varlen_fwd",
        "mha_fwd",
        "mha_varlen_fwd",
    }
)
_HALF = (torch.bfloat16, torch.float16)
_ROUGH_IN_HALF = "aten::_scaled_dot_product_flash_attention_for_cpu"
"""Its exponentials are approximate for half-precision inputs: its normaliser is off by 6e-5, ours by 1e-6."""
_PROOF_ROWS = 4
_running = threading.local()


class NormaliserTap(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Within this context, remembers the log-sum-exp that the last fused attention kernel gave beside its output.

    source: the kernel's name, with its namespace.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._given: Tensor | None = None
        self.source = ""

    def __enter__(self) -> Self:
        self._outer = getattr(_running, "tap", None)
        _running.tap = self
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        _running.tap = self._outer
        super().__exit__(*error)  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.aten.scaled_dot_product_attention.default:  # inference mode has not chosen a kernel yet
            with self:
                return func.decompose(*args, **kwargs)
        name = func.name()  # namespace::name.overload
        if name.partition("::")[2].partition(".")[0] not in _KERNELS:
            return func(*args, **kwargs)
        place = _place_of_request(func)
        if place is not None and place < len(args):
            args = (*args[:place], True, *args[place + 1 :])
        result = func(*args, **kwargs)
        self.take(name, result)
        return result

    def take(self, source: str, result: Any) -> None:
        """Remember what a kernel has returned, if it is more than its output."""
        if isinstance(result, (tuple, list)) and len(result) > 1 and isinstance(result[1], Tensor):
            self._given, self.source = result[1], source

    def lse(
        self,
        query: Float[Tensor, "batch heads queries dim"],
        given: Bool[Tensor, "batch queries"] | None = None,
    ) -> Float[Tensor, "batch heads queries"] | None:
        """The normaliser of every query, or None where the kernel gave none, or one of another layout.

        given: the queries that the kernel was given, where padding was taken out before; of others it is infinite.
        """
        batch, heads, length, _ = query.shape
        lse = self._given
        if lse is None or lse.numel() == 0 or lse.dtype not in (torch.float32, torch.float64):
            return None
        if query.dtype in _HALF and self.source.startswith(_ROUGH_IN_HALF):
            return None
        lse = lse.detach()
        if lse.ndim == 4 and lse.shape[-1] == 1:  # cuDNN
            lse = lse.squeeze(-1)
        if given is not None:
            return _with_padding(lse, given, heads)
        if lse.ndim == 3 and lse.shape[:2] == (batch, heads) and lse.shape[2] >= length:
            return lse[:, :, :length]  # the memory-efficient kernel fills up to a multiple of 32
        if lse.ndim == 3 and length == 1 and lse.numel() == batch * heads:
            return lse.reshape(batch, heads, 1)  # decoding: transformers folds heads into rows
        if lse.shape == (heads, batch * length):
            return lse.view(heads, batch, length).transpose(0, 1)
        return None

    def proven_lse(
        self,
        query: Float[Tensor, "batch heads queries dim"],
        key: Float[Tensor, "batch kv_heads keys dim"],
        visibility: Visibility,
        *,
        given: Bool[Tensor, "batch queries"] | None,
        scaling: float,
        softcap: float | None,
    ) -> Float[Tensor, "batch heads queries"] | None:
        """`lse`, if it is the normaliser of this call: that is known of PyTorch's kernels, and tried once of others.

        The arguments are those of `attention_mass`.
        """
        lse = self.lse(query, given)
        if lse is None or self.source.startswith("aten::") or self._given is None:
            return lse
        kernel = (self.source, self._given.ndim, given is None, softcap is None, visibility.window is None)
        if kernel not in _proven:
            length = query.shape[2]
            rows = sorted({(length - 1) * part // (_PROOF_ROWS - 1) for part in range(_PROOF_ROWS)})
            ours = attention_normaliser(query, key, visibility, scaling=scaling, rows=rows, softcap=softcap)
            theirs = lse[:, :, rows]
            both = ours.isfinite() & theirs.isfinite()
            if not bool(both.any()):
                return lse
            _proven[kernel] = bool(((theirs - ours).abs() <= 1e-3 + 1e-4 * ours.abs())[both].all())
            if not _proven[kernel]:
                warnings.warn(
                    f"{self.source} gives another normaliser than its attention's: it is computed", stacklevel=2
                )
        return lse if _proven[kernel] else None


_proven: dict[tuple[Any, ...], bool] = {}


@cache
def _place_of_request(operator: Any) -> int | None:
    """Which argument asks for the normaliser, if one does: PyTorch's kernels of which only a gradient needs it.

    It is not among those that have a default and may be left out.
    """
    names = [argument.name for argument in operator._schema.arguments]
    return names.index("compute_log_sumexp") if "compute_log_sumexp" in names else None


def _with_padding(lse: Tensor, given: Bool[Tensor, "batch queries"], heads: int) -> Tensor | None:
    """A normaliser of the queries that were given, at their places in the batch."""
    batch, length = given.shape
    if lse.ndim == 2 and len(lse) == heads:
        places = (given.flatten().cumsum(0) - 1).clamp(0, lse.shape[1] - 1).view(batch, length)
        found = lse[:, places].transpose(0, 1)
    elif lse.ndim == 3 and lse.shape[:2] == (batch, heads):  # each sequence from its first token on
        places = (given.cumsum(1) - 1).clamp(0, lse.shape[2] - 1)
        found = lse.gather(2, places[:, None].expand(-1, heads, -1))
    else:
        return None
    return found.masked_fill(~given[:, None], float("inf"))


def returning_lse(lazy_import: Callable[..., Any]) -> Callable[..., Any]:
    """transformers' `lazy_import_flash_attention`, whose functions are asked for their normaliser under a tap."""

    @wraps(lazy_import)
    def imported(*args: Any, **kwargs: Any) -> Any:
        functions, *rest = lazy_import(*args, **kwargs)
        tap: NormaliserTap | None = getattr(_running, "tap", None)
        if tap is None:
            return (functions, *rest)
        dense, varlen, *others = functions
        return ((_requesting_lse(dense, tap), _requesting_lse(varlen, tap), *others), *rest)

    return imported


def _requesting_lse(function: Callable[..., Any] | None, tap: NormaliserTap) -> Callable[..., Any] | None:
    if function is None:
        return None
    more = {"return_lse": True} if _can_return_lse(function) else {}

    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs, **more)
        tap.take(f"{function.__module__}.{function.__qualname__}", result)
        return result

    return wrapped


@cache
def _can_return_lse(function: Callable[..., Any]) -> bool:
    return "return_lse" in signature(function).parameters
