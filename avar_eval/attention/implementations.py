"""The attention implementations that transformers loads models with: how each reads its arguments, what loads here.

`attn_implementation` names one: `eager`, `sdpa`, `flex_attention`, `flash_attention_2` to `_4`, or a kernel of the hub
(`owner/name[@revision][:function]`), to which transformers also goes where a flash package is not installed. What a
call hides is told to all flash kernels in the same words, whatever their name (`modeling_flash_attention_utils.py`).
"""

from collections.abc import Callable, Mapping
from functools import cache
from inspect import signature
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask
from transformers import modeling_flash_attention_utils as flash_utils
from transformers.integrations.flash_attention import flash_attention_forward
from transformers.integrations.hub_kernels import is_kernel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, flash_attention_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils import is_kernels_available, is_torch_flex_attn_available

from avar_eval.attention.visibility import Visibility
from avar_eval.errors import AvarError

Reading = Literal["eager", "sdpa", "flash", "flex"]
"""Whose arguments an implementation takes: a dense mask (`eager`, `sdpa`), padding and a window, or a BlockMask."""

_READINGS: Mapping[str, Reading] = {
    "eager": "eager",
    "sdpa": "sdpa",
    "flash_attention_2": "flash",
    "flash_attention_3": "flash",
    "flash_attention_4": "flash",
    "flex_attention": "flex",
}
_PACKAGES = {
    "flash_attention_2": "flash-attn",
    "flash_attention_3": "flash-attn-3 (the `hopper` folder of flash-attention)",
    "flash_attention_4": "flash-attn-4",
}
IMPLEMENTATIONS = tuple(_READINGS)
"""The names that are no kernel of the hub."""
KNOWN = f"{', '.join(IMPLEMENTATIONS)}, or a kernel of the hub such as kernels-community/flash-attn2"
"""For messages."""


class AttentionError(AvarError):
    """This model's attention cannot be observed or steered.

    What to do: See ObserveError and SteerError; an evaluation goes on with `--attention off`.
    """


class ObserveError(AttentionError):
    """This model's attention cannot be observed.

    What to do: Choose the kernel that the message names (`--attn-implementation sdpa`), or `--attention off`.
    """


class SteerError(AttentionError):
    """This model's attention cannot be steered.

    What to do: Choose the mode, rows or kernel that the message names as exact here.
    """


def unknown_reason(name: str) -> str | None:
    """Why what an implementation computes is not known here, None if it is. Nothing is loaded for it."""
    if name.startswith("paged|"):
        return f"{name} is for continuous batching, which keeps no sequence whole: leave out `paged|`"
    return None if name in _READINGS or is_kernel(name) else f"it is none of {KNOWN}"


def get_reading(name: str) -> Reading:
    """How a loaded implementation reads its arguments. Raises AttentionError with the reason where that is unknown."""
    if reason := unknown_reason(name):
        raise AttentionError(reason)
    if name in _READINGS:
        return _READINGS[name]
    function = ALL_ATTENTION_FUNCTIONS.get(name)
    if function is None:
        raise AttentionError(f"the kernel {name} is not loaded")
    if getattr(function, "__name__", "") == "msa_attention_forward":
        raise AttentionError(f"the kernel {name} chooses which keys a query sees, and does not say which")
    return "flash" if ALL_MASK_ATTENTION_FUNCTIONS.get(name) is flash_attention_mask else "sdpa"


def implementations(device: torch.device, dtype: torch.dtype) -> dict[str, str | None]:
    """Every implementation by name: None if a model of this dtype can be loaded with it here, else the reason why not.

    A name stands for the package of that name, and where it is missing for the hub's kernel, which counts as well.
    """
    return {name: unavailable_reason(name, device, dtype) for name in IMPLEMENTATIONS}


def resolve_kernel_name(name: str) -> str:
    """What transformers loads by this name: the kernel of the hub that stands in for a package that is missing."""
    if name in _PACKAGES and not _has_package(name) and is_kernels_available():
        return str(flash_utils.FLASH_ATTN_KERNEL_FALLBACK[name])
    return name


def unavailable_reason(name: str, device: torch.device, dtype: torch.dtype) -> str | None:
    """Why no model of this dtype can be loaded with an implementation on this device; None if it can be.

    A kernel of the hub is fetched and loaded for it.
    """
    if reason := unknown_reason(name):
        return reason
    if name == "flex_attention":
        return None if is_torch_flex_attn_available() else f"torch {torch.__version__} has no flex_attention"
    if _READINGS.get(name) in ("eager", "sdpa"):
        return None
    kernel = resolve_kernel_name(name)
    if not is_kernel(kernel):
        return _no_flash_reason(kernel, device, dtype)
    if "flash" in kernel and (reason := _no_half_reason(kernel, device, dtype)):
        return reason
    if not is_kernels_available():
        return f"{kernel} is a kernel of the hub: pip install 'avar-eval[flash]' for the package that fetches it"
    try:
        flash_utils.lazy_import_flash_attention(kernel)
        get_reading(kernel)
    except Exception as error:  # its builds, the network and its own imports raise anything
        return f"the kernel {kernel} cannot be loaded: {str(error).strip().partition(chr(10))[0]}"
    return None


def _has_package(name: str) -> bool:
    versions = flash_utils.FLASH_ATTENTION_COMPATIBILITY_MATRIX
    return bool(versions[int(name[-1])]["pkg_availability_check"]())


def _no_half_reason(name: str, device: torch.device, dtype: torch.dtype) -> str | None:
    """What all flash kernels need."""
    if device.type == "cpu":
        return f"{name} does not run on a CPU: use sdpa"
    if dtype not in (torch.float16, torch.bfloat16):
        return f"{name} runs in float16 and bfloat16 only, not in {str(dtype).removeprefix('torch.')}"
    return None


def _no_flash_reason(name: str, device: torch.device, dtype: torch.dtype) -> str | None:
    if reason := _no_half_reason(name, device, dtype):
        return reason
    if not _has_package(name):
        return (
            f"{_PACKAGES[name]} is not installed: pip install 'avar-eval[flash]' lets transformers fetch a kernel that "
            "is built already, or use sdpa"
        )
    facts = flash_utils.FLASH_ATTENTION_COMPATIBILITY_MATRIX[int(name[-1])]
    needed = facts.get("cuda_min_major_version")
    if device.type == "cuda" and needed is not None and torch.cuda.get_device_capability(device)[0] < needed:
        return f"{name} needs a GPU of compute capability {needed}.0 or higher"
    if not facts["general_availability_check"]():
        return f"the installed {_PACKAGES[name]} is not one that transformers takes"
    return None


def read_visibility(
    reading: Reading, module: Any, query: Tensor, key: Tensor, mask: Any, kwargs: Mapping[str, Any]
) -> Visibility:
    """What a call of transformers' attention functions hides, read as each of them reads its arguments.

    Raises AttentionError for arguments whose effect is not known.
    """
    for extra in ("position_bias", "sinks", "cache", "block_table"):
        if kwargs.get(extra) is not None:
            raise ObserveError(f"{type(module).__name__} passes {extra!r} to its attention: this is not supported")
    if reading == "flash":
        return _flash_visibility(module, query, key, mask, kwargs)
    if isinstance(mask, BlockMask):
        return Visibility(causal=False, mask_function=mask.mask_mod)
    if mask is not None:
        return Visibility(causal=False, mask=mask[..., : key.shape[2]])
    return Visibility(causal=reading == "sdpa" and query.shape[2] > 1 and _is_causal(module, kwargs))


def _flash_visibility(
    module: Any, query: Tensor, key: Tensor, mask: Tensor | None, kwargs: Mapping[str, Any]
) -> Visibility:
    # a static cache has room after the keys that the mask tells of, which the kernel is not given
    batch, keys = len(key), key.shape[2] if mask is None else min(key.shape[2], mask.shape[1])
    offset, causal, window = keys - query.shape[2], _is_causal(module, kwargs), kwargs.get("sliding_window")
    padding = segments = None
    if mask is not None:
        padding = torch.nn.functional.pad(mask[:, -keys:].bool(), (0, key.shape[2] - keys))
    elif all(kwargs.get(name) is not None for name in _PACKED):
        if query.shape[2] != key.shape[2]:
            raise ObserveError("packed sequences are measured in one pass, without a cache")
        starts = torch.zeros(batch * keys, dtype=torch.long, device=key.device)
        segments = starts.index_fill(0, kwargs["cu_seq_lens_k"][1:-1].long(), 1).cumsum(0).view(batch, keys)
    else:
        positions = kwargs.get("position_ids")
        if positions is not None and batch == 1 and positions.shape == (1, keys):
            # several sequences in a row start their positions anew
            segments = (positions == positions.min()).cumsum(-1)
    if window is not None and not causal:  # to either side

        def sliding_window(sequence: Tensor, head: Tensor, row: Tensor, place: Tensor) -> Tensor:
            seen: Tensor = (place - row - offset).abs() < window
            return seen

        return Visibility(causal=False, offset=offset, padding=padding, segments=segments, mask_function=sliding_window)
    return Visibility(causal=causal, offset=offset, window=window, padding=padding, segments=segments)


_PACKED = ("cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k")


def _is_causal(module: Any, kwargs: Mapping[str, Any]) -> bool:
    given = kwargs.get("is_causal")
    return bool(getattr(module, "is_causal", True) if given is None else given)


def unpadded_queries(reading: Reading, query: Tensor, mask: Any) -> Tensor | None:
    """Which queries [batch queries] a flash kernel is given: transformers takes padding out. None: all of them."""
    if reading != "flash" or mask is None:
        return None
    given: Tensor = mask[:, -query.shape[2] :].bool()
    return given


def learnt_sink(
    name: str, reading: Reading, function: Callable[..., Any], query: Tensor, kwargs: Mapping[str, Any]
) -> Float[Tensor, " heads"] | None:
    """The learnt logit of each head's attention sink, as far as an implementation reads it; None if there is none.

    transformers drops it without a word where a kernel has no argument for it: flash-attn 2 and SDPA do not.
    """
    sink: Tensor | None = kwargs.get("s_aux")
    if sink is None or function is sdpa_attention_forward:
        return None
    if reading in ("eager", "flex"):
        return sink
    if function is not flash_attention_forward:
        if "s_aux" not in _parameters(function):
            raise ObserveError(f"whether the kernel {name} reads a model's sinks (`s_aux`) is not known")
    elif not {"s_aux", "learnable_sink"} & _parameters(flash_utils.lazy_import_flash_attention(name)[0][1]):
        return None
    return sink.to(query.dtype)  # as it is handed on


@cache
def _parameters(function: Callable[..., Any]) -> frozenset[str]:
    return frozenset(signature(function).parameters)
