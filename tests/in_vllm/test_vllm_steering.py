"""Steering inside vLLM against transformers' decoder with eager attention in float64, steered as defined."""

import importlib.util
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

if importlib.util.find_spec("vllm") is None:
    pytest.skip("vLLM is not installed: .ci/vllm makes an environment with it", allow_module_level=True)

from eager_reference import Reference
from engines import conversations, furthest, images_of, save_model, score, set_strengths, start, start_steered, stop

from avar_eval.models.vllm_plugin import STEERED, VllmSteering

UNSTEERED = VllmSteering()
STRONG = VllmSteering(image=1.5, system=0.9)
SETTINGS = [
    VllmSteering(image=0.15, system=0.4),
    VllmSteering(image=1.5, system=0.9, layers=(1, 2)),
    VllmSteering(image=0.5, system=1, mode="prob"),
    VllmSteering(image=-0.6, mode="prob", layers=(0,)),
]


class World:
    """A model with its reference, prompts, and engines of either kind; each is made when it is first asked for."""

    def __init__(self, family: str, folder: Path) -> None:
        self.model = save_model(family, folder / family)
        self.reference = Reference(self.model)
        self.prompts = conversations(self.reference.processor)
        self.stock = cache(lambda: start(self.model))
        self.steered = cache(lambda: start_steered(self.model, UNSTEERED))
        self.unsteered = cache(lambda: score(self.stock(), self.prompts))

    def expected(self, ids: list[list[int]], steering: VllmSteering, lengths: list[int] | None = None) -> list[Any]:
        """What the reference says of these token ids of the prompts."""
        return [
            self.reference.log_probabilities(tokens, images_of(prompt), steering, length)
            for tokens, prompt, length in zip(ids, self.prompts, lengths or [None] * len(ids), strict=True)
        ]

    def compare(self, llm: Any, steering: VllmSteering) -> tuple[float, float]:
        """How far the engine is from the reference, and how far steering moves it."""
        scored = score(llm, self.prompts)
        moved = furthest(scored, [before for _, before in self.unsteered()])
        far = furthest(scored, self.expected([ids for ids, _ in scored], steering))
        print(f"{steering}: {far:.1e} from the reference; steering moves log-probabilities by up to {moved:.2f}")
        return far, moved


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], World]:
    return cache(lambda family: World(family, tmp_path_factory.mktemp("models")))


@pytest.fixture(scope="module")
def world(worlds: Callable[[str], World]) -> World:
    return worlds("qwen2_5_vl")


@pytest.mark.parametrize("family", STEERED)
def test_strengths_of_zero_change_no_bit(worlds: Callable[[str], World], family: str) -> None:
    world = worlds(family)
    set_strengths(world.steered(), UNSTEERED)
    for (ids, ours), (same_ids, theirs) in zip(score(world.steered(), world.prompts), world.unsteered(), strict=True):
        assert ids == same_ids
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("steering", SETTINGS, ids=str)
@pytest.mark.parametrize("family", STEERED)
def test_steered_as_the_eager_reference_is(worlds: Callable[[str], World], family: str, steering: VllmSteering) -> None:
    world = worlds(family)
    set_strengths(world.steered(), steering)
    far, moved = world.compare(world.steered(), steering)
    assert moved > 0.1
    assert far < 1e-4


def test_decoding_and_the_prefix_cache_are_steered_too(world: World) -> None:
    from vllm import SamplingParams

    llm = world.steered()
    # Plain tokens only: a placeholder would stand for an image that is not there.
    sampling = SamplingParams(
        temperature=0, max_tokens=40, ignore_eos=True, logprobs=0, allowed_token_ids=list(range(300))
    )

    def decode() -> list[Any]:
        return list(llm.generate(world.prompts, sampling, use_tqdm=False))

    def far_from(steering: VllmSteering, outputs: list[Any]) -> float:
        generated = [list(output.outputs[0].token_ids) for output in outputs]
        prompts = [list(output.prompt_token_ids) for output in outputs]
        whole = [prompt + response for prompt, response in zip(prompts, generated, strict=True)]
        expected = world.expected(whole, steering, [len(prompt) for prompt in prompts])
        far = 0.0
        for output, tokens, theirs in zip(outputs, generated, expected, strict=True):
            choices = zip(tokens, output.outputs[0].logprobs, strict=True)
            ours = torch.tensor([found[token].logprob for token, found in choices], dtype=torch.float64)
            far = max(far, float((ours - theirs[-len(tokens) :]).abs().max()))
        return far

    set_strengths(llm, STRONG)
    first, again = decode(), decode()
    assert sum(output.num_cached_tokens for output in again) > 0
    assert far_from(STRONG, first) < 1e-4
    assert far_from(STRONG, again) < 1e-4
    weak = VllmSteering(image=0.15, system=0.4)
    llm.apply_model(lambda model: model.steer(weak))
    assert far_from(weak, decode()) > 1e-2  # what is cached has the strengths that it was computed with
    set_strengths(llm, weak)
    assert far_from(weak, decode()) < 1e-4


def test_tensor_parallel_workers_steer_their_heads(world: World) -> None:
    world.unsteered()  # before: no engine of this process may start beside one with workers
    llm = start_steered(world.model, STRONG, tensor_parallel_size=2, distributed_executor_backend="mp")
    try:
        far, moved = world.compare(llm, STRONG)
    finally:
        stop(llm)
    assert moved > 0.1
    assert far < 1e-4


def test_an_engine_that_cannot_be_exact_does_not_start(world: World) -> None:
    with pytest.raises(ValueError, match="cannot be exact with prompts of embeddings"):
        start_steered(world.model, STRONG, enable_prompt_embeds=True)


def test_speculative_decoding_is_refused(world: World) -> None:
    from avar_eval.models.vllm_steering import check_engine

    parts = vars(world.steered().llm_engine.vllm_config)
    with pytest.raises(ValueError, match="cannot be exact with speculative decoding"):
        check_engine(SimpleNamespace(**parts | {"speculative_config": object()}))


@pytest.mark.parametrize(
    ("part", "setting", "reason"),
    [
        ("parallel_config", {"use_ubatching": True}, "dual-batch overlap"),
        ("parallel_config", {"prefill_context_parallel_size": 2}, "prefill context parallelism"),
        ("model_config", {"multimodal_config": None}, "pruned image or video tokens"),
        ("model_config", {"enable_prompt_embeds": True}, "prompts of embeddings"),
        ("model_config", {"uses_mrope": False}, "a model without M-RoPE"),
        ("cache_config", {"cache_dtype": "fp8"}, "a quantised KV cache"),
    ],
)
def test_an_engine_that_cannot_be_exact_is_refused(
    world: World, part: str, setting: dict[str, Any], reason: str
) -> None:
    from avar_eval.models.vllm_steering import check_engine

    parts = vars(world.steered().llm_engine.vllm_config)
    check_engine(SimpleNamespace(**parts))
    names = ("use_ubatching", "multimodal_config", "enable_prompt_embeds", "uses_mrope", "cache_dtype")
    names += ("prefill_context_parallel_size",)
    found = {name: getattr(parts[part], name) for name in names if hasattr(parts[part], name)}
    with pytest.raises(ValueError, match=reason):
        check_engine(SimpleNamespace(**parts | {part: SimpleNamespace(**found | setting)}))


def test_compiled_code_of_the_stock_model_is_not_taken_for_the_steered_one(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The last test: after compiling, vLLM's start trips over inductor's objects among the modules of this process.
    from vllm.compilation.counter import compilation_counter

    monkeypatch.setenv("VLLM_CACHE_ROOT", str(tmp_path))
    stock = score(start(world.model, enforce_eager=False), world.prompts)
    kept = compilation_counter.num_aot_artifacts_saved
    assert kept > 0
    steered = start_steered(world.model, STRONG, enforce_eager=False)
    assert compilation_counter.num_aot_artifacts_saved == 2 * kept
    far, moved = world.compare(steered, STRONG)
    assert moved > 0.1
    assert far < 1e-4
    set_strengths(steered, UNSTEERED)
    for (_, ours), (_, theirs) in zip(score(steered, world.prompts), stock, strict=True):
        assert torch.equal(ours, theirs)
