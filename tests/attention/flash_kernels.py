"""Flash attention for a CPU: operators and functions with the signatures and results of the published kernels.

None of them can be installed without a GPU. What they compute is written out here, one sequence at a time; what they
are called by, take and give is that of flash-attn 2.8, 3 and 4, and of the hub's builds, whose operators' namespace
changes with every build. transformers' own path leads to them: its imports find them in place of the packages.
"""

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Optional

import pytest
import torch
from torch import Tensor
from transformers import modeling_flash_attention_utils as flash_utils
from transformers.integrations import hub_kernels
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

HUB_2 = "kernels-community/flash-attn2"
HUB_3 = "kernels-community/vllm-flash-attn3"
QUIET = "someone/quiet-flash-attn@main"
FUNCTION = "someone/quiet-flash-attn:flash_attn_func"
OWN = "someone/own-attention"
SPARSE = "someone/sparse-attention"
LYING = "someone/lying-flash-attn"
WITH_NORMALISER = ("flash_attention_2", "flash_attention_3", "flash_attention_4", HUB_2, HUB_3)
KERNELS = (*WITH_NORMALISER, QUIET, FUNCTION, OWN)


@torch.autocast("cpu", enabled=False)
def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float | None,
    causal: bool,
    window: tuple[int | None, int | None],
    softcap: float,
    sink: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """One sequence [tokens heads dim]: output and log-sum-exp [heads tokens], which counts the sink."""
    per_kv, dtype = query.shape[1] // key.shape[1], query.dtype
    key, value = key.repeat_interleave(per_kv, 1), value.repeat_interleave(per_kv, 1)
    # Flash kernels keep scores of half-precision states in float32; a product of PyTorch's would round them.
    query, key, value = (states.to(torch.promote_types(dtype, torch.float32)) for states in (query, key, value))
    scores = torch.einsum("qhd,khd->hqk", query, key) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if softcap:
        scores = softcap * torch.tanh(scores / softcap)
    own = torch.arange(len(query))[:, None] + len(key) - len(query)
    keys = torch.arange(len(key))[None]
    left, right = (-1 if side is None else side for side in window)
    hidden = torch.zeros(len(query), len(key), dtype=torch.bool)
    if causal:
        hidden |= keys > own
    if left >= 0:
        hidden |= keys < own - left
    if right >= 0 and not causal:
        hidden |= keys > own + right
    scores = scores.masked_fill(hidden, float("-inf"))
    lse = scores.logsumexp(-1)
    if sink is not None:
        lse = torch.logaddexp(lse, sink.to(lse.dtype)[:, None])
    output = torch.einsum("hqk,khd->qhd", (scores - lse[..., None]).exp().nan_to_num(0.0), value)
    return output.to(dtype), lse.to(torch.float32)


def dense(query: Tensor, key: Tensor, value: Tensor, *how: Any) -> tuple[Tensor, Tensor]:
    """[batch tokens heads dim], and a log-sum-exp [batch heads tokens]."""
    parts = [attend(*states, *how) for states in zip(query, key, value, strict=True)]
    return torch.stack([part[0] for part in parts]), torch.stack([part[1] for part in parts])


def varlen(
    query: Tensor, key: Tensor, value: Tensor, of_queries: Tensor, of_keys: Tensor, *how: Any
) -> tuple[Tensor, Tensor]:
    """Sequences in a row [total heads dim], and a log-sum-exp [heads total]."""
    parts = []
    for index in range(len(of_queries) - 1):
        rows, keys = (slice(int(of[index]), int(of[index + 1])) for of in (of_queries, of_keys))
        parts.append(attend(query[rows], key[keys], value[keys], *how))
    return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts], 1)


class Differentiable(torch.autograd.Function):
    """As the packages have it: the kernel below autograd, and a backward of its own."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, kernel: Any, formula: Any) -> Any:
        ctx.save_for_backward(query, key, value)
        ctx.formula = formula
        ctx.set_materialize_grads(False)
        output, lse = kernel(query, key, value)
        return output, lse

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, of_lse: Tensor | None) -> Any:
        assert of_lse is None
        with torch.enable_grad():
            states = [of.detach().requires_grad_() for of in ctx.saved_tensors]
            found = torch.autograd.grad(ctx.formula(*states)[0], states, gradient)
        return *found, None, None


def _nothing(like: Tensor) -> tuple[Tensor, Tensor]:
    return like.new_empty(0), torch.zeros(2, dtype=torch.int64)


@torch.library.custom_op("flash_attn::_flash_attn_forward", mutates_args=())
def _flash_attn_2(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    dropout_p: float,
    softmax_scale: float,
    causal: bool,
    window_size_left: int,
    window_size_right: int,
    softcap: float,
    alibi_slopes: Optional[Tensor],  # noqa: UP045 - torch reads these annotations
    return_softmax: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    window = window_size_left, window_size_right
    return (*dense(q, k, v, softmax_scale, causal, window, softcap), *_nothing(q))


@torch.library.custom_op("flash_attn::_flash_attn_varlen_forward", mutates_args=())
def _flash_attn_2_varlen(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    dropout_p: float,
    softmax_scale: float,
    causal: bool,
    window_size_left: int = -1,
    window_size_right: int = -1,
    softcap: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    window = window_size_left, window_size_right
    return (*varlen(q, k, v, cu_seqlens_q, cu_seqlens_k, softmax_scale, causal, window, softcap), *_nothing(q))


@torch.library.custom_op("flash_attn_3::_flash_attn_forward", mutates_args=())
def _flash_attn_3(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Optional[Tensor] = None,  # noqa: UP045
    cu_seqlens_k: Optional[Tensor] = None,  # noqa: UP045
    softmax_scale: Optional[float] = None,  # noqa: UP045
    causal: bool = False,
    window_size_left: int = -1,
    window_size_right: int = -1,
    softcap: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    how = softmax_scale, causal, (window_size_left, window_size_right), softcap
    if cu_seqlens_q is None or cu_seqlens_k is None:
        return (*dense(q, k, v, *how), *_nothing(q))
    return (*varlen(q, k, v, cu_seqlens_q, cu_seqlens_k, *how), *_nothing(q))


_hub_2 = torch.library.Library("_flash_attn2_0f3a9c", "DEF")
_HOW_2 = (
    "Tensor? alibi_slopes, float p_dropout, float softmax_scale, bool is_causal, int window_size_left, "
    "int window_size_right, float softcap, bool return_softmax, Generator? gen_"
)
_hub_2.define(f"fwd(Tensor q, Tensor k, Tensor v, Tensor? out_, {_HOW_2}) -> Tensor[]")
_hub_2.define(
    f"varlen_fwd(Tensor q, Tensor k, Tensor v, Tensor? out_, Tensor cu_seqlens_q, Tensor cu_seqlens_k, {_HOW_2}) "
    "-> Tensor[]"
)


def _hub_2_fwd(q: Tensor, k: Tensor, v: Tensor, out: Any, *how: Any) -> list[Tensor]:
    _, _, scale, causal, left, right, softcap, _, _ = how
    return [*dense(q, k, v, scale, causal, (left, right), softcap), *_nothing(q)]


def _hub_2_varlen_fwd(q: Tensor, k: Tensor, v: Tensor, out: Any, rows: Tensor, keys: Tensor, *how: Any) -> list[Tensor]:
    _, _, scale, causal, left, right, softcap, _, _ = how
    return [*varlen(q, k, v, rows, keys, scale, causal, (left, right), softcap), *_nothing(q)]


_hub_2.impl("fwd", _hub_2_fwd, "CPU")
_hub_2.impl("varlen_fwd", _hub_2_varlen_fwd, "CPU")

_hub_3 = torch.library.Library("_vllm_flash_attn3_77d01b", "DEF")
_hub_3.define(
    "fwd(Tensor q, Tensor k, Tensor v, Tensor? cu_seqlens_q, Tensor? cu_seqlens_k, float? softmax_scale, "
    "bool is_causal, int window_size_left, int window_size_right, float softcap, Tensor? s_aux) "
    "-> (Tensor, Tensor, Tensor, Tensor)"
)


def _hub_3_fwd(q: Tensor, k: Tensor, v: Tensor, rows: Any, keys: Any, *how: Any) -> tuple[Tensor, ...]:
    scale, causal, left, right, softcap, s_aux = how
    if rows is None:
        return (*dense(q, k, v, scale, causal, (left, right), softcap, s_aux), *_nothing(q))
    return (*varlen(q, k, v, rows, keys, scale, causal, (left, right), softcap, s_aux), *_nothing(q))


_hub_3.impl("fwd", _hub_3_fwd, "CPU")


def _package_2(forward: Callable[..., Any], forward_varlen: Callable[..., Any]) -> Any:
    """The functions of flash-attn 2 over two operators."""

    def flash_attn_func(
        q: Tensor,
        k: Tensor,
        v: Tensor,
        dropout_p: float = 0.0,
        softmax_scale: float | None = None,
        causal: bool = False,
        window_size: tuple[int, int] = (-1, -1),
        softcap: float = 0.0,
        alibi_slopes: Tensor | None = None,
        deterministic: bool = False,
        return_attn_probs: bool = False,
    ) -> Tensor:
        how = softmax_scale, causal, window_size, softcap
        return Differentiable.apply(
            q, k, v, lambda *states: forward(states, None, *how), lambda *states: dense(*states, *how)
        )[0]

    def flash_attn_varlen_func(
        q: Tensor,
        k: Tensor,
        v: Tensor,
        cu_seqlens_q: Tensor,
        cu_seqlens_k: Tensor,
        max_seqlen_q: int,
        max_seqlen_k: int,
        dropout_p: float = 0.0,
        softmax_scale: float | None = None,
        causal: bool = False,
        window_size: tuple[int, int] = (-1, -1),
        softcap: float = 0.0,
        alibi_slopes: Tensor | None = None,
        deterministic: bool = False,
        return_attn_probs: bool = False,
    ) -> Tensor:
        rows, how = (cu_seqlens_q, cu_seqlens_k), (softmax_scale, causal, window_size, softcap)
        return Differentiable.apply(
            q, k, v, lambda *states: forward_varlen(states, rows, *how), lambda *states: varlen(*states, *rows, *how)
        )[0]

    return SimpleNamespace(flash_attn_func=flash_attn_func, flash_attn_varlen_func=flash_attn_varlen_func)


def _scale(states: Any, scale: float | None) -> float:
    return float(states[0].shape[-1] ** -0.5) if scale is None else scale


FLASH_ATTN_2 = _package_2(
    lambda states, _, scale, causal, window, softcap: torch.ops.flash_attn._flash_attn_forward(
        *states, 0.0, _scale(states, scale), causal, *window, softcap, None, False
    )[:2],
    lambda states, rows, scale, causal, window, softcap: torch.ops.flash_attn._flash_attn_varlen_forward(
        *states, *rows, 0, 0, 0.0, _scale(states, scale), causal, *window, softcap
    )[:2],
)
HUB_FLASH_ATTN_2 = _package_2(
    lambda states, _, scale, causal, window, softcap: torch.ops._flash_attn2_0f3a9c.fwd(
        *states, None, None, 0.0, _scale(states, scale), causal, *window, softcap, False, None
    )[:2],
    lambda states, rows, scale, causal, window, softcap: torch.ops._flash_attn2_0f3a9c.varlen_fwd(
        *states, None, *rows, None, 0.0, _scale(states, scale), causal, *window, softcap, False, None
    )[:2],
)
QUIET_FLASH_ATTN = _package_2(
    lambda states, _, *how: dense(*states, *how), lambda states, rows, *how: varlen(*states, *rows, *how)
)


def _package_3(operator: Callable[..., Any], with_sink: bool, returns_lse: bool) -> Any:
    """The functions of FlashAttention 3 over one operator; vLLM's know sinks, and give the normaliser unasked."""

    def both(q: Tensor, k: Tensor, v: Tensor, rows: Any, how: Any, s_aux: Tensor | None) -> Any:
        formula = dense if rows == (None, None) else varlen
        kept = () if rows == (None, None) else rows
        result = Differentiable.apply(
            q,
            k,
            v,
            lambda *states: operator(states, rows, how, s_aux),
            lambda *states: formula(*states, *kept, *how, s_aux),
        )
        return result if returns_lse else result[0]

    def flash_attn_func(  # type: ignore[no-untyped-def]
        q, k, v, softmax_scale=None, causal=False, window_size=(-1, -1), softcap=0.0, deterministic=False
    ):
        return both(q, k, v, (None, None), (softmax_scale, causal, window_size, softcap), None)

    def flash_attn_varlen_func(  # type: ignore[no-untyped-def]
        q,
        k,
        v,
        cu_seqlens_q,
        cu_seqlens_k,
        max_seqlen_q,
        max_seqlen_k,
        softmax_scale=None,
        causal=False,
        window_size=(-1, -1),
        softcap=0.0,
        deterministic=False,
    ):
        return both(q, k, v, (cu_seqlens_q, cu_seqlens_k), (softmax_scale, causal, window_size, softcap), None)

    def flash_attn_func_with_sink(  # type: ignore[no-untyped-def]
        q, k, v, softmax_scale=None, causal=False, window_size=(-1, -1), softcap=0.0, deterministic=False, s_aux=None
    ):
        return both(q, k, v, (None, None), (softmax_scale, causal, window_size, softcap), s_aux)

    def flash_attn_varlen_func_with_sink(  # type: ignore[no-untyped-def]
        q,
        k,
        v,
        cu_seqlens_q,
        cu_seqlens_k,
        max_seqlen_q,
        max_seqlen_k,
        softmax_scale=None,
        causal=False,
        window_size=(-1, -1),
        softcap=0.0,
        deterministic=False,
        s_aux=None,
    ):
        return both(q, k, v, (cu_seqlens_q, cu_seqlens_k), (softmax_scale, causal, window_size, softcap), s_aux)

    if with_sink:
        return SimpleNamespace(
            flash_attn_func=flash_attn_func_with_sink, flash_attn_varlen_func=flash_attn_varlen_func_with_sink
        )
    return SimpleNamespace(flash_attn_func=flash_attn_func, flash_attn_varlen_func=flash_attn_varlen_func)


FLASH_ATTN_3 = _package_3(
    lambda states, rows, how, _: torch.ops.flash_attn_3._flash_attn_forward(*states, *rows, *how[:2], *how[2], how[3])[
        :2
    ],
    with_sink=False,
    returns_lse=False,
)
HUB_FLASH_ATTN_3 = _package_3(
    lambda states, rows, how, s_aux: torch.ops._vllm_flash_attn3_77d01b.fwd(
        *states, *rows, *how[:2], *how[2], how[3], s_aux
    )[:2],
    with_sink=True,
    returns_lse=True,
)


def _fa4(q: Tensor, k: Tensor, v: Tensor, rows: Any, how: Any, sink: Tensor | None, return_lse: bool) -> Any:
    """FlashAttention 4 runs no operator, and gives its normaliser when it is asked or keeps it for its backward."""
    formula, kept = (dense, ()) if rows is None else (varlen, rows)
    wanted = return_lse or any(of.requires_grad for of in (q, k, v))
    output, lse = Differentiable.apply(q, k, v, *[lambda *states: formula(*states, *kept, *how, sink)] * 2)
    return output, lse if wanted else None


def _fa4_func(  # type: ignore[no-untyped-def]
    q,
    k,
    v,
    softmax_scale=None,
    causal=False,
    window_size=(None, None),
    learnable_sink=None,
    softcap=0.0,
    deterministic=False,
    return_lse=False,
):
    return _fa4(q, k, v, None, (softmax_scale, causal, window_size, softcap), learnable_sink, return_lse)


def _fa4_varlen_func(  # type: ignore[no-untyped-def]
    q,
    k,
    v,
    cu_seqlens_q=None,
    cu_seqlens_k=None,
    max_seqlen_q=None,
    max_seqlen_k=None,
    softmax_scale=None,
    causal=False,
    window_size=(None, None),
    learnable_sink=None,
    softcap=0.0,
    deterministic=False,
    return_lse=False,
):
    rows = cu_seqlens_q, cu_seqlens_k
    return _fa4(q, k, v, rows, (softmax_scale, causal, window_size, softcap), learnable_sink, return_lse)


FLASH_ATTN_4 = SimpleNamespace(flash_attn_func=_fa4_func, flash_attn_varlen_func=_fa4_varlen_func)


def _lying(function: Callable[..., Any]) -> Callable[..., Any]:
    """Gives its normaliser in powers of 2."""

    def lying(*args: Any, return_lse: bool = False, **kwargs: Any) -> Any:
        output, lse = function(*args, return_lse=True, **kwargs)
        return output, lse / 0.6931471805599453

    lying.__signature__ = __import__("inspect").signature(function)  # type: ignore[attr-defined]
    return lying


LYING_FLASH_ATTN = SimpleNamespace(flash_attn_func=_lying(_fa4_func), flash_attn_varlen_func=_lying(_fa4_varlen_func))


def _forward(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """A kernel with an attention function of its own, to which transformers gives SDPA's masks."""
    states = [of.repeat_interleave(module.num_key_value_groups, 1) for of in (key, value)]
    scores = query @ states[0].transpose(-1, -2) * kwargs["scaling"]
    visible = (
        torch.ones(query.shape[2], key.shape[2], dtype=torch.bool).tril() if attention_mask is None else attention_mask
    )
    attention = scores.masked_fill(~visible, torch.finfo(scores.dtype).min).softmax(-1)
    return (attention @ states[1]).transpose(1, 2).contiguous(), None


HUB = {
    HUB_2: HUB_FLASH_ATTN_2,
    HUB_3: HUB_FLASH_ATTN_3,
    "someone/quiet-flash-attn": QUIET_FLASH_ATTN,
    "someone/own-attention": SimpleNamespace(flash_attn_forward=_forward, supports_flash_attn=True),
    "someone/sparse-attention": SimpleNamespace(sparse_atten_func=None),
    LYING: LYING_FLASH_ATTN,
}


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let transformers find all of them, for the length of a test."""
    padding = SimpleNamespace(pad_input=flash_utils._pad_input, unpad_input=flash_utils._unpad_input)
    packages = {
        "flash_attn": SimpleNamespace(**vars(FLASH_ATTN_2), flash_attn_with_kvcache=None, __path__=[]),
        "flash_attn.bert_padding": padding,
        "flash_attn.cute": FLASH_ATTN_4,
        "flash_attn_interface": SimpleNamespace(**vars(FLASH_ATTN_3), flash_attn_with_kvcache=None),
    }
    for name, package in packages.items():
        monkeypatch.setitem(sys.modules, name, package)
    monkeypatch.setattr(flash_utils, "is_flash_attn_2_available", lambda *_, **__: True)
    monkeypatch.setattr(flash_utils, "_loaded_implementation", None)
    for facts in flash_utils.FLASH_ATTENTION_COMPATIBILITY_MATRIX.values():
        monkeypatch.setitem(facts, "general_availability_check", lambda *_, **__: True)
    monkeypatch.setattr(hub_kernels, "is_kernels_available", lambda *_, **__: True)
    monkeypatch.setattr(hub_kernels, "get_kernel", lambda name, **_: HUB[name])
    for table in (ALL_ATTENTION_FUNCTIONS, ALL_MASK_ATTENTION_FUNCTIONS):
        for name in (HUB_2, HUB_3, QUIET, FUNCTION, OWN, SPARSE, LYING):
            monkeypatch.setitem(table._global_mapping, name, None)  # what is registered goes with the test
