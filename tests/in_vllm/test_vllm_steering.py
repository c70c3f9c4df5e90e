"""Steering inside vLLM against transformers' decoder with eager attention in float64, steered as defined."""

import importlib.util
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from runs import MODEL

if importlib.util.find_spec("vllm") is None:
    pytest.skip("vLLM is not installed: .ci/vllm makes an environment with it", allow_module_level=True)

from transformers import AttentionInterface, AutoModelForImageTextToText
from transformers.masking_utils import AttentionMaskInterface, eager_mask

from avar_eval.attention.chat_formats import Role
from avar_eval.models.checkpoint import resolve_checkpoint
from avar_eval.models.transformers_backend import TransformersBackend
from avar_eval.models.vllm_plugin import CONFIG_KEY, STEERED, VllmSteering
from avar_eval.tasks.shapes.dataset import prompt, rows

SETTINGS = [
    VllmSteering(image=0.15, system=0.4),
    VllmSteering(image=1.5, system=0.9, layers=(1, 2)),
    VllmSteering(image=0.5, system=1, mode="prob"),
    VllmSteering(image=-0.6, mode="prob", layers=(0,)),
]
CONTINUATION = "<think>The red circle is at the left, and so the answer is 3.</think><answer>3</answer>"


@pytest.fixture(scope="module")
def transformers() -> TransformersBackend:
    return TransformersBackend(resolve_checkpoint(MODEL), "cpu", "float32")


@pytest.fixture(scope="module")
def questions(transformers: TransformersBackend) -> list[dict[str, Any]]:
    """Prompts with system turns of different lengths, one without an image, each followed by a continuation."""
    asked = []
    for number, row in enumerate(list(rows("test"))[::100]):
        system = "You are a helpful assistant." + " Look closely." * number
        content = [{"type": "image"}] * (number != 2) + [{"type": "text", "text": prompt(row)}]
        text = transformers.render(
            [
                {"role": "system", "content": [{"type": "text", "text": system}]},
                {"role": "user", "content": content},
            ]
        )
        ids = transformers.processor.tokenizer.encode(text + CONTINUATION)
        image = {"multi_modal_data": {"image": [row["image"].convert("RGB")]}} if number != 2 else {}
        asked.append({"prompt_token_ids": ids} | image)
    return asked


def engine(monkeypatch: pytest.MonkeyPatch, **arguments: Any) -> Any:
    """A vLLM in this process, which prefills in chunks of 80 tokens."""
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    from vllm import LLM

    return LLM(
        model=str(resolve_checkpoint(MODEL).path),
        dtype="float32",
        max_model_len=1024,
        max_num_batched_tokens=80,
        max_num_seqs=4,
        enforce_eager=True,
        enable_prefix_caching=True,
        distributed_executor_backend="uni",
        limit_mm_per_prompt={"image": 1, "video": 0},
        generation_config="vllm",
        **arguments,
    )


def log_probabilities(llm: Any, questions: list[dict[str, Any]]) -> list[tuple[list[int], torch.Tensor]]:
    """Token ids of each prompt as vLLM has expanded it, and the log-probability of each after the first."""
    from vllm import SamplingParams

    outputs = llm.generate(questions, SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=0), use_tqdm=False)
    found = []
    for output in outputs:
        ids = list(output.prompt_token_ids)
        chosen = zip(ids[1:], output.prompt_logprobs[1:], strict=True)
        found.append((ids, torch.tensor([choices[token].logprob for token, choices in chosen], dtype=torch.float64)))
    return found


@pytest.fixture(scope="module")
def stock(questions: list[dict[str, Any]]) -> list[tuple[list[int], torch.Tensor]]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        return log_probabilities(engine(monkeypatch), questions)


@pytest.fixture(scope="module")
def steered(stock: Any) -> Iterator[Any]:
    """A steered engine, made after the stock one is done with."""
    from avar_eval.models.vllm_plugin import register

    register()
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield engine(
            monkeypatch,
            hf_overrides={"architectures": [STEERED["qwen2_5_vl"]]},
            model_impl="vllm",
            additional_config={CONFIG_KEY: VllmSteering().model_dump()},
        )


def set_strengths(llm: Any, steering: VllmSteering) -> None:
    llm.apply_model(lambda model: model.steer(steering))
    assert llm.reset_prefix_cache()


class Reference:
    """The model in float64; its decoder's attention weights are steered key by key, all rows."""

    def __init__(self, transformers: TransformersBackend) -> None:
        self.transformers = transformers
        self.steering = VllmSteering()
        self.strengths = torch.zeros(1)
        AttentionInterface.register("steered_eager", self.attend)
        AttentionMaskInterface.register("steered_eager", eager_mask)
        self.model: Any = AutoModelForImageTextToText.from_pretrained(
            transformers.checkpoint.path,
            dtype=torch.float64,
            attn_implementation={"": "eager", "text_config": "steered_eager", "vision_config": "eager"},
        ).eval()

    def attend(
        self, module: Any, query: Any, key: Any, value: Any, mask: Any, scaling: float, dropout: float = 0.0, **_: Any
    ) -> tuple[Any, None]:
        groups = module.num_key_value_groups
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
        layers = self.steering.layers
        factors = 1 + self.strengths * (layers is None or module.layer_idx in layers)
        scores = query @ key.transpose(2, 3) * scaling
        if self.steering.mode == "logit":
            scores = scores * factors
        weights = torch.softmax(scores + mask, -1)
        if self.steering.mode == "prob":
            weights = weights * factors
        return (weights @ value).transpose(1, 2), None

    @torch.inference_mode()
    def log_probabilities(self, ids: list[int], images: list[Any], steering: VllmSteering) -> torch.Tensor:
        roles = torch.tensor(self.transformers.markup.prompt_roles(ids))
        self.steering = steering
        self.strengths = (roles == Role.IMAGE) * steering.image - (roles == Role.SYSTEM) * steering.system
        tokens = torch.tensor([ids])
        inputs: dict[str, Any] = {"mm_token_type_ids": (roles == Role.IMAGE).int()[None]}
        if images:
            inputs |= self.transformers.processor.image_processor(images=images, return_tensors="pt")
            inputs["pixel_values"] = inputs["pixel_values"].double()
        logits = self.model(input_ids=tokens, attention_mask=torch.ones_like(tokens), use_cache=False, **inputs).logits
        return logits[0, :-1].log_softmax(-1).gather(1, tokens[0, 1:, None])[:, 0]


@pytest.fixture(scope="module")
def reference(transformers: TransformersBackend) -> Reference:
    return Reference(transformers)


def images_of(question: dict[str, Any]) -> list[Any]:
    return list(question.get("multi_modal_data", {}).get("image", []))


def test_strengths_of_zero_change_no_bit(steered: Any, stock: Any, questions: list[dict[str, Any]]) -> None:
    set_strengths(steered, VllmSteering())
    for (ids, ours), (same_ids, theirs) in zip(log_probabilities(steered, questions), stock, strict=True):
        assert ids == same_ids
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("steering", SETTINGS, ids=str)
def test_steered_as_the_eager_reference_is(
    steered: Any, stock: Any, reference: Reference, questions: list[dict[str, Any]], steering: VllmSteering
) -> None:
    set_strengths(steered, steering)
    furthest = moved = 0.0
    for question, (ids, ours), (_, before) in zip(questions, log_probabilities(steered, questions), stock, strict=True):
        expected = reference.log_probabilities(ids, images_of(question), steering)
        furthest = max(furthest, float((ours - expected).abs().max()))
        moved = max(moved, float((ours - before).abs().max()))
    print(
        f"{steering}: {furthest:.1e} from the reference, steering itself moves log-probabilities by up to {moved:.2f}"
    )
    assert moved > 0.1
    assert furthest < 1e-4


def test_decoding_and_the_prefix_cache_are_steered_too(
    steered: Any, reference: Reference, questions: list[dict[str, Any]]
) -> None:
    from vllm import SamplingParams

    strong = VllmSteering(image=1.5, system=0.9)
    sampling = SamplingParams(temperature=0, max_tokens=12, ignore_eos=True, logprobs=0)
    set_strengths(steered, strong)
    first, again = (steered.generate(questions, sampling, use_tqdm=False) for _ in range(2))
    assert sum(output.num_cached_tokens for output in again) > 0
    for question, one, other in zip(questions, first, again, strict=True):
        generated = list(one.outputs[0].token_ids)
        assert list(other.outputs[0].token_ids) == generated
        expected = reference.log_probabilities([*one.prompt_token_ids, *generated], images_of(question), strong)
        for output in (one, other):
            choices = zip(generated, output.outputs[0].logprobs, strict=True)
            ours = torch.tensor([found[token].logprob for token, found in choices], dtype=torch.float64)
            assert float((ours - expected[-len(generated) :]).abs().max()) < 1e-4
