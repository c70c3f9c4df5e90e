"""The reference of causal measures: transformers' eager attention in float64, whole logits, one unpadded sequence."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from avar_eval.attention.measure import with_responses
from avar_eval.attention.roles import Role
from avar_eval.models.transformers_backend import TransformersBackend


@contextmanager
def eager_without_images(
    reference: Any, roles: Sequence[int], layers: Sequence[int] | None = None, since: int = 0
) -> Iterator[None]:
    """Within this context an eager model's text sees no image token in these layers (None: all), from `since` on."""
    text = reference.config.get_text_config()
    modules = [m for m in reference.modules() if getattr(m, "config", None) is text and hasattr(m, "layer_idx")]
    cross = set(text.to_dict().get("cross_attention_layers") or ())
    files = {sys.modules[type(module).__module__] for module in modules}
    originals = {file: file.eager_attention_forward for file in files}
    of_image = torch.tensor([role == Role.IMAGE for role in roles])
    blind = ~of_image & (torch.arange(len(roles)) >= since)

    def attention(module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **kwargs: Any) -> Any:
        file = sys.modules[type(module).__module__]
        hides = module in modules and (layers is None or module.layer_idx in layers)
        if not hides:
            return originals[file](module, query, key, value, attention_mask, **kwargs)
        key, value = (of.repeat_interleave(query.shape[1] // of.shape[1], 1) for of in (key, value))
        scores = query @ key.transpose(2, 3) * kwargs["scaling"]
        scores = scores if attention_mask is None else scores + attention_mask
        is_cross = module.layer_idx in cross
        hidden = torch.ones(key.shape[2], dtype=torch.bool) if is_cross else of_image
        scores = scores.masked_fill(blind[:, None] & hidden, float("-inf"))
        attended = scores.softmax(-1).nan_to_num(0)
        return (attended @ value).transpose(1, 2).contiguous(), attended

    for file in files:
        file.eager_attention_forward = attention
    try:
        yield
    finally:
        for file, original in originals.items():
            file.eager_attention_forward = original


def log_distributions(
    reference: Any, backend: TransformersBackend, prompt: str, images: Sequence[Any], response: Sequence[int]
) -> Tensor:
    """log p over the whole vocabulary before each token of a response [tokens vocabulary]."""
    inputs = with_responses(backend.encode([prompt], [images]), [response])
    doubled = {name: of.double() if of.is_floating_point() else of for name, of in inputs.items()}
    with torch.no_grad():
        logits = reference(**doubled, use_cache=False).logits
    return logits[0, -len(response) - 1 : -1].log_softmax(-1)


def sequence_roles(
    backend: TransformersBackend, prompt: str, images: Sequence[Any], response: Sequence[int]
) -> list[int]:
    """Roles of a prompt with its response."""
    encoded = backend.encode([prompt], [images])["input_ids"][0].tolist()
    return [*backend.markup.prompt_roles(encoded), *[Role.RESPONSE] * len(response)]
