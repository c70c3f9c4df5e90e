"""A steered cache: decoding reads it as it is and gives what one pass without a cache gives, whatever is done to it."""

import gc
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from decoders import batch, gemma, qwen, roles_of
from operators import Operators
from torch import Tensor
from transformers import DynamicCache

from avar_eval import Steering, observe, steer
from avar_eval.attention import steer as steering_module
from avar_eval.attention.interface import SteerError
from avar_eval.attention.roles import TokenRoles
from avar_eval.attention.steer import SteeredModel

PROMPTS = roles_of("--sssstvvvvvvvtuuuuut", "ssstvvvvttvvvvtuuuuut", "-----sssstuuuuuuuuuut")
OTHERS = roles_of("----ssstvvvtuut", "sssssstvvvvvuut")
STRONG: Any = {"image": 0.5, "system": 0.7}
MODES: Any = ("logit", "prob")
NEW = 6


def generated(model: Any, roles: TokenRoles, **options: Any) -> tuple[Tensor, Tensor]:
    """Token ids of greedy responses and the logits [steps sequences vocabulary] that they were taken from."""
    settings = {"max_new_tokens": NEW, "min_new_tokens": NEW, "do_sample": False, "pad_token_id": 0} | options
    out = model.generate(**batch(roles), **settings, return_dict_in_generate=True, output_logits=True)
    return out.sequences, torch.stack(out.logits)


def one_pass(model: Any, steering: Steering, roles: TokenRoles, ids: Tensor) -> Tensor:
    """Logits [batch sequence vocabulary] of whole sequences, without a cache."""
    present = torch.cat(
        [batch(roles)["attention_mask"], ids.new_ones(len(ids), ids.shape[1] - roles.codes.shape[1])], 1
    )
    with torch.no_grad(), steer(model, steering, roles):
        logits: Tensor = model(input_ids=ids, attention_mask=present, use_cache=False).logits
    return logits


def step(model: Any, cache: Any, token: int = 7) -> Tensor:
    """Logits of one more token of a single sequence."""
    with torch.no_grad():
        logits: Tensor = model(input_ids=torch.tensor([[token]]), past_key_values=cache).logits[:, -1]
    return logits


@pytest.mark.parametrize("rows", ["after-image", "all", "last"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("make", [qwen, gemma])
def test_every_decoding_step_reads_the_cache_as_it_is(
    make: Any, mode: Any, rows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, steering, lengths = make(), Steering(mode=mode, rows=rows, **STRONG), []
    attend = SteeredModel.attend

    def counted(self: SteeredModel, kernel: Any, query: Tensor, *states: Any) -> Any:
        lengths.append(query.shape[2])
        return attend(self, kernel, query, *states)

    monkeypatch.setattr(SteeredModel, "attend", counted)
    with steer(model, steering, PROMPTS):
        ids, logits = generated(model, PROMPTS)
    width = PROMPTS.codes.shape[1]
    assert lengths == [width] * 3, "one call a layer, in the prefill"
    whole = one_pass(model, steering, PROMPTS, ids)[:, width - 1 : -1]
    assert torch.allclose(logits.transpose(0, 1), whole, atol=2e-4)
    assert float((generated(model, PROMPTS)[1] - logits).abs().max()) > 0.05


@pytest.mark.parametrize("mode", MODES)
def test_beams_that_are_reordered_keep_their_steering(mode: Any) -> None:
    model, steering, beams = qwen(), Steering(mode=mode, **STRONG), 3
    repeated = TokenRoles(PROMPTS.codes.repeat_interleave(beams, 0))
    with steer(model, steering, repeated):
        cached = generated(model, PROMPTS, num_beams=beams)[0]
        assert torch.equal(cached, generated(model, PROMPTS, num_beams=beams, use_cache=False)[0])
    assert not torch.equal(cached, generated(model, PROMPTS, num_beams=beams)[0])


@pytest.mark.parametrize("mode", MODES)
def test_response_may_be_cut_off_again_but_not_the_prompt(mode: Any) -> None:
    model, steering, roles, cache = qwen(), Steering(mode=mode, **STRONG), roles_of("ssstvvvvtuut"), DynamicCache()
    with torch.no_grad(), steer(model, steering, roles):
        inputs = batch(roles)
        longer = torch.cat([inputs["input_ids"], torch.tensor([[5, 6]])], 1)
        model(input_ids=longer, past_key_values=cache)  # two tokens of response come along, and are refused
        cache.crop(-2)
        after = step(model, cache)
        cache.crop(-1)
        assert torch.equal(step(model, cache), after)
        ids = torch.cat([inputs["input_ids"], torch.tensor([[7]])], 1)
        cache.crop(-3)
        with pytest.raises(SteerError, match="cut back"):
            step(model, cache)
    assert torch.allclose(after, one_pass(model, steering, roles, ids)[:, -1], atol=2e-4)


@pytest.mark.parametrize("mode", MODES)
def test_an_emptied_cache_begins_anew(mode: Any) -> None:
    model, first, second = qwen(), roles_of("ssstvvvvtuut"), roles_of("ssssstvvtuuuut")
    steering, cache = Steering(mode=mode, **STRONG), DynamicCache()
    with torch.no_grad(), steer(model, steering, first) as steered:
        model(**batch(first), past_key_values=cache)
        cache.reset()
        steered.start(second)
        if cache.get_seq_length():  # older versions of transformers fill it with zeros and leave it as long as it was
            with pytest.raises(SteerError, match="begin with an empty one"):
                model(**batch(second), past_key_values=cache)
            return
        model(**batch(second), past_key_values=cache)
        fresh = DynamicCache()
        model(**batch(second), past_key_values=fresh)
        assert torch.equal(step(model, cache), step(model, fresh))


@pytest.mark.parametrize("mode", MODES)
def test_a_second_batch_of_another_size_in_the_same_context(mode: Any) -> None:
    model, steering = qwen(), Steering(mode=mode, **STRONG)
    with steer(model, steering, OTHERS):
        expected = generated(model, OTHERS)[1]
    with steer(model, steering, PROMPTS) as steered:
        again = [generated(model, PROMPTS)[1] for _ in range(2)]
        steered.start(OTHERS)
        assert torch.equal(generated(model, OTHERS)[1], expected)
    assert torch.equal(*again)


@pytest.mark.parametrize("mode", MODES)
def test_sequences_that_have_ended_may_leave_the_cache(mode: Any) -> None:
    model, inputs, kept, cache = qwen(), batch(PROMPTS), torch.tensor([0, 2]), DynamicCache()
    with torch.no_grad(), steer(model, Steering(mode=mode, **STRONG), PROMPTS):
        model(**inputs, past_key_values=cache)
        mask = torch.cat([inputs["attention_mask"], torch.ones(3, 1, dtype=torch.long)], 1)
        whole = model(input_ids=torch.full((3, 1), 7), attention_mask=mask, past_key_values=cache).logits
        cache.crop(-1)
        cache.batch_select_indices(kept)
        left = model(input_ids=torch.full((2, 1), 7), attention_mask=mask[kept], past_key_values=cache).logits
    assert torch.allclose(left, whole[kept], atol=1e-5)


@pytest.mark.parametrize("rows", ["after-image", "all"])
@pytest.mark.parametrize("mode", MODES)
def test_a_second_turn_of_text_goes_on_and_one_with_an_image_is_refused(mode: Any, rows: Any) -> None:
    turn, text, image = "ssstvvvvtuutrrr", "tuuut", "tvvvtut"
    model, steering, cache = qwen(), Steering(mode=mode, rows=rows, **STRONG), DynamicCache()
    roles = roles_of(turn + text)
    ids = batch(roles)["input_ids"]
    with torch.no_grad(), steer(model, steering, roles_of(turn[:12])):
        model(input_ids=ids[:, :12], past_key_values=cache)
        for position in range(12, len(turn)):
            model(input_ids=ids[:, position : position + 1], past_key_values=cache)
    with torch.no_grad(), steer(model, steering, roles) as steered:
        second = model(input_ids=ids[:, len(turn) :], past_key_values=cache).logits[:, -1]
        steered.start(roles_of(turn + text + image))
        with pytest.raises(SteerError, match="other roles"):
            model(input_ids=torch.full((1, len(image)), 9), past_key_values=cache)
    assert torch.allclose(second, one_pass(model, steering, roles, ids)[:, -1], atol=2e-4)


@pytest.mark.parametrize("mode", MODES)
def test_observed_decoding_gives_the_same_logits(mode: Any) -> None:
    model = qwen()
    with steer(model, Steering(mode=mode, **STRONG), PROMPTS):
        expected = generated(model, PROMPTS)[1]
        with observe(model, PROMPTS, groups=("image",)) as observation:
            assert torch.allclose(generated(model, PROMPTS)[1], expected, atol=1e-4)
    assert observation.masses().shape[-2] > 0


def test_nothing_of_a_cache_is_kept_when_it_is_gone() -> None:
    model, roles = qwen(), roles_of("ssstvvvvtuut")
    gc.collect()
    before = len(steering_module._filled)
    with torch.no_grad(), steer(model, Steering(**STRONG), roles):
        cache: DynamicCache | None = DynamicCache()
        model(**batch(roles), past_key_values=cache)
        assert len(steering_module._filled) == before + 3
        cache = None
        gc.collect()
    assert len(steering_module._filled) == before


@pytest.mark.parametrize("rows", ["after-image", "all", "last"])
@pytest.mark.parametrize("mode", ["logit", "log", "prob", "abs"])
def test_after_a_passes_first_layer_steering_waits_for_no_device(
    mode: Any, rows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values that the CPU reads stop it until the GPU has caught up: what is steered is known from the roles alone."""
    model, attend, later = qwen(), SteeredModel.attend, Operators()

    def watched(self: SteeredModel, kernel: Any, *states: Any) -> Any:
        with later if kernel.module.layer_idx > 0 else nullcontext():
            return attend(self, kernel, *states)

    monkeypatch.setattr(SteeredModel, "attend", watched)
    with torch.no_grad(), steer(model, Steering(mode=mode, rows=rows, **STRONG), PROMPTS), observe(model, PROMPTS):
        model.generate(**batch(PROMPTS), max_new_tokens=NEW, do_sample=False, pad_token_id=0)
    assert "aten::mul" in later.names or "aten::where" in later.names
    assert not {"aten::_local_scalar_dense", "aten::nonzero", "aten::is_nonzero", "aten::equal"} & set(later.names)
