"""What a steered engine's requests may bring: any prompt, preemption, strengths of their own. Under both runners."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

if importlib.util.find_spec("vllm") is None:
    pytest.skip("vLLM is not installed: .ci/vllm makes an environment with it", allow_module_level=True)

from eager_reference import Reference
from engines import conversations, decode, images_of, runner_of, save_model, start_steered

from avar_eval.errors import UsageError
from avar_eval.models.request_steering import REQUEST_KEY, in_flight, read_strengths
from avar_eval.models.steering_rows import SteeringRows
from avar_eval.models.vllm_admission import admit
from avar_eval.models.vllm_plugin import VllmSteering

OWN = VllmSteering(image=1.5, system=0.9)
MIXED = [None, "image=0.3,system=0.9", "image=1.5,system=0.2", "image=0.5,mode=prob", "image=-0.6,layers=1+2"]


class World:
    """A model with its reference, prompts, and a steered engine that must preempt when it has much to do."""

    def __init__(self, folder: Path) -> None:
        self.model = save_model("qwen2_5_vl", folder / "model")
        self.reference = Reference(self.model)
        self.prompts = conversations(self.reference.processor)
        self.llm = start_steered(self.model, OWN, max_model_len=384, num_gpu_blocks_override=14)
        self.runner = runner_of(self.llm)
        self.v2 = type(self.runner).__mro__[1].__module__ == "vllm.v1.worker.gpu.model_runner"

    def preempted(self) -> Callable[[], int]:
        """What counts the preemptions from now on."""
        scheduler = self.llm.llm_engine.engine_core.engine_core.scheduler
        count, preempt = 0, type(scheduler)._preempt_request

        def counted(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            return preempt(scheduler, *args, **kwargs)

        scheduler._preempt_request = counted
        return lambda: count

    def far(self, outputs: list[Any], prompts: list[Any], strengths: list[str | None]) -> float:
        steerings = [OWN if text is None else VllmSteering.of(read_strengths(text)) for text in strengths]
        return self.reference.furthest(outputs, [images_of(prompt) for prompt in prompts], steerings)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("models"))


@pytest.fixture
def v2(world: World) -> World:
    if not world.v2:
        pytest.skip("needs vLLM's V2 runner: .ci/vllm runs this file under both")
    return world


def test_the_runner_is_the_one_that_was_asked_for(world: World) -> None:
    from vllm import envs

    assert world.v2 == bool(envs.VLLM_USE_V2_MODEL_RUNNER)


@pytest.mark.parametrize("forced", ["", "<|im_start|>", "<|im_start|>system\n"], ids=repr)
def test_a_preempted_request_goes_on_as_it_was_steered(world: World, forced: str) -> None:
    """Also if the model has written what would begin a turn: what is generated has no role."""
    tokenizer = world.reference.processor.tokenizer
    begin = tokenizer.encode(forced, add_special_tokens=False)
    sampling = {"allowed_token_ids": begin, "temperature": 2.0} if begin else {}
    count = world.preempted()
    strengths: list[str | None] = [None] * len(world.prompts)
    outputs = decode(world.llm, world.prompts, strengths, max_tokens=60, **sampling)
    assert count() > 0
    assert set(begin) <= {token for output in outputs for token in output.outputs[0].token_ids}
    assert world.far(outputs, world.prompts, strengths) < 1e-4


@pytest.mark.parametrize("prompt", ["hello there", [0, 1], [0, 1, 2, 3], [1], [0]], ids=str)
def test_what_no_template_has_rendered_is_refused_and_the_engine_lives(world: World, prompt: Any) -> None:
    from vllm.exceptions import VLLMClientError

    asked = {"prompt": prompt} if isinstance(prompt, str) else {"prompt_token_ids": prompt}
    with pytest.raises(VLLMClientError, match="takes only what the model's chat template has rendered"):
        decode(world.llm, [asked], [None])
    outputs = decode(world.llm, world.prompts[:1], [None])
    assert world.far(outputs, world.prompts[:1], [None]) < 1e-4


def test_what_vllm_makes_up_to_warm_its_kernels_up_passes_the_model(v2: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """On GPUs every engine does so before it serves. Up to vLLM 0.32 the worker for CPUs leaves it out."""
    from vllm import SamplingParams
    from vllm.v1.worker.gpu.warmup import run_mixed_prefill_decode_warmup, warmup_kernels

    def forget() -> None:
        for request in list(v2.runner.req_states.req_id_to_index):
            v2.runner._remove_request(request)

    def sample(grammar: Any) -> Any:
        return worker.sample_tokens(None)

    # Triton's interpreter cannot run the kernels that apply a grammar, top-k and top-p.
    monkeypatch.setattr(SamplingParams, "for_sampler_warmup", SamplingParams)
    worker = v2.llm.llm_engine.engine_core.engine_core.model_executor.driver_worker.worker
    forget()  # what is finished, and would only be forgotten in the next step
    try:
        warmup_kernels(v2.runner, worker.execute_model, sample)
        assert run_mixed_prefill_decode_warmup(v2.runner, worker.execute_model, sample, 40)
    finally:
        forget()
        assert v2.llm.reset_prefix_cache()  # it takes blocks without asking who has them: on GPUs nobody has any yet
    outputs = decode(v2.llm, v2.prompts[:1], [None])
    assert v2.far(outputs, v2.prompts[:1], [None]) < 1e-4


def test_requests_of_several_strengths_share_a_batch_and_the_prefix_cache(v2: World) -> None:
    prompts = [prompt for prompt in v2.prompts for _ in MIXED]
    strengths = MIXED * len(v2.prompts)
    outputs = decode(v2.llm, prompts, strengths, max_tokens=12)
    assert v2.far(outputs, prompts, strengths) < 1e-4
    assert v2.far(outputs, prompts, [*strengths[1:], None]) > 0.1
    _, again = (decode(v2.llm, v2.prompts[:1] * 3, MIXED[:3]) for _ in range(2))
    assert all(output.num_cached_tokens > 0 for output in again)
    assert v2.far(again, v2.prompts[:1] * 3, MIXED[:3]) < 1e-4


def test_preempted_requests_keep_their_own_strengths(v2: World) -> None:
    count = v2.preempted()
    strengths = MIXED[1:]
    outputs = decode(v2.llm, v2.prompts, strengths, max_tokens=60)
    assert count() > 0
    assert v2.far(outputs, v2.prompts, strengths) < 1e-4


def test_rows_are_given_away_once_their_prompts_are_computed(v2: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """With rows for one request more than may run, strengths come and go, and none is computed with another's."""
    rows = SteeringRows(v2.runner.model._write_row, 6)
    monkeypatch.setattr(v2.runner.model, "avar_rows", rows)
    strengths: list[str | None] = [f"image={number / 10},system=0.5" for number in range(16)]
    prompts = v2.prompts * 4
    outputs = decode(v2.llm, prompts, strengths, max_tokens=6)
    assert v2.far(outputs, prompts, strengths) < 1e-4


def test_a_salt_that_looks_like_ours_is_refused(world: World) -> None:
    from vllm.exceptions import VLLMClientError

    with pytest.raises(VLLMClientError, match="cache_salt"):
        decode(world.llm, [world.prompts[0] | {"cache_salt": "avar-steering-1"}], [None])


REFUSED = json.loads((Path(__file__).parent / "refused_strengths.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("strengths", "reason"), REFUSED, ids=str)
def test_strengths_that_cannot_be_are_refused(v2: World, strengths: Any, reason: str) -> None:
    from vllm.exceptions import VLLMClientError

    with pytest.raises(VLLMClientError, match=reason):
        decode(v2.llm, v2.prompts[:1], [strengths])


def test_the_v1_runner_refuses_strengths_of_a_request(world: World) -> None:
    from vllm.exceptions import VLLMClientError

    if world.v2:
        pytest.skip("the V2 runner takes them")
    with pytest.raises(VLLMClientError, match="need vLLM's V2 runner, and this engine has the V1 runner"):
        decode(world.llm, world.prompts[:1], ["image=0.3"])


def test_an_engine_that_may_run_more_requests_than_there_are_rows_refuses(v2: World) -> None:
    config = v2.llm.llm_engine.vllm_config
    parts = vars(config) | {"scheduler_config": SimpleNamespace(max_num_seqs=256)}
    many = SimpleNamespace(**parts, use_v2_model_runner=True)
    steering = read_strengths("image=0.25")

    def request() -> Any:
        sampling = SimpleNamespace(extra_args={REQUEST_KEY: "image=0.25"})
        ids = v2.prompts[0]["prompt_token_ids"]
        return SimpleNamespace(sampling_params=sampling, cache_salt=None, resumable=False, prompt_token_ids=ids)

    with pytest.raises(UsageError, match="--max-num-seqs 255"):
        admit(many, request())
    with in_flight.of(steering, 1):
        admit(many, request())
