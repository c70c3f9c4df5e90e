"""What decides a drawn or penalised token: the question, and neither the batch nor its padding."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from runs import MODEL
from transformers import RepetitionPenaltyLogitsProcessor, TopPLogitsWarper

from avar_eval.models.checkpoint import resolve_checkpoint
from avar_eval.models.decoding import Decoding
from avar_eval.models.sampling import PresencePenalty, RepetitionPenalty, logits_processors
from avar_eval.models.transformers_backend import TransformersBackend
from avar_eval.tasks.shapes.dataset import prompt, rows

QUESTIONS = 4


@pytest.fixture(scope="module")
def backend() -> TransformersBackend:
    return TransformersBackend(resolve_checkpoint(MODEL), "cpu", "float32")


@pytest.fixture(scope="module")
def questions(backend: TransformersBackend) -> tuple[list[str], list[list[Image.Image]]]:
    """Rendered questions of different lengths, and their pictures."""
    chosen = [row for row, _ in zip(rows("test"), range(400), strict=False)][:: 400 // QUESTIONS]
    messages = [[{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": prompt(r)}]}] for r in chosen]
    return [backend.render(message) for message in messages], [[row["image"].convert("RGB")] for row in chosen]


def texts(backend: TransformersBackend, questions: Any, decoding: Decoding) -> list[str]:
    streams = [f"{number:032x}" for number in range(QUESTIONS)]
    return [answer.text for answer in backend.generate(backend.encode(*questions), decoding, streams)]


def test_without_padding_the_penalty_is_that_of_transformers() -> None:
    generator = torch.Generator().manual_seed(0)
    ids, scores = torch.randint(0, 50, (3, 20), generator=generator), torch.randn(3, 60, generator=generator)
    ours = RepetitionPenalty(1.3, torch.ones(3, 12, dtype=torch.long))(ids, scores)
    assert torch.equal(ours, RepetitionPenaltyLogitsProcessor(1.3)(ids, scores.clone()))
    assert not torch.equal(ours, scores)


def test_padding_is_not_penalised() -> None:
    ids, mask = torch.tensor([[7, 7, 3, 4]]), torch.tensor([[0, 0, 1]])
    scores = torch.tensor([[1.0, -1, 1, 2, -2, 1, 1, 5]])
    expected = torch.tensor([[1.0, -1, 1, 1, -4, 1, 1, 5]])
    assert torch.equal(RepetitionPenalty(2.0, mask)(ids, scores), expected)


def test_presence_is_penalised_once_and_in_the_response_alone() -> None:
    ids = torch.tensor([[7, 3, 4, 4, 0], [1, 2, 5, 7, 5]])  # two tokens of prompt, three of response
    scores = torch.tensor([[1.0, -1, 1, 2, -2, 1, 1, 5], [0.0, 0, 0, 0, 0, float("-inf"), 0, 0]])
    expected = torch.tensor([[-0.5, -1, 1, 2, -3.5, 1, 1, 5], [0.0, 0, 0, 0, 0, float("-inf"), 0, -1.5]])
    before = scores.clone()
    assert torch.equal(PresencePenalty(1.5, 2)(ids, scores), expected)
    assert torch.equal(scores, before), "the scores are the model's"
    assert torch.equal(PresencePenalty(1.5, 5)(ids, scores), scores), "no response yet"


def by_formula(logits: np.ndarray, prompt: list[int], response: list[int], how: Decoding) -> np.ndarray:
    """Probabilities of the next token [vocabulary], float64, step by step in the order of vLLM's sampler.

    vllm/v1/sample/sampler.py: penalties (model_executor/layers/utils.py), temperature, min-p
    (sample/logits_processor/builtin.py), then top-k and of what is left top-p (sample/ops/topk_topp_sampler.py).
    """
    z = logits.astype(np.float64)
    for token in {*prompt, *response}:
        z[token] = z[token] / how.repetition_penalty if z[token] > 0 else z[token] * how.repetition_penalty
    for token in set(response):
        z[token] -= how.presence_penalty
    z = z / how.temperature
    p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
    z[p < how.min_p * p.max()] = -np.inf
    if how.top_k:
        z[z < np.sort(z)[-how.top_k]] = -np.inf
    p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
    order = np.argsort(-p)
    before = np.cumsum(p[order]) - p[order]
    p[order[before >= how.top_p]] = 0
    return p / p.sum()


@pytest.mark.parametrize(
    "options",
    [
        {"min_p": 0.2},
        {"presence_penalty": 1.5},
        {"presence_penalty": -1.0, "repetition_penalty": 1.4},
        {"min_p": 0.1, "top_p": 0.7},
        {"min_p": 0.05, "top_k": 9, "top_p": 0.8, "temperature": 1.7},
        {"temperature": 0.7, "top_p": 0.8, "top_k": 20, "presence_penalty": 1.5},  # Qwen3-VL's card
    ],
)
def test_the_distribution_is_that_of_vllms_formulas(options: dict[str, Any]) -> None:
    decoding = Decoding(**{"max_new_tokens": 8, "temperature": 1.0} | options)
    generator = torch.Generator().manual_seed(1)
    prompts, responses = (torch.randint(0, 60, (16, length), generator=generator) for length in (6, 4))
    logits = 2 * torch.randn(16, 60, generator=generator)
    scores = logits.clone()
    for processor in logits_processors(decoding, ["0"] * 16, torch.ones_like(prompts))[:-1]:  # all but the draw
        scores = processor(torch.cat([prompts, responses], 1), scores)
    for row in range(16):
        expected = by_formula(logits[row].numpy(), prompts[row].tolist(), responses[row].tolist(), decoding)
        np.testing.assert_allclose(scores[row].double().softmax(-1).numpy(), expected, atol=1e-6)
        assert (expected > 0).sum() < 60 or not {"min_p", "top_k", "top_p"} & set(options)


def test_min_p_comes_before_top_p_as_in_vllm() -> None:
    """Tokens of 0.4, 0.3, 0.2, 0.1 under min-p 0.6, top-p 0.5: of the 0.4 and 0.3 that are left, 0.4 alone is 0.57."""
    scores = torch.tensor([[0.4, 0.3, 0.2, 0.1]]).log()
    decoding = Decoding(max_new_tokens=8, temperature=1.0, min_p=0.6, top_p=0.5)
    for processor in logits_processors(decoding, ["0"], torch.ones(1, 1))[:-1]:
        scores = processor(torch.zeros(1, 1, dtype=torch.long), scores)
    assert scores.isfinite().tolist() == [[True, False, False, False]]
    theirs = TopPLogitsWarper(0.5)(None, torch.tensor([[0.4, 0.3, 0.2, 0.1]]).log())
    assert theirs.isfinite().tolist() == [[True, True, False, False]], "the other order would keep both"


def test_generation_takes_presence_from_the_response(
    backend: TransformersBackend, questions: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    norm = backend.model.model.language_model.norm.weight
    monkeypatch.setattr(norm, "data", norm.data * 0.1)  # a tenth of all logits: the model is less certain
    inputs = backend.encode(*questions)
    keys = [f"{number:032x}" for number in range(QUESTIONS)]
    greedy, penalised = (
        backend.generate(inputs, Decoding(max_new_tokens=48, presence_penalty=penalty), keys) for penalty in (0, 1.5)
    )
    assert [answer.text for answer in greedy] != [answer.text for answer in penalised]
    for answer, text, pictures in zip(penalised, *questions, strict=True):
        alone = backend.generate(
            backend.encode([text], [pictures]), Decoding(max_new_tokens=48, presence_penalty=1.5), ["0"]
        )
        assert alone == [answer], "a prompt's padding and the batch change nothing"


def test_generation_penalises_as_transformers_does(backend: TransformersBackend, questions: Any) -> None:
    inputs = backend.encode(questions[0][:1], questions[1][:1])
    ours = backend.generate(inputs, Decoding(max_new_tokens=48, repetition_penalty=3.0), ["0"])[0].token_ids
    greedy = backend.generate(inputs, Decoding(max_new_tokens=48), ["0"])[0].token_ids
    theirs = backend.model.generate(**inputs, max_new_tokens=48, do_sample=False, repetition_penalty=3.0)
    width = inputs["input_ids"].shape[1]
    assert ours == theirs[0, width:].tolist()[: len(ours)]
    assert ours != greedy


def test_the_likeliest_token_alone_is_greedy(backend: TransformersBackend, questions: Any) -> None:
    greedy = texts(backend, questions, Decoding(max_new_tokens=24))
    hot = Decoding(max_new_tokens=24, temperature=2)
    assert texts(backend, questions, replace(hot, top_k=1)) == greedy
    assert texts(backend, questions, replace(hot, top_k=3)) != greedy


def test_a_stop_string_ends_a_response_with_its_tokens(backend: TransformersBackend, questions: Any) -> None:
    decoding = Decoding(max_new_tokens=64, stop=("is", "<answer>"))
    together = backend.generate(backend.encode(*questions), decoding, ["0"] * QUESTIONS)
    assert len({len(answer.token_ids) for answer in together}) > 1, "some are padded in the batch"
    for answer, text, pictures in zip(together, *questions, strict=True):
        (alone,) = backend.generate(backend.encode([text], [pictures]), decoding, ["0"])
        assert answer == alone
        assert answer.finish_reason == "stop"
        before = backend.processor.tokenizer.decode(answer.token_ids[:-1], skip_special_tokens=False)
        assert any(string in answer.text and string not in before for string in decoding.stop)
