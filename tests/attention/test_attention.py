"""Attention masses, token roles and VAS against transformers' own eager attention maps in float64."""

import copy
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText

from avar_eval.attention.bands import vas_band
from avar_eval.attention.measure import measure_batch
from avar_eval.attention.observe import GROUPS
from avar_eval.attention.roles import Role
from avar_eval.models.checkpoint import resolve_checkpoint
from avar_eval.models.decoding import Decoding
from avar_eval.models.transformers_backend import TransformersBackend

QUESTIONS = ["What is this?", "How many red circles are there in the picture? Count them one by one.", "Why?"]


@pytest.fixture(scope="module")
def backend() -> TransformersBackend:
    """The embedded model, with random and lively weights: attention that is nearly uniform would hide mistakes."""
    backend = TransformersBackend(resolve_checkpoint("avar-tiny"), "cpu")
    generator = torch.Generator().manual_seed(0)
    for parameter in backend.model.parameters():
        if parameter.ndim >= 2:
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data = noise * 1.5 / parameter[0].numel() ** 0.5
    return backend


def picture(seed: int) -> Image.Image:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (4, 4, 3), generator=generator, dtype=torch.uint8)
    return Image.fromarray(pixels.numpy()).resize((112, 112), Image.Resampling.NEAREST)


def messages(question: str, images: int = 1, system: str | None = "You are a helpful assistant.") -> list[Any]:
    content = [*({"type": "image"} for _ in range(images)), {"type": "text", "text": question}]
    system_turn = [] if system is None else [{"role": "system", "content": [{"type": "text", "text": system}]}]
    return [*system_turn, {"role": "user", "content": content}]


def eager_maps(backend: TransformersBackend, prompt: str, images: list[Image.Image], response: list[int]) -> Any:
    """transformers' own attention maps (layers, heads, queries, keys) in float64, for one sequence."""
    reference = AutoModelForImageTextToText.from_config(backend.model.config, attn_implementation="eager")
    reference.load_state_dict(backend.model.state_dict())
    reference = reference.double().eval()
    inputs = backend.encode([prompt], [images])
    ids = torch.cat([inputs["input_ids"], torch.tensor([response])], dim=1)
    types = torch.cat([inputs["mm_token_type_ids"], torch.zeros(1, len(response), dtype=torch.long)], dim=1)
    rest = {name: inputs[name] for name in ("pixel_values", "image_grid_thw") if name in inputs}
    with torch.no_grad():
        maps = reference(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            mm_token_type_ids=types,
            output_attentions=True,
            use_cache=False,
            **rest,
        ).attentions
    return torch.stack(maps)[:, 0], ids[0].tolist()


def test_vas_of_a_padded_batch_equals_eager_float64(backend: TransformersBackend) -> None:
    images = [[picture(i) for i in range(n)] for n in (1, 2, 1)]
    prompts = [
        backend.render(messages(question, len(pictures))) for question, pictures in zip(QUESTIONS, images, strict=True)
    ]
    responses = [[65, 66, 67, 2], [70], [80, 81, 82, 83, 84, 85, 86]]
    inputs = backend.encode(prompts, images)
    summaries = [record.summary() for record in backend.measure(inputs, responses)]
    exact = measure_batch(copy.deepcopy(backend.model).double(), backend.markup, inputs, responses)
    for prompt, pictures, response, summary, record in zip(prompts, images, responses, summaries, exact, strict=True):
        maps, ids = eager_maps(backend, prompt, pictures, response)
        prompt_roles = backend.markup.prompt_roles(ids[: len(ids) - len(response)])
        roles = torch.tensor([*prompt_roles, *[Role.RESPONSE] * len(response)])
        in_float64 = record.summary()
        for measured, by_layer, role in (
            (summary.user, in_float64.user, Role.USER),
            (summary.response, in_float64.response, Role.RESPONSE),
        ):
            assert measured is not None
            assert by_layer is not None
            queries = maps[:, :, roles == role]
            image, system = queries[..., roles == Role.IMAGE].sum(-1), queries[..., roles == Role.SYSTEM].sum(-1)
            assert measured.tokens == int((roles == role).sum())
            assert measured.vas == pytest.approx(float((image / system).mean()), rel=1e-5)
            without_sink = image / (system - queries[..., 0])
            assert measured.vas_without_sink == pytest.approx(float(without_sink.mean()), rel=1e-5)
            assert measured.ratio_of_sums == pytest.approx(float(image.sum() / system.sum()), rel=1e-5)
            # in float64, for a single layer's VAS of a float32 model, of an eager one too, is off by up to 1e-5
            assert by_layer.vas_by_layer == pytest.approx((image / system).mean((1, 2)).tolist(), rel=1e-5)
            for name in GROUPS[1:]:
                share = queries[..., roles == Role[name.upper()]].sum(-1).mean((1, 2))
                assert measured.share_by_layer[name] == pytest.approx(share.tolist(), rel=1e-5, abs=1e-9)
            total = torch.tensor([measured.share_by_layer[name] for name in GROUPS[1:]]).sum(0)
            assert total.tolist() == pytest.approx([1.0] * len(total), rel=1e-4)


def test_text_only_rows_have_no_vas_but_shares(backend: TransformersBackend) -> None:
    prompt = backend.render(messages("What is two and two?", images=0))
    (record,) = backend.measure(backend.encode([prompt], [[]]), [[65, 2]])
    summary = record.summary()
    assert summary.user is not None
    assert summary.user.vas is None
    assert set(summary.user.share_by_layer["image"]) == {0.0}
    assert min(summary.user.share_by_layer["system"]) > 0


def test_bands_meet_at_ten_and_fifteen() -> None:
    assert [vas_band(value) for value in (0, 9.99, 10, 15, 15.01)] == ["narrow", "narrow", "wide", "wide", "panoramic"]


def test_batches_and_single_questions_give_the_same_text(backend: TransformersBackend) -> None:
    images = [[picture(i)] for i in range(3)]
    prompts = [backend.render(messages(question)) for question in QUESTIONS]
    streams = [f"{i:064x}" for i in range(3)]
    for decoding in (Decoding(max_new_tokens=12), Decoding(max_new_tokens=12, temperature=0.9, top_p=0.8)):
        together = backend.generate(backend.encode(prompts, images), decoding, streams)
        for index in (2, 0, 1):
            inputs = backend.encode([prompts[index]], [images[index]])
            (alone,) = backend.generate(inputs, decoding, [streams[index]])
            assert alone == together[index]


def test_sampling_follows_the_distribution(backend: TransformersBackend) -> None:
    """1,000 first tokens drawn at temperature 1 against the model's own probabilities (chi-square over 4 bins)."""
    inputs = backend.encode([backend.render(messages(QUESTIONS[0]))], [[picture(0)]])
    with torch.inference_mode():
        logits = backend.model(**inputs, use_cache=False).logits[0, -1]
    logits = logits.double().clone()
    logits[[backend.processor.image_token_id, backend.processor.video_token_id]] = float("-inf")
    probabilities = logits.softmax(-1)
    order = probabilities.argsort(descending=True)
    bins = torch.full((len(order),), 3)
    bins[order[:1]], bins[order[1:3]], bins[order[3:10]] = 0, 1, 2
    batch = {name: tensor.repeat_interleave(100, 0) for name, tensor in inputs.items() if name != "pixel_values"}
    batch["pixel_values"] = inputs["pixel_values"].repeat(100, 1)
    drawn = []
    for start in range(0, 1000, 100):
        streams = [f"{start + i:032x}" for i in range(100)]
        drawn += backend.generate(batch, Decoding(max_new_tokens=1, temperature=1.0), streams)
    counts = torch.bincount(bins[[generation.token_ids[0] for generation in drawn]], minlength=4).double()
    expected = torch.zeros(4, dtype=torch.double).scatter_add_(0, bins, probabilities) * 1000
    assert float(((counts - expected) ** 2 / expected).sum()) < 16.3  # 99.9 % of chi-square with 3 degrees of freedom
