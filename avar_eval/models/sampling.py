"""Sampling that depends on the question and not on the batch, one random stream a sequence; and when it stops."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    MinPLogitsWarper,
    StoppingCriteria,
    StoppingCriteriaList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from avar_eval.models.decoding import Decoding


class SeededSampling(LogitsProcessor):  # type: ignore[misc]
    """Draws each sequence's next token with its own uniform numbers, by leaving that token alone finite.

    Greedy decoding after it picks the drawn token; the distribution is softmax(scores) exactly (inverse CDF).
    streams: one key (hex) a sequence, which seeds its stream.
    """

    def __init__(self, streams: Sequence[str]) -> None:
        self._generators = [np.random.Generator(np.random.Philox(key=int(stream[:32], 16))) for stream in streams]

    def __call__(
        self, input_ids: Int[Tensor, "batch length"], scores: Float[Tensor, "batch vocabulary"]
    ) -> Float[Tensor, "batch vocabulary"]:
        uniform = torch.tensor([[generator.random()] for generator in self._generators], device=scores.device)
        cumulative = scores.double().softmax(-1).cumsum(-1)
        drawn = torch.searchsorted(cumulative, uniform.double() * cumulative[:, -1:], right=True)
        return torch.full_like(scores, float("-inf")).scatter_(1, drawn.clamp_max(scores.shape[1] - 1), 0.0)


class RepetitionPenalty(LogitsProcessor):  # type: ignore[misc]
    """Penalises the tokens that a sequence holds, its padding not among them (arXiv 1909.05858, Section 4.1).

    transformers' own processor counts padding as a token of the sequence, and for some models padding is an end of
    turn: its responses would depend on the batch. attention_mask: of the left-padded prompts.
    """

    def __init__(self, penalty: float, attention_mask: Int[Tensor, "batch prompt"]) -> None:
        self._penalty = penalty
        self._present = attention_mask.bool()

    def __call__(
        self, input_ids: Int[Tensor, "batch length"], scores: Float[Tensor, "batch vocabulary"]
    ) -> Float[Tensor, "batch vocabulary"]:
        held = torch.zeros_like(scores)
        responses = self._present.new_ones(len(input_ids), input_ids.shape[1] - self._present.shape[1])
        held.scatter_add_(1, input_ids, torch.cat([self._present, responses], 1).to(scores))
        penalised = torch.where(scores < 0, scores * self._penalty, scores / self._penalty)
        return torch.where(held > 0, penalised, scores)


class PresencePenalty(LogitsProcessor):  # type: ignore[misc]
    """Takes `penalty` once off the logits of tokens that a response holds, as vLLM and OpenAI's interface do.

    prompt: how many tokens, padding among them, precede the responses.
    """

    def __init__(self, penalty: float, prompt: int) -> None:
        self._penalty = penalty
        self._prompt = prompt

    def __call__(
        self, input_ids: Int[Tensor, "batch length"], scores: Float[Tensor, "batch vocabulary"]
    ) -> Float[Tensor, "batch vocabulary"]:
        response = input_ids[:, self._prompt :]
        return scores - torch.zeros_like(scores).scatter_(1, response, self._penalty)


PENALTIES: Final[dict[str, Callable[[Any, Int[Tensor, "batch prompt"]], Any]]] = {
    "repetition_penalty": RepetitionPenalty,
    "presence_penalty": lambda penalty, prompts: PresencePenalty(penalty, prompts.shape[1]),
}
"""What acts on the model's own scores, greedy or not: option -> its processor, of a value and the attention mask."""

WARPERS: Final[dict[str, Callable[[Any], Any]]] = {
    "temperature": TemperatureLogitsWarper,
    "min_p": MinPLogitsWarper,
    "top_k": TopKLogitsWarper,
    "top_p": TopPLogitsWarper,
}
"""What acts on a distribution that is drawn from, in this order, which is vLLM's: option -> its processor, of a value.

transformers itself has min-p after top-p. Of a distribution from which min-p has taken tokens, top-p keeps fewer.
"""


def logits_processors(
    decoding: Decoding, streams: Sequence[str], attention_mask: Int[Tensor, "batch prompt"]
) -> LogitsProcessorList:
    """What makes transformers' greedy search decode as it is specified: penalties, warpers, and the draw.

    streams: a hex key a sequence, which seeds its draws. attention_mask: of the left-padded prompts.
    """
    chosen = decoding.sampling()
    processors = LogitsProcessorList(
        [make(chosen[name], attention_mask) for name, make in PENALTIES.items() if name in chosen]
    )
    if decoding.greedy:
        return processors
    if decoding.temperature != 1:
        chosen["temperature"] = decoding.temperature
    processors.extend(make(chosen[name]) for name, make in WARPERS.items() if name in chosen)
    processors.append(SeededSampling(streams))
    return processors


OnToken = Callable[[int, int, int], None]
"""Called with tokens so far, the most that there may be, and how many responses are generated together."""


class TokenCount(LogitsProcessor):  # type: ignore[misc]
    """Says at each token how far a batch is. It leaves the scores alone and reads none: nothing waits for the GPU."""

    def __init__(self, on_token: OnToken, most: int) -> None:
        self._on_token, self._most = on_token, most
        self._tokens = 0

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self._tokens += 1
        self._on_token(min(self._tokens, self._most), self._most, scores.shape[0])
        return scores


class OneTokenLater(StoppingCriteria):  # type: ignore[misc]
    """Stops a sequence one token after `criteria` would: its last token then passes through the model like the others.

    prompt: how many tokens precede the responses; what stops a response may well end a prompt.
    """

    def __init__(self, criteria: StoppingCriteriaList, prompt: int) -> None:
        self._criteria = criteria
        self._prompt = prompt

    def __call__(self, input_ids: Int[Tensor, "batch length"], scores: Any, **kwargs: Any) -> Bool[Tensor, " batch"]:
        if input_ids.shape[1] - 1 == self._prompt:
            return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
        finished: Tensor = self._criteria(input_ids[:, :-1], scores, **kwargs)
        return finished
