"""Steering on every family's true class equals its formula in eager float64: padded batches, one pass and generation.

The reference runs one sequence at a time, unpadded, without a cache, in float64 under eager attention.
"""

from typing import Any

import pytest
import torch
from eager_reference import group_masses, in_eager_float64
from family_batches import Batch, batches
from steered_reference import steered_eager
from torch import Tensor

from avar_eval import steer
from avar_eval.attention.measure import with_responses
from avar_eval.attention.observe import GROUPS, RECORDED, observe
from avar_eval.attention.record import records_of
from avar_eval.attention.roles import Role, TokenRoles, batch_roles
from avar_eval.attention.steering import Steering
from avar_eval.models.transformers_backend import TransformersBackend

MODES = ("logit", "log", "prob", "abs")
ROWS = ("after-image", "all", "last")
STRONG = {"image": 0.5, "system": 0.7}
NEW = 5
"""Not 4: a sequence of Llama-3.2-Vision would be as long as its images have keys, and the reference mixes these up."""


def strong(mode: str, rows: str, **more: Any) -> Steering:
    return Steering(mode=mode, rows=rows, **STRONG, **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def reference(backend: TransformersBackend) -> Any:
    return in_eager_float64(backend.model)


def prompts_of(inputs: Any) -> list[list[int]]:
    return [ids[mask.bool()].tolist() for ids, mask in zip(inputs["input_ids"], inputs["attention_mask"], strict=True)]


def roles_of_batch(backend: TransformersBackend, inputs: Any, responses: list[list[int]]) -> TokenRoles:
    width = inputs["input_ids"].shape[1]
    return batch_roles(backend.markup, prompts_of(inputs), responses, width, width + max(map(len, responses)))


def expected(
    reference: Any, backend: TransformersBackend, one: Batch, steering: Steering
) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """Log-probabilities [sequence vocabulary], group masses and roles of a batch of one."""
    inputs = one.encoded(backend)
    (prompt,) = prompts_of(inputs)
    roles = [*backend.markup.prompt_roles(prompt), *[Role.RESPONSE] * len(one.responses[0])]
    doubled = {
        name: of.double() if of.is_floating_point() else of
        for name, of in with_responses(inputs, one.responses).items()
    }
    with torch.no_grad(), steered_eager(reference, steering, [int(role) for role in roles], len(prompt)) as maps:
        logits = reference(**doubled, use_cache=False).logits[0]
    skipped = torch.zeros(*maps[0].shape[:3], 0, dtype=torch.float64)
    layers = range(reference.config.get_text_config().num_hidden_layers)
    masses = group_masses([maps.get(layer, skipped) for layer in layers], torch.tensor(roles))
    return logits.log_softmax(-1), masses, torch.tensor(roles)


def steered_logits(
    backend: TransformersBackend, whole: Batch, steering: Steering | None
) -> tuple[Tensor, TokenRoles, Any]:
    """Logits of one pass over prompts and responses, their roles, and what was observed."""
    inputs = whole.encoded(backend)
    roles = roles_of_batch(backend, inputs, whole.responses)
    extended = with_responses(inputs, whole.responses)
    with torch.inference_mode(), observe(backend.model, roles, groups=RECORDED) as observation:
        if steering is None:
            return backend.model(**extended, use_cache=False).logits, roles, observation
        with steer(backend.model, steering, roles):
            return backend.model(**extended, use_cache=False).logits, roles, observation


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("mode", MODES)
def test_one_pass_over_a_padded_batch_equals_eager_float64(
    backend: TransformersBackend, reference: Any, mode: str, rows: str
) -> None:
    steering, moved = strong(mode, rows), 0.0
    for whole in batches(backend):
        logits, roles, observation = steered_logits(backend, whole, steering)
        unobserved, plain = logits_of(backend, whole, steering), steered_logits(backend, whole, None)[0]
        records = records_of(observation, roles)
        for row, one in enumerate(whole.rows()):
            wanted, masses, _ = expected(reference, backend, one, steering)
            present = roles.codes[row] != Role.PADDING
            for measured in (logits, unobserved):
                assert float((measured[row, present].log_softmax(-1) - wanted).abs().max()) < 1e-4
            moved = max(moved, float((plain[row, present].log_softmax(-1) - wanted).abs().max()))
            for group in GROUPS:
                mass = records[row].mass[group].double()
                assert torch.allclose(mass, masses[group][..., records[row].queries], rtol=1e-4, atol=1e-6), group
    assert moved > 0.05


def logits_of(backend: TransformersBackend, whole: Batch, steering: Steering) -> Tensor:
    inputs = whole.encoded(backend)
    roles = roles_of_batch(backend, inputs, whole.responses)
    with torch.inference_mode(), steer(backend.model, steering, roles):
        logits: Tensor = backend.model(**with_responses(inputs, whole.responses), use_cache=False).logits
    return logits


def generated(backend: TransformersBackend, inputs: Any, **options: Any) -> tuple[list[list[int]], Tensor]:
    """Greedy responses of NEW tokens and the logits [batch NEW vocabulary] that they were taken from."""
    out = backend.model.generate(
        **inputs,
        max_new_tokens=NEW,
        do_sample=False,
        eos_token_id=None,
        return_dict_in_generate=True,
        output_logits=True,
        **options,
    )
    return out.sequences[:, inputs["input_ids"].shape[1] :].tolist(), torch.stack(out.logits, 1)


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("mode", MODES)
def test_generation_with_a_cache_equals_one_pass_in_eager_float64(
    backend: TransformersBackend, reference: Any, mode: str, rows: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend.model.generation_config, "eos_token_id", None)
    steering = strong(mode, rows)
    for whole in batches(backend):
        inputs = whole.encoded(backend)
        roles = backend.markup.roles(inputs["input_ids"], inputs["attention_mask"])
        with steer(backend.model, steering, roles):
            responses, logits = generated(backend, inputs)
            with observe(backend.model, roles, groups=RECORDED) as observation:
                assert generated(backend, inputs)[0] == responses
        final = roles_of_batch(backend, inputs, responses)
        codes = TokenRoles(final.codes[:, :-1])  # the last token is not read any more
        records = records_of(observation, codes)
        for row, one in enumerate(Batch(whole.prompts, whole.images, responses).rows()):
            wanted, masses, _ = expected(reference, backend, one, steering)
            assert float((logits[row].log_softmax(-1) - wanted[-NEW - 1 : -1]).abs().max()) < 1e-4
            for group in GROUPS:
                mass = records[row].mass[group].double()
                assert torch.allclose(mass, masses[group][..., records[row].queries], rtol=1e-4, atol=1e-6), group


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("rows", ROWS)
def test_strengths_of_zero_change_no_bit(backend: TransformersBackend, mode: str, rows: str) -> None:
    whole = batches(backend)[0]
    plain = steered_logits(backend, whole, None)[0]
    steering = Steering(mode=mode, rows=rows)  # type: ignore[arg-type]
    assert torch.equal(logits_of(backend, whole, steering), plain)
    inputs = whole.encoded(backend)
    roles = backend.markup.roles(inputs["input_ids"], inputs["attention_mask"])
    tokens, logits = generated(backend, inputs)
    with steer(backend.model, steering, roles):
        assert generated(backend, inputs)[0] == tokens
        assert torch.equal(generated(backend, inputs)[1], logits)


@pytest.mark.parametrize("mode", MODES)
def test_chosen_layers_and_heads_alone_are_steered(backend: TransformersBackend, reference: Any, mode: str) -> None:
    steering = strong(mode, "after-image", layers=[0, 2], heads=[1, 3])
    for whole in batches(backend)[:1]:
        logits = steered_logits(backend, whole, steering)[0]
        inputs = whole.encoded(backend)
        roles = backend.markup.roles(inputs["input_ids"], inputs["attention_mask"])
        with steer(backend.model, steering, roles):
            responses, stepwise = generated(backend, inputs)
        present = roles_of_batch(backend, inputs, whole.responses).codes != Role.PADDING
        for row, one in enumerate(whole.rows()):
            wanted = expected(reference, backend, one, steering)[0]
            assert float((logits[row, present[row]].log_softmax(-1) - wanted).abs().max()) < 1e-4
            longer = Batch(one.prompts, one.images, [responses[row]])
            wanted = expected(reference, backend, longer, steering)[0][-NEW - 1 : -1]
            assert float((stepwise[row].log_softmax(-1) - wanted).abs().max()) < 1e-4
