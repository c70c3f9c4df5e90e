"""Ask an attention kernel by a call whether it gives its softmax normaliser."""

from typing import Any, Literal

import torch
from transformers import PreTrainedConfig
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from avar_eval.attention import interface


def normaliser_source(implementation: str, device: torch.device, dtype: torch.dtype) -> Literal["kernel", "computed"]:
    """Whether the kernel of a loaded implementation gives the softmax normaliser of a prefill, or it is computed here.

    Found by a call. Raises ObserveError if the implementation is not known.
    """
    if implementation == "eager":
        return "computed"
    probe, heard = _Probe(implementation).to(device, dtype), _CallRecorder()
    query, key, value = (torch.randn(1, heads, 128, 64, device=device, dtype=dtype) for heads in (4, 2, 2))
    interface.add_listener(implementation, [probe], heard)
    try:
        with torch.no_grad():
            ALL_ATTENTION_FUNCTIONS[implementation](probe, query, key, value, None, scaling=0.125)
    finally:
        interface.remove_listener(implementation, [probe])
    return "computed" if heard.call is None or heard.call.lse is None else "kernel"


class _Probe(torch.nn.Module):
    """An attention module as transformers' functions need it."""

    is_causal, num_key_value_groups, layer_idx = True, 2, 0

    def __init__(self, implementation: str) -> None:
        super().__init__()
        self.config = PreTrainedConfig(attn_implementation=implementation)
        self.dtype_of_weights = torch.nn.Linear(1, 1)


class _CallRecorder:
    """Listens to one call."""

    call: Any = None

    def wants(self, module: Any) -> bool:
        return True

    def on_attention(self, call: interface.ObservedAttention) -> None:
        self.call = call
