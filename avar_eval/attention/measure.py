"""Measure where a model looks, in one teacher-forced pass under the kernels the model runs with."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from avar_eval.attention.observe import RECORDED, observe
from avar_eval.attention.record import AttentionRecord, records_of
from avar_eval.attention.roles import ChatMarkup, batch_roles
from avar_eval.attention.steer import steer
from avar_eval.attention.steering import UNSTEERED, Steering

_PER_TOKEN = ("input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids", "cross_attention_mask")


def measure_attention(
    model: Any,
    processor: Any,
    messages: Sequence[Mapping[str, Any]],
    response: str | Sequence[int] | None = None,
    steering: Steering = UNSTEERED,
) -> AttentionRecord:
    """Where `model` looks in one conversation.

    messages: chat messages with their images, as `processor.apply_chat_template` takes them. response: what the model
    answered, as text or token ids; None measures the conversation as it stands. steering: what the model is to be
    steered by while it is measured. The model must be in evaluation mode.
    Raises ChatTemplateError where token roles cannot be told, ObserveError where the model cannot be observed.

        record = avar_eval.measure_attention(model, processor, messages, "A red circle.")
        record.visual_attention_score()                    # Eq. 2, queries: the user's tokens
        record.visual_attention_score(queries="response")
        record.mass["image"]                               # [layers, heads, queries], queries at record.queries
    """
    inputs = processor.apply_chat_template(
        list(messages),
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        add_generation_prompt=response is not None or messages[-1]["role"] != "assistant",
    ).to(model.device)
    if response is None:
        tokens: Sequence[int] = []
    elif isinstance(response, str):
        tokens = processor.tokenizer.encode(response, add_special_tokens=False)
    else:
        tokens = response
    (record,) = measure_batch(model, ChatMarkup(processor), inputs, [tokens], steering)
    return record


@torch.inference_mode()
def measure_batch(
    model: Any,
    markup: ChatMarkup,
    inputs: Mapping[str, Any],
    responses: Sequence[Sequence[int]],
    steering: Steering = UNSTEERED,
) -> list[AttentionRecord]:
    """Where the model looks in each of a batch of encoded, left-padded prompts followed by its response's token ids."""
    prompts = [
        ids[present.bool()].tolist() for ids, present in zip(inputs["input_ids"], inputs["attention_mask"], strict=True)
    ]
    prompt_width = inputs["input_ids"].shape[1]
    roles = batch_roles(markup, prompts, responses, prompt_width, prompt_width + max(map(len, responses)))
    with steer(model, steering, roles), observe(model, roles, groups=RECORDED) as observation:
        model(**with_responses(inputs, responses), use_cache=False, logits_to_keep=1)
    return records_of(observation, roles)


def with_responses(inputs: Mapping[str, Any], responses: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Encoded, left-padded prompts followed by their responses' token ids, right-padded to the longest."""
    width = max(map(len, responses))
    extended = dict(inputs)
    for name in _PER_TOKEN:
        if name in inputs:
            extended[name] = _extend(inputs[name], width, repeat=name == "cross_attention_mask")
    for row, response in enumerate(responses):
        end = extended["input_ids"].shape[1] - width + len(response)
        span = slice(end - len(response), end)
        extended["input_ids"][row, span] = torch.tensor(list(response), device=extended["input_ids"].device)
        extended["attention_mask"][row, span] = 1
    return extended


def _extend(values: Int[Tensor, "batch prompt *rest"], width: int, repeat: bool) -> Int[Tensor, "batch sequence *rest"]:
    """More positions at the end: zeros, or (images that stay visible) the last one again."""
    shape = (values.shape[0], width, *values.shape[2:])
    return torch.cat([values, values[:, -1:].expand(shape) if repeat else values.new_zeros(shape)], 1)
