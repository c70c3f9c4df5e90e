"""What decides a drawn or penalised token: the question, and neither the batch nor its padding."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from PIL import Image
from runs import MODEL
from transformers import RepetitionPenaltyLogitsProcessor

from avar_eval.models.checkpoint import resolve_checkpoint
from avar_eval.models.decoding import Decoding
from avar_eval.models.sampling import RepetitionPenalty
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
