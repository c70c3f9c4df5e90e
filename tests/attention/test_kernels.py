"""Every attention kernel that models are loaded with: masses equal eager float64 maps, and the model notices nothing.

transformers' own flash path runs on the CPU, over the stand-ins of `flash_kernels.py`.
"""

from typing import Any

import flash_kernels
import pytest
import torch
from decoders import LAYERS, batch, eager_copy, eager_maps, gemma, gpt_oss, groups_of, labels_of, qwen, roles_of
from flash_kernels import HUB_2, HUB_3, KERNELS, LYING, OWN, QUIET, SPARSE, WITH_NORMALISER
from torch import Tensor
from transformers import modeling_flash_attention_utils as flash_utils
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.gpt_oss.modeling_gpt_oss import GptOssPreTrainedModel

from avar_eval import Steering, observe, steer
from avar_eval.attention import interface
from avar_eval.attention.implementations import (
    IMPLEMENTATIONS,
    implementations,
    resolve_kernel_name,
    unavailable_reason,
)
from avar_eval.attention.interface import AttentionCall, SteerError
from avar_eval.attention.kernel_probe import normaliser_source
from avar_eval.attention.observe import GROUPS, ObserveError, key_groups
from avar_eval.attention.roles import Role, TokenRoles

ROLES = roles_of("--sssstvvvvvvvtuuuuutrrrr", "ssstvvvvttvvvvtuuuuuutrrr", "-----sssstvvtuuuuuutrrr--")
PLAIN = roles_of("sssstvvvvvvvtuuuuutrrrrrr", "ssstvvvvttvvvvtuuuuuutrrr")
LEFT = roles_of("--sssstvvvvvvvtuuuuut", "ssstvvvvttvvvvtuuuuut", "-----sssstvvtuuuuuuut")


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    flash_kernels.install(monkeypatch)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[AttentionCall]:
    """The calls whose masses were taken."""
    seen: list[AttentionCall] = []
    masses = AttentionCall.masses

    def spied(self: AttentionCall, *arguments: Any) -> Tensor:
        seen.append(self)
        return masses(self, *arguments)

    monkeypatch.setattr(AttentionCall, "masses", spied)
    return seen


def wanted(masses: Tensor, observation: Any, roles: TokenRoles | None = None) -> Tensor:
    """Masses [layers batch heads queries groups] of the queries that have a wanted role."""
    chosen = observation.query_mask(Role.USER, roles) | observation.query_mask(Role.RESPONSE, roles)
    return masses.permute(1, 3, 0, 2, 4)[chosen]


def assert_measured(model: Any, reference: Any, roles: TokenRoles) -> None:
    inputs = batch(roles)
    with torch.no_grad():
        plain = model(**inputs, use_cache=False).logits
        with observe(model, roles) as observation:
            observed = model(**inputs, use_cache=False).logits
        maps, logits = eager_maps(reference, inputs)
    assert torch.equal(plain, observed)
    present = roles.codes != Role.PADDING
    assert torch.allclose(observed[present].double(), logits[present], atol=1e-4)
    expected = groups_of(maps, key_groups(roles))[:, :, :, observation.positions]
    measured = wanted(observation.masses(), observation)
    assert torch.allclose(measured.double(), wanted(expected, observation), rtol=1e-5, atol=1e-8)


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("make", [qwen, gemma])
@pytest.mark.parametrize("roles", [ROLES, PLAIN], ids=["padded", "plain"])
def test_masses_equal_eager_maps_and_logits_are_bitwise_the_same(
    kernel: str, make: Any, roles: TokenRoles, calls: list[AttentionCall]
) -> None:
    model = make(kernel)
    functions, lazy_import = dict(ALL_ATTENTION_FUNCTIONS), flash_utils.lazy_import_flash_attention
    assert_measured(model, eager_copy(make()), roles)
    assert len(calls) == LAYERS
    assert all((call.lse is not None) == (kernel in WITH_NORMALISER) for call in calls)
    assert flash_utils.lazy_import_flash_attention is lazy_import
    assert dict(ALL_ATTENTION_FUNCTIONS) == functions


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("kernel", [kernel for kernel in KERNELS if kernel != OWN])
def test_packed_sequences_do_not_see_each_other(kernel: str) -> None:
    model = gemma(kernel)
    one, two = roles_of("ssstvvvvtuuuutrrr"), roles_of("sstvvtuuuuutrr")
    widths = one.codes.shape[1], two.codes.shape[1]
    packed = TokenRoles(torch.cat([one.codes, two.codes], 1), torch.tensor([[0] * widths[0] + [1] * widths[1]]))
    ids = torch.cat([batch(one)["input_ids"], batch(two, 1)["input_ids"]], 1)
    positions = torch.cat([torch.arange(width) for width in widths])[None]
    starts = torch.tensor([0, widths[0], sum(widths)], dtype=torch.int32)
    lengths = {"cu_seq_lens_q": starts, "cu_seq_lens_k": starts, "max_length_q": 17, "max_length_k": 17}
    for more in ({}, lengths):
        with torch.no_grad(), observe(model, packed) as observation:
            model(input_ids=ids, position_ids=positions, use_cache=False, **more)
        for roles, seed, at in ((one, 0, 0), (two, 1, widths[0])):
            with torch.no_grad(), observe(model, roles) as alone:
                model(**batch(roles, seed), use_cache=False)
            columns = [observation.positions.index(at + position) for position in alone.positions]
            assert torch.allclose(observation.masses()[:, :, :, columns], alone.masses(), atol=2e-6)


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("kernel", ["flash_attention_2", "flash_attention_4", HUB_3, QUIET])
@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_generation_gives_the_masses_of_one_pass_over_its_result(kernel: str, cache: str) -> None:
    model, inputs = qwen(kernel), batch(LEFT)
    options = {"max_new_tokens": 9, "min_new_tokens": 9, "do_sample": False, "pad_token_id": 0}
    if cache == "static":
        options |= {"cache_implementation": "static", "disable_compile": True}
    plain = model.generate(**inputs, **options)
    with observe(model, LEFT) as generated:
        sequences = model.generate(**inputs, **options)
    assert torch.equal(plain, sequences)
    new = sequences.shape[1] - 1 - LEFT.codes.shape[1]  # the last token was never a query
    final = TokenRoles(torch.nn.functional.pad(LEFT.codes, (0, new), value=int(Role.RESPONSE)))
    present = (final.codes != Role.PADDING).long()
    with torch.no_grad():
        maps, _ = eager_maps(eager_copy(qwen()), {"input_ids": sequences[:, :-1], "attention_mask": present})
    expected = groups_of(maps, key_groups(final))[:, :, :, generated.positions]
    difference = wanted(generated.masses() - expected, generated, final)
    assert float(difference.abs().max()) < 5e-6


def agto(masses: Tensor, observation: Any) -> Tensor:
    """Attention on system keys down, on images up, over the user tokens; where a window hides both, nothing."""
    logs = (masses.permute(1, 3, 0, 2, 4)[observation.query_mask(Role.USER)] + 1e-3).log()
    system, image = (logs[..., GROUPS.index(group)] for group in ("system", "image"))
    return system.mean() - image.mean()


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize(
    ("kernel", "make"),
    [*((kernel, qwen) for kernel in KERNELS), ("eager", gpt_oss)],
)
@pytest.mark.parametrize("checkpointed", [False, True])
def test_gradients_of_all_parameters_equal_eager_float64(kernel: str, make: Any, checkpointed: bool) -> None:
    model, inputs = make(kernel).train(), batch(ROLES)
    if checkpointed:
        model.gradient_checkpointing_enable()
    with observe(model, ROLES) as observation:
        loss = model(**inputs, labels=labels_of(inputs), use_cache=False).loss + agto(observation.masses(), observation)
        loss.backward()
    reference = eager_copy(model)
    maps, logits = eager_maps(reference, inputs)
    expected = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels_of(inputs)[:, 1:].flatten())
    masses = groups_of(maps, key_groups(ROLES))[:, :, :, observation.positions]
    (expected + agto(masses, observation)).backward()
    found = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    of_reference = {name: parameter.grad for name, parameter in reference.named_parameters() if name in found}
    assert any("q_proj" in name for name in found)
    for name, gradient in found.items():
        expected = of_reference[name]
        assert expected is not None
        difference = float((gradient - expected).norm())
        # a key bias shifts every score of a query alike, but for the sink's
        assert difference <= 1e-4 * float(expected.norm()) + (1e-6 if "k_proj.bias" in name else 1e-9), name


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("kernel", ["eager", "flash_attention_4", HUB_3])
@pytest.mark.parametrize("roles", [ROLES, PLAIN], ids=["padded", "plain"])
def test_a_learnt_sink_has_what_the_keys_leave(kernel: str, roles: TokenRoles) -> None:
    model = gpt_oss(kernel)
    assert model.config._attn_implementation == kernel
    assert_measured(model, eager_copy(gpt_oss()), roles)
    with torch.no_grad(), observe(model, roles) as observation:
        model(**batch(roles), use_cache=False)
    on_keys = wanted(observation.masses(), observation)[..., 1:].sum(-1)
    assert 0.05 < float(on_keys.min()) < 0.9


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("kernel", ["eager", "flash_attention_4"])
def test_a_sink_is_known_in_decoding_and_under_steering(kernel: str) -> None:
    model, inputs = gpt_oss(kernel), batch(LEFT)
    with observe(model, LEFT) as generated:
        sequences = model.generate(**inputs, max_new_tokens=5, min_new_tokens=5, do_sample=False, pad_token_id=0)
    final = TokenRoles(torch.nn.functional.pad(LEFT.codes, (0, 4), value=int(Role.RESPONSE)))
    whole = {"input_ids": sequences[:, :-1], "attention_mask": (final.codes != Role.PADDING).long()}
    with torch.no_grad():
        maps, _ = eager_maps(eager_copy(gpt_oss()), whole)
    expected = groups_of(maps, key_groups(final))[:, :, :, generated.positions]
    assert float(wanted(generated.masses() - expected, generated, final).abs().max()) < 5e-6
    for mode in ("logit", "log", "abs"):  # all three are one where no score is negative
        with torch.no_grad(), steer(model, Steering(image=0.5, mode=mode), LEFT), observe(model, LEFT) as steered:
            model(**inputs, use_cache=False)
        assert float(wanted(steered.masses(), steered)[..., 1:].sum(-1).max()) < 1


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("kernel", ["flash_attention_2", "flash_attention_3", HUB_2])
def test_a_sink_that_a_kernel_does_not_read_is_none(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers drops it, and what is measured is what was computed."""
    monkeypatch.setattr(GptOssPreTrainedModel, "_compatible_flash_implementations", None)
    reference = eager_copy(gpt_oss())
    for layer in reference.model.layers:
        layer.self_attn.sinks.data.fill_(-1e9)
    assert_measured(gpt_oss(kernel), reference, ROLES)


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("mode", ["logit", "log", "prob", "abs"])
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("make", [qwen, gemma])
def test_steering_is_the_same_under_every_kernel(kernel: str, mode: Any, make: Any) -> None:
    steering = Steering(mode=mode, image=0.5, system=0.7)
    found = []
    for implementation in ("sdpa", kernel):
        model = make(implementation)
        with torch.no_grad(), steer(model, steering, ROLES), observe(model, ROLES) as observation:
            logits = model(**batch(ROLES), use_cache=False).logits
        found.append((logits[ROLES.codes != Role.PADDING], wanted(observation.masses(), observation)))
    for expected, measured in zip(*found, strict=True):
        assert torch.allclose(measured, expected, rtol=1e-4, atol=2e-4)


@pytest.mark.usefixtures("kernels")
def test_heads_of_flash_kernels_keep_a_multiple_of_eight_dimensions(monkeypatch: pytest.MonkeyPatch) -> None:
    widths, attend = set(), flash_kernels.attend
    monkeypatch.setattr(flash_kernels, "attend", lambda *how: widths.add(how[0].shape[-1]) or attend(*how))
    model = qwen("flash_attention_3")
    with torch.no_grad(), steer(model, Steering(mode="log", image=0.5), PLAIN):
        model(**batch(PLAIN), use_cache=False)
    assert widths == {16}, "8 dimensions and the bias"


@pytest.mark.usefixtures("kernels")
def test_a_normaliser_that_is_another_quantity_is_left_aside(calls: list[AttentionCall]) -> None:
    model = qwen(LYING)
    with pytest.warns(UserWarning, match="gives another normaliser"):
        assert_measured(model, eager_copy(qwen()), PLAIN)
    assert all(call.lse is None for call in calls)


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_masses_are_of_the_queries_as_a_flash_kernel_rounds_them(
    dtype: torch.dtype, calls: list[AttentionCall]
) -> None:
    """Under autocast rotary embeddings leave float32, which transformers rounds before the kernel."""
    model = qwen("flash_attention_2")
    with torch.no_grad(), torch.autocast("cpu", dtype=dtype), observe(model, PLAIN):
        model(**batch(PLAIN), use_cache=False)
    assert {call.query.dtype for call in calls} == {dtype}
    assert all(call.lse is not None for call in calls)


def test_what_is_not_known_is_refused() -> None:
    model = qwen()
    config = model.config.get_text_config()
    for name, reason in (
        ("paged|flash_attention_2", "continuous batching"),
        ("my_attention", "none of eager, sdpa"),
        ("someone/attention", "not loaded"),
    ):
        config._attn_implementation = name
        with pytest.raises(ObserveError, match=reason), observe(model, PLAIN):
            pass
        with pytest.raises(SteerError, match=reason), steer(model, Steering(image=0.1), PLAIN):
            pass
    assert not interface._watched["someone/attention"]


@pytest.mark.usefixtures("kernels")
def test_a_kernel_that_chooses_its_keys_is_refused() -> None:
    with pytest.raises(ObserveError, match="chooses which keys"), observe(gemma(SPARSE), PLAIN):
        pass


@pytest.mark.parametrize("extra", ["position_bias", "sinks", "cache", "block_table"])
def test_arguments_of_unknown_effect_are_refused(extra: str) -> None:
    model = qwen()
    original = ALL_ATTENTION_FUNCTIONS["sdpa"]
    attention, states = model.model.language_model.layers[0].self_attn, [torch.randn(2, 4, 25, 8)] * 3
    with torch.no_grad(), observe(model, PLAIN), pytest.raises(ObserveError, match=extra):
        ALL_ATTENTION_FUNCTIONS["sdpa"](attention, *states, None, scaling=1.0, **{extra: torch.zeros(1)})
    assert ALL_ATTENTION_FUNCTIONS["sdpa"] is original


def test_what_cannot_be_loaded_here_says_what_to_do() -> None:
    cpu = torch.device("cpu")
    found = implementations(cpu, torch.float32)
    assert tuple(found) == IMPLEMENTATIONS
    assert found["eager"] is found["sdpa"] is found["flex_attention"] is None
    for name in ("flash_attention_2", "flash_attention_3", "flash_attention_4", HUB_2):
        assert "does not run on a CPU" in str(unavailable_reason(name, cpu, torch.bfloat16))
    gpu = torch.device("cuda")
    assert "float16 and bfloat16 only, not in float32" in str(
        unavailable_reason("flash_attention_2", gpu, torch.float32)
    )
    assert "continuous batching" in str(unavailable_reason("paged|sdpa", cpu, torch.float32))
    assert "none of eager" in str(unavailable_reason("sdpaa", cpu, torch.float32))
    if resolve_kernel_name("flash_attention_2") == "flash_attention_2" and not flash_utils.is_flash_attn_2_available():
        reason = str(unavailable_reason("flash_attention_2", gpu, torch.bfloat16))
        assert reason.startswith("flash-attn is not installed: pip install 'avar-eval[flash]'")


@pytest.mark.usefixtures("kernels")
def test_the_source_of_the_normaliser_is_found_by_a_call() -> None:
    cpu = torch.device("cpu")
    assert normaliser_source("sdpa", cpu, torch.float32) == "kernel"
    assert normaliser_source("eager", cpu, torch.float32) == "computed"
    assert normaliser_source("flash_attention_4", cpu, torch.float32) == "kernel"
    qwen(QUIET)  # loads the kernel
    assert normaliser_source(QUIET, cpu, torch.float32) == "computed"
