"""Steering under every kernel, cache and way of running gives the same outputs, and leaves no trace."""

from typing import Any

import pytest
import torch
from decoders import batch, flash_attention, gemma, qwen, roles_of
from torch import Tensor
from transformers import DynamicCache
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from avar_eval import Steering, observe, steer
from avar_eval.attention.interface import SteerError
from avar_eval.attention.roles import Role, TokenRoles

ROLES = roles_of("--sssstvvvvvvvtuuuuutrrrr", "ssstvvvvttvvvvtuuuuuutrrr", "-----sssstuuuuuuuutrrrrrr")
PLAIN = roles_of("sssstvvvvvvvtuuuuutrrrrrr")
MODES = ("logit", "log", "prob", "abs")
ROWS = ("after-image", "all", "last")
STRONG: Any = {"image": 0.5, "system": 0.7}


def logits(model: Any, roles: TokenRoles, steering: Steering, **options: Any) -> Tensor:
    with torch.no_grad(), steer(model, steering, roles):
        found: Tensor = model(**batch(roles), use_cache=False, **options).logits
    return found[roles.codes != Role.PADDING]


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("make", [qwen, gemma])
@pytest.mark.parametrize("roles", [ROLES, PLAIN], ids=["padded", "plain"])
@pytest.mark.parametrize("implementation", ["eager", "flash_attention_2"])
def test_every_kernel_gives_the_same(
    make: Any, roles: TokenRoles, mode: str, rows: str, implementation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, "flash_attention_2", flash_attention)
    steering = Steering(mode=mode, rows=rows, **STRONG)
    expected = logits(make(), roles, steering)
    other = make("eager" if implementation == "eager" else "sdpa")
    other.config.get_text_config()._attn_implementation = implementation
    assert torch.allclose(logits(other, roles, steering), expected, atol=2e-4)
    assert float((logits(make(), roles, Steering()) - expected).abs().max()) > 0.05


@pytest.mark.parametrize("mode", MODES)
def test_flex_attention_gives_the_same(mode: str) -> None:
    steering = Steering(mode=mode, **STRONG)
    assert torch.allclose(logits(gemma("flex_attention"), PLAIN, steering), logits(gemma(), PLAIN, steering), atol=2e-4)


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("make", [qwen, gemma])
def test_chunks_with_a_cache_give_what_one_pass_gives(make: Any, mode: str, rows: str) -> None:
    """Chunks begin and end before, inside and after images, and at other places of each sequence."""
    model, steering, inputs = make(), Steering(mode=mode, rows=rows, **STRONG), batch(ROLES)
    whole = logits(model, ROLES, steering)
    cache, parts, start = DynamicCache(config=model.config.get_text_config()), [], 0
    positions = (inputs["attention_mask"].cumsum(1) - 1).clamp_min(0)
    with torch.no_grad(), steer(model, steering, ROLES):
        for stop in (6, 11, 14, 20, 21, 22, 25):
            out = model(
                input_ids=inputs["input_ids"][:, start:stop],
                attention_mask=inputs["attention_mask"][:, :stop],
                position_ids=positions[:, start:stop],
                past_key_values=cache,
            )
            parts.append(out.logits)
            start = stop
    stepwise = torch.cat(parts, 1)[ROLES.codes != Role.PADDING]
    assert torch.allclose(stepwise, whole, atol=2e-4)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("make", [qwen, gemma])
def test_a_static_cache_gives_the_same(make: Any, mode: str) -> None:
    roles = roles_of("--sssstvvvvvvvtuuuuut", "ssstvvvvttvvvvtuuuuut", "-----sssstvvtuuuuuuut")
    model, inputs = make(), batch(roles)

    def generated(**more: Any) -> Tensor:
        options = {"max_new_tokens": 9, "min_new_tokens": 9, "do_sample": False, "pad_token_id": 0}
        out = model.generate(**inputs, **options, **more, return_dict_in_generate=True, output_logits=True)
        return torch.stack(out.logits)

    with steer(model, Steering(mode=mode, **STRONG), roles):
        dynamic = generated()
        static = generated(cache_implementation="static", disable_compile=True)
        assert torch.equal(generated(), dynamic), "a new cache begins anew"
    assert torch.allclose(static, dynamic, atol=2e-4)
    assert float((generated() - dynamic).abs().max()) > 0.05


def test_a_cache_of_one_steering_is_refused_by_another() -> None:
    model, cache = qwen(), DynamicCache()
    inputs = batch(PLAIN)
    with torch.no_grad(), steer(model, Steering(**STRONG), PLAIN):
        model(**inputs, past_key_values=cache)
    step = {"input_ids": torch.tensor([[5]]), "past_key_values": cache}
    with torch.no_grad(), steer(model, Steering(system=0.1), PLAIN), pytest.raises(SteerError, match="empty"):
        model(**step)


def test_everything_is_as_it_was_after_leaving_and_after_errors() -> None:
    model, before = qwen(), dict(ALL_ATTENTION_FUNCTIONS)
    plain = model(**batch(PLAIN), use_cache=False).logits
    with pytest.raises(ZeroDivisionError), steer(model, Steering(**STRONG), PLAIN), observe(model, PLAIN):
        raise ZeroDivisionError
    assert dict(ALL_ATTENTION_FUNCTIONS) == before
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert torch.equal(model(**batch(PLAIN), use_cache=False).logits, plain)


@pytest.mark.parametrize("mode", MODES)
def test_observing_outside_or_inside_sees_the_same(mode: str) -> None:
    model, steering, inputs = qwen(), Steering(mode=mode, **STRONG), batch(ROLES)
    with torch.no_grad(), observe(model, ROLES) as outside, steer(model, steering, ROLES):
        model(**inputs, use_cache=False)
    with torch.no_grad(), steer(model, steering, ROLES), observe(model, ROLES) as inside:
        model(**inputs, use_cache=False)
    assert torch.equal(outside.masses(), inside.masses())


def test_another_batch_needs_its_own_roles() -> None:
    model, steering = qwen(), Steering(**STRONG)
    expected = logits(model, PLAIN, steering)
    with torch.no_grad(), steer(model, steering, ROLES) as steered:
        with pytest.raises(SteerError, match="roles of 3 sequences were given, but the model runs 1"):
            model(**batch(PLAIN), use_cache=False)
        steered.start(PLAIN)
        assert torch.equal(model(**batch(PLAIN), use_cache=False).logits[0], expected)
    with steer(model, steering), pytest.raises(SteerError, match="not known"):
        model(**batch(PLAIN), use_cache=False)


@pytest.mark.parametrize(
    ("steering", "message"),
    [
        (Steering(image=1, layers=[3]), "layers up to 3, but the model's are 0 to 2"),
        (Steering(image=1, heads=[0, 4]), "heads up to 4, but the model's are 0 to 3"),
    ],
)
def test_layers_and_heads_that_are_not_there_are_refused(steering: Steering, message: str) -> None:
    with pytest.raises(SteerError, match=message), steer(qwen(), steering, PLAIN):
        pass


def test_what_cannot_be_steered_is_refused() -> None:
    model, steering = qwen(), Steering(**STRONG)
    packed = TokenRoles(PLAIN.codes, torch.zeros_like(PLAIN.codes))
    with pytest.raises(SteerError, match="packed"), steer(model, steering, packed):
        pass
    with steer(model, steering, PLAIN), pytest.raises(SteerError, match="already"), steer(model, steering, PLAIN):
        pass
    model.config.get_text_config()._attn_implementation = "paged|eager"
    with pytest.raises(SteerError, match="cannot be steered"), steer(model, steering, PLAIN):
        pass


def test_a_compiled_model_gives_the_same() -> None:
    model, steering = qwen(), Steering(**STRONG)
    expected = logits(model, PLAIN, steering)
    plain = logits(model, PLAIN, Steering())
    with torch.no_grad(), observe(model, PLAIN) as wanted:
        model(**batch(PLAIN), use_cache=False)
    compiled = torch.compile(model, backend="aot_eager")
    assert torch.allclose(logits(compiled, PLAIN, Steering()), plain, atol=1e-5)
    assert torch.allclose(logits(compiled, PLAIN, steering), expected, atol=1e-5)
    with torch.no_grad(), observe(compiled, PLAIN) as observation:
        compiled(**batch(PLAIN), use_cache=False)
    assert torch.allclose(observation.masses(), wanted.masses(), atol=1e-6)
    assert torch.allclose(logits(compiled, PLAIN, Steering()), plain, atol=1e-5)
